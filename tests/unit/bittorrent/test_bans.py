"""A ban is told once, with what it cost."""

from fleetcast.transport.bittorrent.bans import BanBook
from fleetcast.transport.bittorrent.pardons import DOUBT_SECONDS

LATER = 2 * DOUBT_SECONDS


def costs(book: BanBook, failed_bytes: int, now: float = LATER) -> list[tuple[str, int]]:
    return [(ban.peer, ban.wasted_bytes) for ban in book.settle(failed_bytes, now)]


def test_a_ban_is_told_with_the_count_that_follows_it_and_once() -> None:
    book = BanBook()
    assert costs(book, 100) == []
    book.note("10.0.0.1:1", "evil", 0.0)
    assert costs(book, 300) == [("evil", 300)]
    book.note("10.0.0.1:1", "evil", 0.0)
    assert costs(book, 400) == []
    assert book.addresses == {"10.0.0.1:1"}


def test_those_banned_between_two_counts_share_what_was_lost() -> None:
    book = BanBook()
    book.note("a:1", "a", 0.0)
    book.note("b:1", "b", 0.0)
    assert costs(book, 100) == [("a", 50), ("b", 50)]
    book.note("c:1", "c", 0.0)
    assert costs(book, 130) == [("c", 30)]


def test_the_count_of_a_new_child_begins_at_nothing() -> None:
    book = BanBook()
    book.note("a:1", "a", 0.0)
    assert costs(book, 100) == [("a", 100)]
    book.child_died()
    book.note("b:1", "b", 0.0)
    assert costs(book, 20) == [("b", 20)]


def test_a_ban_that_may_be_taken_back_is_not_told_yet_unless_all_is_over() -> None:
    book = BanBook()
    book.note("a:1", "a", 0.0)
    assert costs(book, 100, DOUBT_SECONDS / 2) == []
    assert [ban.peer for ban in book.settle(100, DOUBT_SECONDS / 2, is_over=True)] == ["a"]


def test_who_is_let_in_again_is_not_told_of_and_what_was_lost_is_the_others() -> None:
    book = BanBook()
    book.note("a:1", "honest", 0.0)
    book.note("b:1", "evil", 1.0)
    book.pardon(("a:1",))
    assert book.addresses == {"b:1"}
    assert costs(book, 100) == [("evil", 100)]
    assert book.note("a:1", "honest", LATER)
