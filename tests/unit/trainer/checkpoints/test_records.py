"""A run's checkpoints in its record."""

from fleetcast.daemons.trainer.checkpoints import records
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.events.state import Cause
from fleetcast.events.training import CheckpointRecord, TrainingRunState

AT = "2026-01-01T00:00:00.000Z"
LANE = LaneDefinition.model_validate({"name": "hex8", "command": ["train"], "checkpoints": {"keep_last": 1}})


def saved(name: str, changed: int, *, node: str = "n1", **more: object) -> CheckpointRecord:
    fields = {"path": f"/c/{name}", "node": node, "size": 10, "changed_ns": changed, "at": AT, **more}
    return CheckpointRecord.model_validate(fields)


def run(*checkpoints: CheckpointRecord, name: str = "r", ended: str | None = None) -> TrainingRunState:
    cause = Cause(event="e", sequence=1, by="t", correlation="c")
    at = checkpoints[0] if checkpoints else None
    return TrainingRunState(
        run=name,
        lane="hex8",
        model="hex8",
        checkpoint=at,
        checkpoints=checkpoints,
        created_at=AT,
        at=AT,
        ended_at=ended,
        cause=cause,
    )


def names(checkpoints: tuple[CheckpointRecord, ...]) -> list[str]:
    return [c.path.rpartition("/")[2] for c in checkpoints]


def test_younger_bytes_are_newer_in_whatever_order_they_are_noticed() -> None:
    there = run(saved("b", 20))
    assert names(records.with_committed(there, saved("c", 30))) == ["c", "b"]
    assert names(records.with_committed(there, saved("a", 10))) == ["b", "a"]


def test_what_another_node_saved_is_of_the_past_whatever_its_clock_says() -> None:
    there = run(saved("theirs", 999, node="n2"))
    assert names(records.with_committed(there, saved("mine", 10))) == ["mine", "theirs"]


def test_commit_that_is_repeated_changes_nothing_and_may_add_what_was_said_later() -> None:
    there = run(saved("a", 10, version="v", nodes=("n1", "n2"), pins=("p",)))
    assert records.with_committed(there, saved("a", 10)) == there.checkpoints
    (told,) = records.with_committed(there, saved("a", 10, step=7, save_seconds=2.0))
    assert (told.step, told.save_seconds, told.nodes, told.pins) == (7, 2.0, ("n1", "n2"), ("p",))


def test_other_bytes_under_the_same_name_take_the_place_of_the_old_ones() -> None:
    (only,) = records.with_committed(run(saved("last", 10, version="v", pins=("p",))), saved("last", 20))
    assert (only.changed_ns, only.version, only.pins) == (20, None, ())


def test_copy_is_noted_for_its_version_only_and_once() -> None:
    mine = saved("a", 10, version="v")
    held = records.held_by(mine, "n2", "v", "0" * 64)
    assert held.nodes == ("n1", "n2")
    assert records.held_by(held, "n2", "v", "0" * 64).nodes == ("n1", "n2")
    assert records.held_by(mine, "n2", "other", "0" * 64) == mine


def test_run_under_way_never_loses_what_it_goes_on_from() -> None:
    newest, older = saved("b", 20), saved("a", 10)
    left = records.without(run(newest, older), [newest, older])
    assert left.checkpoints == (newest,)
    assert left.checkpoint == newest
    over = records.without(run(newest, older, ended=AT), [newest, older])
    assert over.checkpoints == ()
    assert over.checkpoint is None


def test_of_ended_runs_the_newest_keep_one_and_older_ones_what_is_pinned() -> None:
    newest = run(saved("b", 20), saved("a", 10), name="new", ended="2026-01-03T00:00:00Z")
    older = run(saved("d", 20), saved("c", 10, pins=("p",)), name="old", ended="2026-01-02T00:00:00Z")
    running = run(saved("e", 1), name="running")
    gone = records.outlived([running, older, newest], LANE)
    assert {name: names(c) for name, c in gone.items()} == {"new": ["a"], "old": ["d"]}
    assert records.long_over([running, older, newest], LANE) == [], "something of it is pinned"


def test_copies_go_where_the_last_one_went_and_never_to_its_own_node() -> None:
    record = saved("a", 1)
    assert records.copies_for(["n1", "n2", "n3"], record, [], 1) == ["n2"]
    assert records.copies_for(["n1", "n2", "n3"], record, ["n3"], 1) == ["n3"]
    assert records.copies_for(["n1", "n2"], record, ["n3"], 2) == ["n2"]
    assert records.copies_for(["n1"], record, [], 2) == []
