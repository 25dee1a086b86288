"""Backups as rules: what is kept, in which order, and what a restore may not touch."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleetcast.bus.streams import AUDIT, EVENTS, PASSING, REGISTRY, REMEDY, STREAMS, TRAINING
from fleetcast.cli.backup.drilling import Drill, page, report
from fleetcast.cli.backup.manifest import Part
from fleetcast.cli.backup.rules import (
    Existing,
    in_the_way,
    name_of,
    order_of_taking,
    outlived,
    rounds_of_restoring,
    time_of,
)
from fleetcast.security.roles import BACKED_UP

NOW = datetime(2026, 11, 21, 3, 15, tzinfo=UTC)
NAMES = [spec.name for spec in STREAMS]


def backups(*days: int) -> list[Path]:
    return [Path(f"/b/{name_of(NOW - timedelta(days=day))}.fcbackup") for day in days]


def part(name: str, last: int = 9, time: str = "t") -> Part:
    state = {"messages": last, "last_seq": last, "last_ts": time}
    return Part(stream=name, config={}, state=state, size=1, sha256="")


def test_backups_older_than_the_days_go_and_the_newest_few_stay_however_old() -> None:
    paths = backups(0, 1, 29, 31, 40)

    assert set(outlived(paths, NOW, days=30, least=1)) == set(paths[3:])
    assert set(outlived(paths, NOW, days=30, least=4)) == set(paths[4:])
    assert outlived(backups(100, 200), NOW, days=30, least=7) == ()


def test_files_of_other_names_are_nobodys_to_remove() -> None:
    assert outlived([Path("/b/keep.fcbackup"), Path("/b/old.fcbackup")], NOW, days=1, least=1) == ()
    assert time_of(backups(3)[0]) == NOW - timedelta(days=3)


def test_copies_are_taken_before_what_they_copy_and_restored_after_it() -> None:
    taken = order_of_taking(NAMES)
    first, second = rounds_of_restoring([part(name) for name in taken])

    assert set(taken) == set(NAMES) - PASSING == set(BACKED_UP)
    for copy in (EVENTS, AUDIT):
        assert all(taken.index(copy) < taken.index(source) for source in (REGISTRY, REMEDY, TRAINING))
        assert copy in second
    assert {REGISTRY, REMEDY, TRAINING} <= set(first)


def test_a_stream_that_was_ever_used_is_in_the_way_and_one_that_was_declared_is_not() -> None:
    parts = [part(EVENTS), part(REGISTRY)]
    used, emptied = Existing(EVENTS, 3, 3), Existing(REGISTRY, 0, 12)

    assert in_the_way(parts, [used, emptied], resume=False) == (used, emptied)
    assert in_the_way(parts, [Existing(EVENTS, 0, 0), Existing("OTHER", 5, 5)], resume=False) == ()
    assert in_the_way(parts, [Existing(EVENTS, 0, 0, consumers=1)], resume=False) != ()


def test_resuming_keeps_what_is_whole_and_refuses_what_is_of_another_life() -> None:
    parts = [part(EVENTS), part(REGISTRY)]

    assert in_the_way(parts, [Existing(REGISTRY, 9, 9, "t")], resume=True) == ()
    assert in_the_way(parts, [Existing(REGISTRY, 9, 9, "another time")], resume=True) != ()
    assert in_the_way(parts, [Existing(REGISTRY, 9, 10, "t")], resume=True) != ()
    # What copies others goes on by itself; what has less than the backup is not whole.
    assert in_the_way(parts, [Existing(EVENTS, 12, 12, "later")], resume=True) == ()
    assert in_the_way(parts, [Existing(EVENTS, 8, 8, "t")], resume=True) != ()


def drill(seconds: float) -> Drill:
    result = {
        "taken_at": "2026-11-21T03:15:00Z",
        "size_bytes": 5,
        "streams": 11,
        "messages": 3,
        "chains_verified": 1,
        "records": 2,
        "audit_head": "ab" * 32,
        "declared_otherwise": [],
        "servers": 1,
        "server": "2.15.1",
    }
    return Drill("/b/x.fcbackup", {"restore and verify": seconds}, result)


def test_a_drill_beyond_thirty_minutes_is_complete_only_with_a_word_on_why() -> None:
    assert report(drill(1800.0), notes=None, now=NOW)["accepted"]
    late = report(drill(1800.1), notes=None, now=NOW)

    assert not late["accepted"]
    assert "MISSING" in page(late)
    told = report(drill(1800.1), notes="a slow disk; a faster one is ordered", now=NOW)
    assert told["accepted"]
    assert not told["within_limit"]
    assert "BEYOND" in page(told)
