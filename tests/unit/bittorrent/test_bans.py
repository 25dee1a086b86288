"""A ban is told once, with what it cost."""

from fleetcast.transport.bittorrent.bans import BanBook


def costs(book: BanBook, failed_bytes: int) -> list[tuple[str, int]]:
    return [(ban.peer, ban.wasted_bytes) for ban in book.settle(failed_bytes)]


def test_a_ban_is_told_with_the_count_that_follows_it_and_once() -> None:
    book = BanBook()
    assert costs(book, 100) == []
    book.note("10.0.0.1:1", "evil")
    assert costs(book, 300) == [("evil", 300)]
    book.note("10.0.0.1:1", "evil")
    assert costs(book, 400) == []
    assert book.addresses == {"10.0.0.1:1"}


def test_those_banned_between_two_counts_share_what_was_lost() -> None:
    book = BanBook()
    book.note("a:1", "a")
    book.note("b:1", "b")
    assert costs(book, 100) == [("a", 50), ("b", 50)]
    book.note("c:1", "c")
    assert costs(book, 130) == [("c", 30)]


def test_the_count_of_a_new_child_begins_at_nothing() -> None:
    book = BanBook()
    book.note("a:1", "a")
    assert costs(book, 100) == [("a", 100)]
    book.child_died()
    book.note("b:1", "b")
    assert costs(book, 20) == [("b", 20)]
