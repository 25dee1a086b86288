"""What is shown of the rungs of one transfer."""

from fleetcast.daemons.distributor.rungs import DONE, STALLED, RungBook, named
from fleetcast.transport.ladder import Ladder, Rung

THREE = Ladder((Rung("bittorrent"), Rung("aria2"), Rung("rsync", "not set up")), "")


def states(book: RungBook) -> dict[str, str]:
    return {r.transport: r.state for r in book.rungs}


def test_rungs_show_what_became_of_them() -> None:
    book = RungBook()
    book.plan(THREE)
    assert states(book) == {"bittorrent": "waiting", "aria2": "waiting", "rsync": "skipped"}

    book.enter("bittorrent", 10.0)
    book.received("bittorrent", 100, 12.0)
    book.leave("bittorrent", STALLED, "no byte for 5 s", 17.0)
    book.enter("aria2", 17.0, "after bittorrent")

    first, second, _ = book.rungs
    assert (first.state, first.reason, first.received_bytes, first.seconds) == ("stalled", "no byte for 5 s", 100, 7.0)
    assert (second.state, second.reason) == ("running", "after bittorrent")
    assert book.used == ("bittorrent",)


def test_a_rung_that_is_taken_again_adds_to_what_it_brought() -> None:
    book = RungBook()
    book.plan(THREE)
    for began in (0.0, 100.0):
        book.enter("aria2", began)
        book.received("aria2", 5, began + 1)
        book.leave("aria2", DONE, "", began + 2)

    assert (book.rungs[1].received_bytes, book.rungs[1].seconds) == (10, 4.0)


def test_a_new_plan_changes_only_rungs_that_have_not_run() -> None:
    book = RungBook()
    book.plan(THREE)
    book.enter("bittorrent", 0.0)

    book.plan(Ladder((Rung("bittorrent", "gone"), Rung("aria2", "no source"), Rung("rsync")), ""))

    assert states(book) == {"bittorrent": "running", "aria2": "skipped", "rsync": "waiting"}
    assert book.rungs[2].reason == ""


def test_facts_name_the_transports_that_brought_bytes() -> None:
    assert named(("bittorrent", "aria2"), otherwise="rsync") == "bittorrent+aria2"
    assert named((), otherwise="rsync") == "rsync"
