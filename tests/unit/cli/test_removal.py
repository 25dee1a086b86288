"""What gc says to a person."""

from tests.unit.cli.test_transfers import shown

from fleetcast.cli.removal import picture, sentence
from fleetcast.daemons.distributor.report import CollectionReport, KeptVersion, RemovedVersion
from fleetcast.daemons.trainer.folders.commands import FoldersReport, RunFolder
from fleetcast.events.content import Kind

GONE = RemovedVersion(kind=Kind.MODEL, model="hex8", version="1", bytes=2**20)
KEPT = KeptVersion(kind=Kind.MODEL, model="hex8", version="2", bytes=2**20, why=("production", "one of the last 3"))


def report(node: str) -> CollectionReport:
    return CollectionReport(node=node, removed=(GONE,), kept=(KEPT,), files=1, bytes=2**20)


def test_what_goes_and_what_stays_is_told_once_for_nodes_that_are_alike() -> None:
    lines = shown(picture([report("a"), report("b")], dry_run=True))
    assert lines == [
        "WOULD GO    BYTES  FROM",
        "hex8@1    1.0 MiB  a, b",
        "",
        "KEPT      BYTES  BECAUSE                        ON",
        "hex8@2  1.0 MiB  production; one of the last 3  a, b",
    ]


def test_a_fleet_of_300_takes_as_many_lines_as_one_node() -> None:
    assert len(shown(picture([report(f"n{i:03}") for i in range(300)], dry_run=False))) == 5


def test_the_sum_names_who_did_not_answer() -> None:
    assert sentence([report("a"), report("b")], ["c"], dry_run=False) == (
        "removed 2 versions, 2.0 MiB in 2 files, on 2 nodes; c did not answer"
    )


def test_a_trainer_that_could_not_do_it_is_told_with_its_reason() -> None:
    said = sentence([report("a")], ["b"], (), {"the trainer of a": "the disk is read-only"}, dry_run=False)
    assert said.endswith("; the trainer of a failed: the disk is read-only; b did not answer")


def test_folders_of_runs_are_among_what_goes_and_what_stays() -> None:
    left = RunFolder(run="hex8-1", bytes=2**20, why="succeeded at 2026-10-01T00:00:00.000Z")
    used = RunFolder(run="hex8-2", bytes=2**21, why="in use")
    folders = [FoldersReport(node="a", removed=(left,), kept=(used,))]
    assert shown(picture([], folders, dry_run=True)) == [
        "WOULD GO      BYTES  FROM",
        "run hex8-1  1.0 MiB  a",
        "",
        "KEPT          BYTES  BECAUSE  ON",
        "run hex8-2  2.0 MiB  in use   a",
    ]
    assert sentence([report("a")], [], folders, dry_run=True) == (
        "would remove 1 version, 1.0 MiB in 1 file, on 1 node; 1 folder of ended runs, 1.0 MiB"
    )
