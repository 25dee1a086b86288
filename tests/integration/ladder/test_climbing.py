"""A transfer climbs: what it keeps, what it tells, when it moves and when it waits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs
from tests.integration.ladder.conftest import Scene, Scenes, thing

from fleetcast.daemons.distributor.climbing import Climber
from fleetcast.events.payloads import TransferMoved
from fleetcast.transport.errors import MetainfoRefused, StoreFull, TransferFailed, TransferStalled
from fleetcast.transport.protocol import Availability
from fleetcast.transport.testing import Act, Puppet, until

pytestmark = pytest.mark.asyncio

BROKEN = TransferFailed("the swarm is broken")


def moves(scene: Scene) -> list[tuple[str, str]]:
    facts = [f for f in scene.parts.said if isinstance(f, TransferMoved)]
    return [(f.from_transport, f.transport) for f in facts]


@contextlib.asynccontextmanager
async def climbing(scene: Scene) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(scene.climb())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_next_rung_goes_on_where_the_last_one_broke(scene: Scenes) -> None:
    it = thing()
    swarm, http = Puppet("bittorrent", it, [Act(bring=10, end=BROKEN)]), Puppet("aria2", it)
    s = await scene(swarm, http, thing=it)

    await s.climb()

    assert it.lies_in(s.folder)
    assert s.fetched == it.size
    assert http.requests[0].have == {0: frozenset(range(10))}
    assert s.states == {"bittorrent": "failed", "aria2": "done"}
    assert s.progress.used == "bittorrent+aria2"
    assert moves(s) == [("bittorrent", "aria2")]


async def test_a_rung_that_starts_from_nothing_is_caught_by_the_account_of_bytes(scene: Scenes) -> None:
    """The broken variant: what is fetched twice shows in `bytes_by_source`, which the fault tests add up."""
    it = thing()
    swarm, http = Puppet("bittorrent", it, [Act(bring=10, end=BROKEN)]), Puppet("aria2", it, [Act(forgets=True)])
    s = await scene(swarm, http, thing=it)

    await s.climb()

    assert it.lies_in(s.folder)
    assert s.fetched > 1.1 * it.size


async def test_pieces_that_a_rung_wrote_and_never_claimed_are_kept_as_well(scene: Scenes) -> None:
    it = thing()
    swarm, http = Puppet("bittorrent", it, [Act(bring=0, end=BROKEN)]), Puppet("aria2", it)
    s = await scene(swarm, http, thing=it)
    path = it.path(s.folder)
    path.parent.mkdir(parents=True)
    path.write_bytes(it.files["m.bin"][: 5 * it.piece_length] + b"torn")

    await s.climb()

    assert http.requests[0].have == {0: frozenset(range(5))}
    assert s.fetched == it.size - 5 * it.piece_length


async def test_wrong_bytes_on_the_disk_are_never_taken_for_pieces(scene: Scenes) -> None:
    it = thing()
    http = Puppet("aria2", it)
    s = await scene(http, thing=it)
    path = it.path(s.folder)
    path.parent.mkdir(parents=True)
    wrong = bytearray(it.files["m.bin"])
    wrong[3 * it.piece_length + 7] ^= 1
    path.write_bytes(wrong)

    await s.climb()

    assert http.requests[0].have == {0: frozenset(range(it.size // it.piece_length)) - {3}}
    assert it.lies_in(s.folder)


async def test_a_rung_from_which_no_byte_comes_is_left_once_another_has_a_source_that_answers(scene: Scenes) -> None:
    it = thing()
    swarm, http = Puppet("bittorrent", it, [Act(bring=3)]), Puppet("aria2", it)
    s = await scene(swarm, http, thing=it)

    await s.climb()

    assert it.lies_in(s.folder)
    assert not swarm.running
    assert s.fetched == it.size
    assert s.states["bittorrent"] == "stalled"
    assert "no byte for 0.6 s" in next(r.reason for r in s.progress.status.rungs if r.transport == "bittorrent")


async def test_a_crash_of_what_carries_the_transfer_moves_it_at_once(scene: Scenes) -> None:
    it = thing()
    swarm, http = Puppet("bittorrent", it, [Act(bring=3, restarts=1)]), Puppet("aria2", it)
    s = await scene(swarm, http, thing=it, stall_seconds=60)

    await s.climb(10)

    assert moves(s) == [("bittorrent", "aria2")]
    assert it.lies_in(s.folder)


async def test_while_nobody_else_has_it_all_a_stall_is_waited_out(scene: Scenes) -> None:
    it = thing()
    swarm, http = Puppet("bittorrent", it, [Act(bring=3)]), Puppet("aria2", it)
    s = await scene(swarm, http, thing=it)
    s.parts.swarm.forget_node("origin")
    s.origin_serves(complete=False)
    async with climbing(s) as task:
        await until(lambda: s.progress.idle_seconds > 2.5)
        assert len(swarm.requests) == 1
        assert not http.requests

        s.origin_serves()
        await task

    assert it.lies_in(s.folder)
    assert s.fetched == it.size


async def test_a_source_that_does_not_answer_is_none(scene: Scenes) -> None:
    """The origin is dead, and the book does not know it yet: the swarm goes on waiting, without a single move."""
    it = thing()
    swarm, http = Puppet("bittorrent", it, [Act(bring=3)]), Puppet("aria2", it)
    s = await scene(swarm, http, thing=it)
    s.endpoint = "http://127.0.0.1:9/gone"
    s.origin_serves()
    async with climbing(s):
        await until(lambda: s.progress.idle_seconds > 2.5)

        assert len(swarm.requests) == 1
        assert not http.requests
        assert moves(s) == []


async def test_a_transfer_that_nobody_serves_yet_waits_without_failing(scene: Scenes) -> None:
    it = thing()
    http = Puppet("aria2", it)
    s = await scene(http, thing=it)
    s.parts.swarm.forget_node("origin")
    async with climbing(s) as task:
        await until(lambda: s.progress.seconds > 1.5)
        assert not http.requests
        s.origin_serves()
        await task

    assert it.lies_in(s.folder)


async def test_when_every_rung_fails_the_transfer_does_with_every_reason(scene: Scenes) -> None:
    it = thing()
    swarm = Puppet("bittorrent", it, [Act(bring=0, end=BROKEN)])
    http = Puppet("aria2", it, [Act(bring=0, end=TransferFailed("connection refused"))])
    s = await scene(swarm, http, thing=it, rest_base_seconds=60)

    with pytest.raises(TransferFailed, match=r"bittorrent: the swarm is broken; aria2: connection refused"):
        await s.climb()

    assert (len(swarm.requests), len(http.requests)) == (1, 1)


async def test_a_single_rung_that_fails_says_so_in_its_own_words(scene: Scenes) -> None:
    it = thing()
    s = await scene(Puppet("bittorrent", it, [Act(bring=0, end=BROKEN)]), thing=it)

    with pytest.raises(TransferFailed) as failed:
        await s.climb()

    assert failed.value is BROKEN


async def test_a_rung_that_breaks_after_its_last_byte_has_done_its_work(scene: Scenes) -> None:
    it = thing()
    swarm, http = Puppet("bittorrent", it, [Act(end=BROKEN)]), Puppet("aria2", it)
    s = await scene(swarm, http, thing=it)

    await s.climb()

    assert it.lies_in(s.folder)
    assert not http.requests
    assert moves(s) == []


async def test_a_stall_that_a_transport_reports_is_waited_out_where_it_is(scene: Scenes) -> None:
    it = thing()
    swarm = Puppet(
        "bittorrent", it, [Act(bring=2, end=TransferStalled("silence")), Act(bring=0, end=TransferStalled()), Act()]
    )
    s = await scene(swarm, thing=it)

    await s.climb()

    assert len(swarm.requests) == 3
    assert it.lies_in(s.folder)
    assert moves(s) == []


async def come_back_in_a_rest(scene: Scenes, seconds: float) -> None:
    """A rung rests for a minute because nobody answers; meanwhile somebody comes back."""
    it = thing()
    swarm = Puppet("bittorrent", it, [Act(bring=0, end=TransferStalled("silence")), Act()])
    s = await scene(swarm, thing=it, rest_base_seconds=60, rest_cap_seconds=60)
    async with climbing(s) as task:
        await until(lambda: s.states == {"bittorrent": "stalled"})
        back = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with back:
            s.origin_serves(bt=f"127.0.0.1:{back.sockets[0].getsockname()[1]}")
            async with asyncio.timeout(seconds):
                await asyncio.shield(task)
    assert it.lies_in(s.folder)


async def test_a_rest_ends_when_a_source_comes_back(scene: Scenes) -> None:
    await come_back_in_a_rest(scene, 30)


async def test_a_rest_that_lasts_to_its_end_would_be_caught(scene: Scenes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken variant of the test above."""
    monkeypatch.setattr(Climber, "_rest", lambda _self, seconds, _answering: asyncio.sleep(seconds))
    with pytest.raises(TimeoutError):
        await come_back_in_a_rest(scene, 4)


