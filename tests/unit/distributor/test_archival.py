"""What a node does about archived versions, as decisions."""

import pytest

from fleetcast.daemons.distributor.archival import ArchiveBook, Step, next_step
from fleetcast.events.content import Kind
from fleetcast.events.lifecycle import ArchiveOrder, ArchiveRule, EntryState, RestoreOrder, StageName
from fleetcast.events.state import Cause
from fleetcast.transport.store import Line

NOW = "2026-11-21T10:00:00Z"
RESTORE = RestoreOrder(by="/test", reason="wanted", at=NOW, n=3)
KEY = (Line(Kind.MODEL, "m"), "1")


def entry(
    *, node: str | None = "me", kept: bool = False, restore: RestoreOrder | None = None, version: str = "1"
) -> EntryState:
    order = None
    if node is not None:
        order = ArchiveOrder(
            node=node,
            folder=f"202611/manual/m/{version}",
            rule=ArchiveRule.MANUAL,
            stage=StageName.DEVELOPMENT,
            reason="old",
            by="/test",
            at=NOW,
            n=2,
            kept_at=NOW if kept else None,
            restore=restore,
        )
    return EntryState(
        model="m",
        version=version,
        artifact="0" * 64,
        stage=StageName.ARCHIVED if order else StageName.DEVELOPMENT,
        since=NOW,
        archive=order,
        origin="me",
        registered_at=NOW,
        registered_by="/test",
        cause=Cause(event="e", sequence=1, by="/test", correlation="e"),
    )


@pytest.mark.parametrize(
    ("state", "listed", "held", "retired", "step"),
    [
        (entry(), False, True, False, Step.KEEP),
        (entry(), False, False, False, Step.FETCH),
        (entry(), True, True, False, Step.TELL),
        (entry(kept=True), True, True, False, Step.RETIRE),
        (entry(kept=True), True, False, False, Step.RETIRE),
        (entry(kept=True), True, False, True, None),
        (entry(kept=True, restore=RESTORE), True, False, True, Step.RETURN),
        (entry(restore=RESTORE), False, True, False, Step.RETURN),
        (entry(node=None), True, True, False, Step.FORGET),
        (entry(node=None), True, False, True, Step.RETURN),
        (entry(node=None), False, True, False, None),
        (entry(node="other", kept=True), False, True, False, None),
    ],
)
def test_the_next_step(state: EntryState, listed: bool, held: bool, retired: bool, step: Step | None) -> None:
    assert next_step(state, "me", listed=listed, held=held, retired=retired) is step


def test_bytes_are_taken_away_only_when_they_are_listed_and_the_registry_knows() -> None:
    for kept in (False, True):
        for held in (False, True):
            assert next_step(entry(kept=kept), "me", listed=False, held=held, retired=False) is not Step.RETIRE
    assert next_step(entry(), "me", listed=True, held=True, retired=False) is not Step.RETIRE


@pytest.mark.parametrize("node", ["me", "other"])
def test_every_node_keeps_its_bytes_until_the_archive_has_them_and_while_they_come_back(node: str) -> None:
    book = ArchiveBook("me")
    book.take([entry(node=node)], ())
    assert (book.pins.versions, book.pins.archived) == (frozenset({KEY}), frozenset())
    book.take([entry(node=node, kept=True)], ())
    assert (book.pins.versions, book.pins.archived) == (frozenset(), frozenset({KEY}))
    book.take([entry(node=node, kept=True, restore=RESTORE)], ())
    assert (book.pins.versions, book.pins.archived) == (frozenset({KEY}), frozenset())
    book.take([entry(node=None)], ())
    assert (book.pins.versions, book.pins.archived) == (frozenset(), frozenset())


def test_nobody_fetches_an_archived_version_but_the_node_that_shall_keep_it() -> None:
    book, other = ArchiveBook("me"), ArchiveBook("other")
    for each in (book, other):
        each.take([entry()], ())
        assert each.is_away((Kind.MODEL, "m"), "1")
    assert [goal.version for _line, goal in book.goals()] == ["1"]
    assert other.goals() == []
    book.listed = frozenset({"202611/manual/m/1"})
    assert book.goals() == []


def test_a_version_may_be_fetched_again_once_it_is_back_and_not_before() -> None:
    book = ArchiveBook("me")
    book.take([entry(kept=True, restore=RESTORE)], [("m", "1")])
    assert book.is_away((Kind.MODEL, "m"), "1"), "a transfer would be in the way of the archive's own bytes"
    book.take([entry(node=None)], [("m", "1")])
    assert not book.is_away((Kind.MODEL, "m"), "1")


def test_a_node_remembers_nothing_of_versions_that_no_archive_has() -> None:
    book = ArchiveBook("me")
    assert not book.take([entry(node=None, version=str(n)) for n in range(100)], ())
    assert book.entries == ()
    assert book.take([entry()], ())
    assert book.take([entry(node=None)], [("m", "1")]), "the archive here still lists it"
    assert len(book.entries) == 1
