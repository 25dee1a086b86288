"""What takes a while is found out once for everybody who asks."""

import asyncio

import pytest

from fleetcast.daemons.gateway.held import Held

pytestmark = pytest.mark.asyncio


class Question:
    """Counts how often it is answered; `gate` holds the answer back."""

    def __init__(self) -> None:
        self.asked = 0
        self.changes = 0
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def make(self) -> int:
        self.asked += 1
        number = self.asked
        await self.gate.wait()
        if self.fails:
            raise OSError("away")
        return number

    def held(self, *, holds: float = 3600.0, pace: float = 0.0) -> Held[int]:
        return Held(self.make, holds_seconds=holds, pace_seconds=pace, standing=lambda: self.changes)


async def test_many_who_ask_at_once_are_answered_by_one_look() -> None:
    question = Question()
    question.gate.clear()
    held = question.held(holds=0.0)
    asking = [asyncio.create_task(held.get()) for _ in range(50)]
    await asyncio.sleep(0)
    question.gate.set()
    assert set(await asyncio.gather(*asking)) == {1}
    assert question.asked == 1
    assert await held.get() == 2


async def test_it_holds_until_something_changes() -> None:
    question = Question()
    held = question.held()
    assert [await held.get(), await held.get()] == [1, 1]
    question.changes += 1
    assert [await held.get(), await held.get()] == [2, 2]


async def test_whoever_asks_after_a_change_is_not_told_what_was_begun_before_it() -> None:
    question = Question()
    question.gate.clear()
    held = question.held()
    before = asyncio.create_task(held.get())
    for _ in range(3):
        await asyncio.sleep(0)
    question.changes += 1
    after = [asyncio.create_task(held.get()) for _ in range(5)]
    await asyncio.sleep(0)
    question.gate.set()
    assert await before == 1
    assert set(await asyncio.gather(*after)) == {2}


async def test_however_much_changes_it_is_made_no_more_often_than_its_pace() -> None:
    question = Question()
    held = question.held(pace=0.3)
    assert await held.get() == 1
    began = asyncio.get_running_loop().time()
    question.changes += 1
    waiting = [asyncio.create_task(held.get()) for _ in range(5)]
    await asyncio.sleep(0)
    question.changes += 1
    assert set(await asyncio.gather(*waiting)) == {2}
    assert asyncio.get_running_loop().time() - began > 0.1
    assert await held.get() == 2


async def test_a_failure_is_told_to_all_who_waited_and_is_not_kept() -> None:
    question = Question()
    question.fails = True
    held = question.held()
    told = await asyncio.gather(held.get(), held.get(), return_exceptions=True)
    assert [str(each) for each in told] == ["away", "away"]
    question.fails = False
    assert await held.get() == 2


async def test_whoever_leaves_does_not_take_it_away_from_the_others() -> None:
    question = Question()
    question.gate.clear()
    held = question.held()
    leaving, staying = asyncio.create_task(held.get()), asyncio.create_task(held.get())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    question.gate.set()
    assert await staying == 1
    assert leaving.cancelled()