async def test_a_full_disk_fails_the_transfer_by_no_other_rung(scene: Scenes) -> None:
    it = thing()
    swarm, http = Puppet("bittorrent", it, [Act(bring=3, end=StoreFull("No space left"))]), Puppet("aria2", it)
    s = await scene(swarm, http, thing=it)

    with pytest.raises(StoreFull):
        await s.climb()

    assert not http.requests


async def test_a_fault_of_our_own_in_one_rung_leaves_the_others(scene: Scenes) -> None:
    it = thing()
    swarm, http = Puppet("bittorrent", it, [Act(bring=4, end=ZeroDivisionError("oops"))]), Puppet("aria2", it)
    s = await scene(swarm, http, thing=it)

    with capture_logs() as logged:
        await s.climb()

    assert [e["event"] for e in logged if e["log_level"] == "error"] == ["ladder.rung_broken"]
    assert it.lies_in(s.folder)
    assert s.fetched == it.size


async def test_an_offer_that_does_not_fit_together_fails_by_no_other_rung(scene: Scenes) -> None:
    it = thing()
    swarm, http = Puppet("bittorrent", it, [Act(bring=0, end=MetainfoRefused("forged"))]), Puppet("aria2", it)
    s = await scene(swarm, http, thing=it)

    with pytest.raises(MetainfoRefused):
        await s.climb()

    assert not http.requests


async def test_a_missing_tool_is_skipped_and_named(scene: Scenes) -> None:
    it = thing()
    why = "aria2c is not installed: apt install aria2"
    s = await scene(Puppet("bittorrent", it), Puppet("aria2", it, there=Availability(ok=False, reason=why)), thing=it)

    await s.climb()

    assert s.states == {"bittorrent": "done", "aria2": "skipped"}
    assert s.progress.status.choice.endswith(f"without aria2: {why}")
    assert next(r.reason for r in s.progress.status.rungs if r.transport == "aria2") == why


async def test_a_transfer_that_is_not_wanted_any_more_lets_go_of_its_rung(scene: Scenes) -> None:
    it = thing()
    swarm = Puppet("bittorrent", it, [Act(bring=3)])
    s = await scene(swarm, thing=it)
    task = asyncio.create_task(s.climb())
    await until(lambda: swarm.running and s.progress.status.bytes_verified == 3 * it.piece_length)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert task.cancelled()
    assert not swarm.running
