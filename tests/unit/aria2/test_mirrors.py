"""Which mirrors are asked."""

from random import Random

import pytest

from fleetcast.transport.aria2.mirrors import (
    LONGEST_REST_SECONDS,
    Mirror,
    MirrorBook,
    State,
    connections_per_host,
    suspects,
)
from fleetcast.transport.protocol import Source


def book(count: int = 3, *, most: int = 8, good: bool = True) -> MirrorBook:
    made = MirrorBook(most, slow_ratio=0.1, slow_seconds=2.0, random=Random(1))
    made.learn(Source(f"n{i}", http=f"http://10.0.0.{i}:80/cap", complete=True) for i in range(count))
    for mirror in made.mirrors if good else ():
        made.accept(mirror)
    return made


def test_only_complete_sources_with_http_are_mirrors_and_each_once() -> None:
    made = book(0)
    sources = [
        Source("a", http="http://a/x", complete=True),
        Source("b", http="http://b/x"),
        Source("c", bt="c:1", complete=True),
    ]
    made.learn(sources)
    made.learn([*sources, Source("a", http="http://a/x/", complete=True)])
    assert [mirror.node for mirror in made.mirrors] == ["a"]


def test_a_source_that_has_become_complete_is_a_mirror() -> None:
    made = book(0)
    made.learn([Source("b", http="http://b/x")])
    made.learn([Source("b", http="http://b/x", complete=True)])
    assert [mirror.node for mirror in made.mirrors] == ["b"]


def test_nodes_do_not_all_ask_the_same_mirrors() -> None:
    orders = set()
    for seed in range(20):
        made = MirrorBook(2, 0.1, 2.0, random=Random(seed))
        made.learn(Source(f"n{i}", http=f"http://n{i}/x", complete=True) for i in range(10))
        orders.add(tuple(m.node for m in made.due(0.0)))
    assert len(orders) > 10


def test_no_more_are_probed_than_can_be_used_and_a_failed_one_is_replaced() -> None:
    made = book(5, most=2, good=False)
    first = made.due(0.0)
    assert len(first) == 2
    for mirror in first:
        made.begin_probe(mirror)
    assert made.due(0.0) == []
    made.accept(first[0])
    made.rest(first[1], 0.0, "gone", answers=False)
    assert len(made.due(0.0)) == 1


def test_a_mirror_that_fails_rests_twice_as_long_each_time() -> None:
    made = book(1)
    (mirror,) = made.mirrors
    ends = []
    for _ in range(6):
        made.rest(mirror, 0.0, "gone", answers=False)
        ends.append(mirror.rest_until)
    assert ends == [1.0, 2.0, 4.0, 8.0, LONGEST_REST_SECONDS, LONGEST_REST_SECONDS]
    assert made.due(LONGEST_REST_SECONDS - 0.1) == []
    assert made.due(LONGEST_REST_SECONDS) == [mirror]


@pytest.mark.parametrize("act", ["accept", "rest", "doubt", "forget_probe"])
def test_a_banned_mirror_stays_banned(act: str) -> None:
    made = book(1)
    (mirror,) = made.mirrors
    made.ban(mirror, "wrong bytes", 5)
    if act == "rest":
        made.rest(mirror, 0.0, "x", answers=True)
    else:
        getattr(made, act)(mirror)
    made.learn([Source(mirror.node, http=mirror.base, complete=True)])
    assert made.banned == [mirror]
    assert made.due(1e9) == made.good == made.usable == made.alive == []
    assert mirror.wasted == 5


def rate(made: MirrorBook, *speeds: int, until: float) -> list[Mirror]:
    """Let the mirrors bring so much each second until then; returns who is slow at its end."""
    found: list[Mirror] = []
    for tenth in range(int(10 * until) + 1):
        now, by = tenth / 10, dict(zip(made.mirrors, speeds, strict=False))
        made.rated(by, now)
        found = made.slow(by, now)
    return found


def test_a_mirror_far_behind_the_best_is_slow_after_a_while() -> None:
    made = book(3)
    assert rate(made, 1000, 1000, 50, until=1.5) == []
    assert rate(made, 1000, 1000, 50, until=4.0) == [made.mirrors[2]]


def test_mirrors_of_equal_speed_are_none_of_them_slow() -> None:
    assert rate(book(3), 100, 120, 80, until=5.0) == []


def test_the_last_mirror_is_never_slow() -> None:
    assert rate(book(1), 1, until=5.0) == []


def test_at_the_end_of_a_file_the_slow_one_is_compared_with_what_others_brought() -> None:
    made = book(2)
    rate(made, 1000, 1000, until=3.0)
    fast, slow = made.mirrors
    assert made.slow({slow: 5}, 4.0) == []
    assert made.slow({slow: 5}, 6.1) == [slow]
    assert fast.state is State.GOOD


def test_a_slow_mirror_comes_back_only_when_nobody_else_is_left() -> None:
    made = book(2)
    fast, slow = made.mirrors
    made.rest(slow, 0.0, "slow", answers=True, spare=True)
    assert made.due(100.0) == []
    made.rest(fast, 100.0, "gone", answers=False)
    assert slow in made.due(100.0)


def test_after_wrong_bytes_without_a_culprit_one_mirror_is_asked_at_a_time() -> None:
    made = book(3)
    assert len(made.chosen()) == 3
    made.alone = True
    assert len(made.chosen()) == 1


def test_who_sent_most_is_suspected_first() -> None:
    a, b, c = book(3).mirrors
    assert suspects([a, b, c], {b: 10, c: 20}) == [c, b, a]


def test_mirrors_on_one_host_get_connections_for_all_of_them() -> None:
    mirrors = [Mirror("a", "http://h:1/x"), Mirror("b", "http://h:2/x"), Mirror("c", "http://i:1/x")]
    assert connections_per_host(mirrors, 2) == 4
    assert connections_per_host([], 2) == 2


def test_a_name_in_a_url_is_quoted() -> None:
    url = Mirror("a", "http://h:1/x").url("f" * 64, "with space/täg?#.pt")
    assert url == f"http://h:1/x/a/{'f' * 64}/{'f' * 16}/with%20space/t%C3%A4g%3F%23.pt"
