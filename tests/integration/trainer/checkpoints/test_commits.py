"""Checkpoints are committed under the claim that holds the run, once they are durable, and deleted when they need not
be kept."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from tests.integration.trainer.checkpoints.rig import LIMIT_SECONDS, Node, age, save, save_sharded, until

from fleetcast.bus import connect, declare
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.daemons.trainer.checkpoints import places
from fleetcast.daemons.trainer.checkpoints import watch as watching_module
from fleetcast.daemons.trainer.checkpoints.watch import CheckpointWatch
from fleetcast.daemons.trainer.claims.rules import ClaimLost
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.events.examples import EXAMPLES
from fleetcast.events.payloads import VersionInstalled
from fleetcast.events.runs import RunEpochLogged

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with (
        nats_server(tmp_path_factory.mktemp("nats")) as server,
        connect(fast_settings(server.url), node="t", daemon="t") as bus,
    ):
        await declare(bus, 1)
        yield server.url


@asynccontextmanager
async def _node(url: str, name: str, data: Path) -> AsyncIterator[Node]:
    async with connect(fast_settings(url), node=name, daemon="trainer") as bus:
        yield Node(name, bus, data)


@pytest_asyncio.fixture(loop_scope="module")
async def a(url: str, tmp_path: Path) -> AsyncIterator[Node]:
    async with _node(url, "a", tmp_path / "a") as node:
        yield node


@pytest_asyncio.fixture(loop_scope="module")
async def b(url: str, tmp_path: Path) -> AsyncIterator[Node]:
    async with _node(url, "b", tmp_path / "b") as node:
        yield node


@asynccontextmanager
async def watching(watch: CheckpointWatch) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(watch.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_checkpoint_that_nobody_announced_is_committed_and_told(a: Node) -> None:
    state, watch, folder = await a.started("quiet")
    async with watching(watch):
        path = save(folder / "step-1.pt")
        run = await until("committed", lambda: _resuming(a, "quiet", path))
        told = await until("told", lambda: a.told("quiet"))
    assert (run.checkpoint.claim, run.checkpoint.node) == (state.claim, "a")
    assert [(each["path"], each["claim"]) for each in told] == [(str(path), state.claim)]


async def test_word_of_the_job_is_heard_while_who_holds_copies_is_still_being_noted(
    a: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, watch, folder = await a.started("heard")
    line = {"model": places.line_of("heard"), "node": "b"}
    for version in ("v1", "v2"):
        shown = {**EXAMPLES["version.installed"], **line, "version": version}
        await a.say(VersionInstalled.model_validate(shown))
    begun = asyncio.Event()

    async def held_up(*_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(a.checkpoints, "note_copies", held_up)
    async with watching(watch):
        await asyncio.wait_for(begun.wait(), LIMIT_SECONDS)
        path = save(folder / "step-7.pt")
        await a.announce(state, path, step=7)
        await until("its step is known", lambda: _at_step(a, "heard", 7))


async def _at_step(node: Node, run: str, step: int) -> bool:
    there = (await node.run(run)).checkpoint
    return there is not None and there.step == step


async def test_what_the_job_says_of_its_checkpoint_is_kept_with_it_and_not_told_again(a: Node) -> None:
    best = {"metric": "loss", "mode": "min"}
    state, watch, folder = await a.started("said", keep_best=best)
    async with watching(watch):
        await a.say(RunEpochLogged(run_id="said", node="a", epoch=4, metrics={"loss": 0.25}))
        path = save(folder / "last.pt")
        await a.announce(state, path, epoch=4, step=800, save_seconds=1.5)
        run = await until("committed", lambda: _resuming(a, "said", path, step=800))
    assert (run.checkpoint.epoch, run.checkpoint.metric, run.checkpoint.save_seconds) == (4, 0.25, 1.5)
    assert run.step == 800
    assert len(await a.told("said")) == 1


async def test_step_that_is_said_after_the_file_was_committed_is_kept_with_it(a: Node) -> None:
    state, watch, folder = await a.started("later")
    async with watching(watch):
        path = save(folder / "1.pt")
        before = await until("committed", lambda: _resuming(a, "later", path))
        await a.announce(state, path, step=77, save_seconds=0.5)
        run = await until("its step is known", lambda: _resuming(a, "later", path, step=77))
    assert before.checkpoint.step is None
    assert len(run.checkpoints) == 1
    assert run.step == 77


async def test_word_without_a_step_takes_no_step_away(a: Node) -> None:
    state, watch, folder = await a.started("less")
    path = save(folder / "1.pt")
    await a.announce(state, path, step=77)
    await a.announce(state, path)  # as the watch says it that committed a moment before the job's word came
    record = await watch.settle()
    assert record is not None
    assert record.step == 77


async def test_word_that_comes_just_after_the_end_of_the_job_is_waited_for(a: Node) -> None:
    state, watch, folder = await a.started("word")
    first = save(folder / "1.pt")
    await a.announce(state, first, step=1)
    await watch.settle()
    last = save(folder / "2.pt")
    record, _ = await asyncio.gather(watch.settle(), a.announce(state, last, step=2))
    assert record is not None
    assert (record.path, record.step) == (str(last), 2)


async def test_cut_checkpoint_with_the_highest_number_is_passed_over_for_the_one_before(a: Node) -> None:
    _, watch, folder = await a.started("cut")
    before = save(folder / "step-900.pt")
    await watch.settle()
    after = save(folder / "step-1000.pt")
    os.truncate(after, after.stat().st_size // 2)
    await watch.settle()
    run = await a.run("cut")
    assert max(folder.iterdir(), key=lambda p: int(p.stem.partition("-")[2])) == after, "the number would choose it"
    assert run.checkpoint is not None
    assert run.checkpoint.path == str(before)
    assert (await a.checkpoints.resume(run)).path == before


async def test_checkpoint_that_was_damaged_after_its_commit_is_passed_over_and_said(a: Node) -> None:
    _, watch, folder = await a.started("damaged")
    first, second = save(folder / "1.pt"), save(folder / "2.pt")
    age(first, 10)
    await watch.settle()
    run = await a.run("damaged")
    assert run.checkpoint is not None
    assert run.checkpoint.path == str(second)
    os.truncate(second, 30)
    resume = await a.checkpoints.resume(run)
    assert resume.path == first
    assert "2.pt has 30 bytes" in resume.passed_over[0]


async def test_run_whose_checkpoints_are_all_gone_does_not_silently_begin_anew(a: Node) -> None:
    _, watch, folder = await a.started("gone")
    save(folder / "1.pt").with_name("1.pt")
    await watch.settle()
    (folder / "1.pt").unlink()
    resume = await a.checkpoints.resume(await a.run("gone"))
    assert resume.path is None
    assert resume.lost
    fresh = await a.checkpoints.resume((await a.started("fresh"))[0])
    assert not fresh.lost


async def test_stalled_former_owner_commits_nothing(a: Node, b: Node) -> None:
    _, watch, folder = await a.started("stalled")
    await b.claim("stalled")
    save(folder / "late.pt")
    with pytest.raises(ClaimLost):
        await watch.settle()
    assert (await a.run("stalled")).checkpoint is None


async def test_without_the_fence_the_stalled_owner_would_have_the_last_word(
    a: Node, b: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, watch, folder = await a.started("unfenced")
    await b.claim("unfenced")
    late = save(folder / "late.pt")
    monkeypatch.setattr(a.store, "change_held", lambda run, _claim, decide: a.store.change(run, decide))
    await watch.settle()
    run = await a.run("unfenced")
    assert run.owner == "b"
    assert run.checkpoint is not None
    assert run.checkpoint.path == str(late)


async def test_watch_ends_when_another_claim_holds_the_run(a: Node, b: Node) -> None:
    _, watch, folder = await a.started("overtaken")
    async with watching(watch) as task:
        await b.claim("overtaken")
        save(folder / "late.pt")
        with pytest.raises(ClaimLost):
            await asyncio.wait_for(task, 60)


async def test_watch_that_fails_for_an_unforeseen_reason_begins_anew_and_says_so(
    a: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, watch, folder = await a.started("fails")
    fails = [RuntimeError("nobody has thought of this")]

    async def tidy(_watch: CheckpointWatch) -> None:
        if fails:
            raise fails.pop()

    monkeypatch.setattr(CheckpointWatch, "_tidy", tidy)
    monkeypatch.setattr(watching_module, "FAILED_SECONDS", 0.1)
    with capture_logs() as logs:
        async with watching(watch):
            await until("failed", lambda: _is_empty(fails))
            path = save(folder / "step-1.pt")
            await until("committed", lambda: _resuming(a, "fails", path))
    assert "checkpoints.watch_failed" in [entry["event"] for entry in logs]


async def _is_empty(things: list[RuntimeError]) -> bool:
    return not things


async def test_what_a_stalled_owner_left_is_set_aside_when_the_run_comes_back(a: Node, b: Node) -> None:
    _, _, folder = await a.started("back")
    stale = save(folder / "stale.pt")
    await b.claim("back")
    _, watch, again = await a.taken("back")
    assert again == folder
    assert not stale.exists()
    assert (folder.parent / "stale-3" / "stale.pt").exists()
    assert await watch.settle() is None


async def test_what_the_same_node_left_uncommitted_is_gone_on_from(a: Node) -> None:
    _, _, folder = await a.started("mine")
    path = save(folder / "1.pt")
    _, watch, _ = await a.taken("mine")
    record = await watch.settle()
    assert record is not None
    assert record.path == str(path)


async def test_what_a_process_was_started_from_stays_while_it_runs_however_many_come_after_it(a: Node) -> None:
    _, watch, folder = await a.started("begins", keep_last=1, keep_every_seconds=None)
    first = save(folder / "1.pt")
    await watch.settle()
    _, again, _ = await a.taken("begins")
    for number in (2, 3, 4):
        age(save(folder / f"{number}.pt"), -number)
        await again.settle()
    assert {path.name for path in folder.iterdir()} == {first.name, "4.pt"}
    _, later, _ = await a.taken("begins")
    age(save(folder / "5.pt"), -5)
    await later.settle()
    assert {path.name for path in folder.iterdir()} == {"4.pt", "5.pt"}


async def test_last_ones_the_best_and_pins_stay_and_the_rest_is_deleted(a: Node) -> None:
    best = {"metric": "loss", "mode": "min"}
    state, watch, folder = await a.started("many", keep_last=2, keep_best=best, keep_every_seconds=None)
    for step, loss in enumerate((0.5, 0.1, 0.9, 0.8, 0.7)):
        path = save(folder / f"{step}.pt")
        await a.announce(state, path, step=step, metrics={"loss": loss})
        await watch.settle()
        if step == 0:
            await a.checkpoints.pin("many", str(path), "compared with (me)")
    run = await a.run("many")
    assert [c.step for c in run.checkpoints] == [4, 3, 1, 0]
    assert sorted(p.name for p in folder.iterdir()) == ["0.pt", "1.pt", "3.pt", "4.pt"]


async def test_file_that_took_the_name_of_the_last_one_replaces_it(a: Node) -> None:
    state, watch, folder = await a.started("rolling", keep_last=1, keep_every_seconds=None)
    for step in range(3):
        path = save(folder / "last.pt", bytes([step]) * (500 + step))
        await a.announce(state, path, step=step)
        await watch.settle()
    run = await a.run("rolling")
    assert [c.step for c in run.checkpoints] == [2]
    assert (await a.checkpoints.resume(run)).path == folder / "last.pt"


async def test_lanes_folder_is_shared_and_what_lay_there_before_is_not_this_runs(a: Node, tmp_path: Path) -> None:
    shared = tmp_path / "checkpoints" / "challenge2_r1r2"
    shared.mkdir(parents=True)
    save(shared / "of-another-run.pt")
    _, watch, folder = await a.started("shared", folder=str(shared))
    assert folder == shared
    await watch.settle()
    mine = save(shared / "mine.pt")
    await watch.settle()
    run = await a.run("shared")
    assert [c.path for c in run.checkpoints] == [str(mine)]
    # A daemon that is started anew knows it as well.
    _, again, _ = await a.taken("shared")
    await again.settle()
    assert [c.path for c in (await a.run("shared")).checkpoints] == [str(mine)]


async def test_sharded_checkpoint_counts_with_its_metadata(a: Node) -> None:
    _, watch, folder = await a.started("sharded")
    path = save_sharded(folder / "step-1")
    (path / ".metadata").rename(path / ".metadata.tmp")
    await watch.settle()
    assert (await a.run("sharded")).checkpoint is None
    (path / ".metadata.tmp").rename(path / ".metadata")
    await watch.settle()
    assert (await a.checkpoints.resume(await a.run("sharded"))).path == path


async def test_runs_that_are_long_over_leave_nothing_behind(a: Node) -> None:
    folders = []
    for n in range(3):
        state, watch, folder = await a.started(f"over-{n}", keep_last=1)
        save(folder / "1.pt")
        await watch.settle()
        at = f"2026-01-0{n + 1}T00:00:00.000Z"
        await a.store.change(state.run, lambda there, at=at: there.model_copy(update={"ended_at": at}))  # type: ignore[misc]
        folders.append(folder)
    await a.checkpoints.tidy(LaneDefinition.of(state.definition))
    assert [folder.exists() for folder in folders] == [False, False, True]


async def _resuming(node: Node, run: str, path: Path, *, step: int | None = None):  # type: ignore[no-untyped-def]
    found = await node.run(run)
    at = found.checkpoint
    return found if at is not None and at.path == str(path) and step in {None, at.step} else None
