"""Which folders of runs stay on a node, as a rule over values."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.trainer.claims.values import NOW, run

from fleetcast.daemons.trainer.folders.rules import Folder, Policy, Situation, Verdict, judge
from fleetcast.events.training import CheckpointRecord, TrainingPhase, TrainingRunState
from fleetcast.registry.commands import stamp

RUNS = Path("/data/runs")
DAY = 86400.0
MONTH = Policy(30 * DAY)


def folder(name: str, *, size: int = 100, days: float = 0.0) -> Folder:
    """A folder that was changed so many days ago."""
    return Folder(name, RUNS / name, size, NOW - timedelta(days=days))


def ended(name: str, days: float, **changes: Any) -> TrainingRunState:
    """A run that ended so many days ago."""
    at = stamp(NOW - timedelta(days=days))
    fields = {"run": name, "phase": TrainingPhase.SUCCEEDED, "ended_at": at, "at": at}
    return run().model_copy(update=fields | changes)


def checkpoint(
    of: str, *, at: datetime = NOW, node: str = "n1", pins: tuple[str, ...] = (), where: Path | None = None
) -> CheckpointRecord:
    path = (where or RUNS / of / "checkpoints") / "1.npz"
    return CheckpointRecord(path=str(path), node=node, at=stamp(at), pins=pins)


def judged(
    folders: Sequence[Folder],
    runs: Sequence[TrainingRunState],
    policy: Policy = MONTH,
    busy: frozenset[str] = frozenset(),
) -> dict[str, Verdict]:
    of = Situation("n1", {each.run: each for each in runs}, busy, now=NOW, here=NOW)
    return {verdict.folder.run: verdict for verdict in judge(folders, of, policy)}


def gone(*args: Any, **more: Any) -> list[str]:
    return [name for name, verdict in judged(*args, **more).items() if verdict.goes]


def test_a_folder_goes_when_its_run_ended_long_enough_ago() -> None:
    folders = [folder("old"), folder("young")]
    assert gone(folders, [ended("old", 30), ended("young", 29.9)]) == ["old"]


@pytest.mark.parametrize("phase", [p for p in TrainingPhase if p.value not in {"succeeded", "failed", "cancelled"}])
def test_the_folder_of_a_run_that_has_not_ended_stays_however_old(phase: TrainingPhase) -> None:
    found = judged([folder("a", days=300)], [ended("a", 300, phase=phase, ended_at=None)], Policy(0.0, 0))
    assert (found["a"].goes, found["a"].why) == (False, phase.value)


def test_what_a_process_uses_stays_though_its_record_says_that_it_ended() -> None:
    found = judged([folder("a")], [ended("a", 300)], Policy(0.0, 0), frozenset({"a"}))
    assert (found["a"].goes, found["a"].why) == (False, "in use")


def test_a_pinned_checkpoint_on_this_node_keeps_its_folder_and_says_why() -> None:
    kept = ended("a", 300, checkpoints=(checkpoint("a", pins=("for the paper",)),))
    found = judged([folder("a")], [kept], Policy(0.0, 0))
    assert (found["a"].goes, found["a"].why) == (False, "a checkpoint is pinned: for the paper")


def test_a_checkpoint_that_is_pinned_on_another_node_keeps_nothing_here() -> None:
    elsewhere = ended("a", 300, checkpoints=(checkpoint("a", node="n2", pins=("for the paper",)),))
    assert gone([folder("a")], [elsewhere]) == ["a"]


def test_of_each_lane_the_newest_checkpoint_stays() -> None:
    runs = [
        ended("a", 300, checkpoints=(checkpoint("a", at=NOW - timedelta(days=300)),)),
        ended("b", 200, checkpoints=(checkpoint("b", at=NOW - timedelta(days=200)),)),
        ended("c", 100, checkpoints=()),
        ended("d", 300, lane="square8", checkpoints=(checkpoint("d", at=NOW - timedelta(days=300)),)),
    ]
    assert gone([folder(name) for name in "abcd"], runs, Policy(30 * DAY, 0)) == ["a", "c"]


def test_a_run_under_way_with_a_newer_checkpoint_lets_those_before_it_go() -> None:
    under_way = ended("b", 0, phase=TrainingPhase.QUEUED, ended_at=None, checkpoints=(checkpoint("b"),))
    before = ended("a", 300, checkpoints=(checkpoint("a", at=NOW - timedelta(days=300)),))
    assert gone([folder("a"), folder("b")], [before, under_way]) == ["a"]


def test_checkpoints_in_the_folder_of_a_lane_keep_no_folder_of_a_run() -> None:
    aside = ended("a", 300, checkpoints=(checkpoint("a", where=Path("/data/checkpoints/hex8")),))
    assert gone([folder("a")], [aside]) == ["a"]


def test_too_many_bytes_let_those_go_that_ended_first_until_they_fit() -> None:
    folders = [folder(name, size=size) for name, size in {"a": 10, "b": 50, "c": 30, "d": 40}.items()]
    runs = [ended("a", 1), ended("b", 4), ended("c", 3), ended("d", 2)]
    assert gone(folders, runs, Policy(30 * DAY, 80)) == ["b"]
    found = judged(folders, runs, Policy(30 * DAY, 79))
    assert [name for name, verdict in found.items() if verdict.goes] == ["b", "c"]
    assert found["b"].why == "ended runs take 130 bytes of 79; of those that may go it ended first"


def test_a_folder_that_must_stay_takes_its_part_of_the_bytes() -> None:
    pinned = ended("a", 9, checkpoints=(checkpoint("a", pins=("mine",)),))
    assert gone([folder("a", size=90), folder("b", size=20)], [pinned, ended("b", 1)], Policy(30 * DAY, 100)) == ["b"]


def test_a_run_under_way_takes_no_part_of_the_bytes_of_ended_ones() -> None:
    under_way = ended("a", 0, phase=TrainingPhase.RUNNING, ended_at=None)
    assert gone([folder("a", size=900), folder("b", size=20)], [under_way, ended("b", 1)], Policy(DAY * 30, 100)) == []


def test_a_folder_without_a_record_stays_as_long_as_if_its_run_had_ended_at_its_last_change() -> None:
    found = judged([folder("a", days=29.9), folder("b", days=30)], [], Policy(30 * DAY, 0))
    assert [name for name, verdict in found.items() if verdict.goes] == ["b"]
    assert not found["a"].recorded
    assert found["a"].why.startswith("nothing is recorded of it")


phases = st.sampled_from(list(TrainingPhase))
records = st.tuples(phases, st.floats(0, 60), st.booleans(), st.booleans(), st.integers(0, 200))


@given(st.lists(records, max_size=8), st.integers(0, 500), st.sets(st.integers(0, 7)))
def test_whatever_there_is_nothing_goes_that_may_not_and_the_rest_fits(
    given_runs: list[tuple[TrainingPhase, float, bool, bool, int]], limit: int, used: set[int]
) -> None:
    runs, folders = [], []
    for number, (phase, days, pinned, saved, size) in enumerate(given_runs):
        name = f"r{number}"
        kept = (checkpoint(name, at=NOW - timedelta(days=days), pins=("mine",) if pinned else ()),) if saved else ()
        over = phase.value in {"succeeded", "failed", "cancelled"}
        runs.append(ended(name, days, phase=phase, checkpoints=kept, ended_at=stamp(NOW) if over else None))
        folders.append(folder(name, size=size))
    busy = frozenset(f"r{number}" for number in used)
    found = judged(folders, runs, Policy(30 * DAY, limit), busy)
    assert set(found) == {each.run for each in runs}
    for each in runs:
        if found[each.run].goes:
            assert each.ended_at is not None
            assert each.run not in busy
            assert not any(c.pins for c in each.checkpoints)
    left = [v for v in found.values() if v.ended_at is not None and not v.goes]
    assert sum(v.folder.bytes for v in left) <= limit or not any(v.spare for v in left)
