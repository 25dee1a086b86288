import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.bus.consumption import REMEMBERED, Ledger, Slots
from fleetcast.bus.shield import cancellation_kept, finish


def test_a_message_that_is_being_handled_is_not_begun_again() -> None:
    ledger = Ledger()

    assert ledger.begin(7, "first")
    assert not ledger.begin(7, "second")


def test_the_newest_delivery_is_the_one_that_is_answered() -> None:
    ledger = Ledger()
    ledger.begin(7, "first")
    ledger.begin(7, "second")

    assert ledger.reply(7) == "second"


def test_attempts_go_on_when_the_consumer_was_made_anew() -> None:
    ledger = Ledger()
    for _ in range(2):
        ledger.begin(7, "r")
        ledger.failed(7)

    assert ledger.attempt(7, delivered=1) == 3
    assert ledger.attempt(7, delivered=5) == 5


def test_a_new_consumer_starts_at_the_first_message_that_is_not_finished() -> None:
    ledger = Ledger()
    for sequence in (3, 4, 5, 6):
        ledger.begin(sequence, "r")
    ledger.done(3)
    ledger.failed(5)
    ledger.done(6)

    assert ledger.floor == 4
    ledger.done(4)
    assert ledger.floor == 5
    ledger.done(5)
    assert ledger.floor == 7


def test_before_the_first_consumer_there_is_no_floor() -> None:
    assert Ledger().floor is None


def test_a_consumer_that_never_delivered_is_made_anew_where_it_stood() -> None:
    ledger = Ledger()
    ledger.stand_at(41)

    assert ledger.floor == 42


def test_a_consumer_made_anew_stands_no_further_than_the_first() -> None:
    ledger = Ledger()
    ledger.stand_at(0)
    ledger.stand_at(41)

    assert ledger.floor == 1


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=80))
def test_the_floor_never_passes_over_an_unfinished_message(steps: list[tuple[int, bool]]) -> None:
    ledger = Ledger()
    seen: set[int] = set()
    finished: set[int] = set()
    for sequence, done in steps:
        if ledger.is_done(sequence):
            continue
        ledger.begin(sequence, "r")
        seen.add(sequence)
        if done:
            ledger.done(sequence)
            finished.add(sequence)
        else:
            ledger.failed(sequence)
    unfinished = seen - finished

    assert all((ledger.floor or 0) <= sequence for sequence in unfinished)


def test_memory_is_bounded() -> None:
    ledger = Ledger()
    for sequence in range(1, REMEMBERED + 10):
        ledger.begin(sequence, "r")
        ledger.done(sequence)

    assert not ledger.is_done(1)
    assert ledger.is_done(REMEMBERED + 9)


@pytest.mark.asyncio
async def test_a_slot_that_is_given_back_lets_the_next_one_start() -> None:
    slots = Slots(1)
    slots.take()
    waiting = asyncio.create_task(slots.wait())
    await asyncio.sleep(0)
    assert not waiting.done()

    slots.give()
    await waiting

    assert slots.free == 1


@pytest.mark.asyncio
async def test_a_cancellation_does_not_cut_an_acknowledgement_off() -> None:
    half, done = asyncio.Event(), asyncio.Event()

    async def acknowledge() -> None:
        half.set()
        await asyncio.sleep(0.01)
        done.set()

    task = asyncio.create_task(finish(acknowledge()))
    await half.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()


@pytest.mark.asyncio
@pytest.mark.parametrize("failure", [None, OSError("connection refused")])
async def test_a_cancellation_that_foreign_code_swallows_is_raised_all_the_same(failure: OSError | None) -> None:
    inside = asyncio.Event()

    async def foreign() -> None:
        inside.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        if failure:
            raise failure

    async def work() -> None:
        with cancellation_kept():
            await foreign()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
