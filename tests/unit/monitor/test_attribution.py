"""Whose fault a breach is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.daemons.monitor.attribution import Cause, one_node, together, version_or_surroundings, worse_by_chance
from fleetcast.daemons.monitor.detector import Tally

LIMIT = 0.05


def tally(bad: float, requests: float) -> Tally:
    return Tally(0, requests, bad)


def cause(nodes: dict[str, tuple[int, int]], other: tuple[int, int] | None = None) -> tuple[Cause, str | None]:
    counts = {name: tally(*each) for name, each in nodes.items()}
    found = one_node(counts, counts, 0, LIMIT, complete=True)
    if found is None:
        found = version_or_surroundings(together(counts.values(), 0), ("1", tally(*other)) if other else None, LIMIT)
    return found.cause, found.node


@pytest.mark.parametrize(
    ("nodes", "other", "expected"),
    [
        ({"a": (40, 200)}, None, (Cause.VERSION, None)),
        ({"a": (40, 200), "b": (38, 200)}, None, (Cause.VERSION, None)),
        ({"a": (80, 200), "b": (2, 200), "c": (3, 200)}, None, (Cause.NODE, "a")),
        ({"a": (80, 200), "b": (0, 20)}, None, (Cause.NODE, "a")),
        ({"a": (80, 200), "b": (0, 1)}, None, (Cause.VERSION, None)),
        ({"a": (80, 200), "b": (70, 200), "c": (0, 200)}, None, (Cause.VERSION, None)),
        ({"a": (40, 200)}, (4, 400), (Cause.VERSION, None)),
        ({"a": (40, 200)}, (80, 400), (Cause.ENVIRONMENT, None)),
        ({"a": (12, 60)}, (4, 30), (Cause.ENVIRONMENT, None)),
        ({"a": (40, 200)}, (0, 0), (Cause.VERSION, None)),
        ({"a": (80, 200), "b": (2, 200)}, (80, 400), (Cause.NODE, "a")),
    ],
)
def test_the_cause_is_what_the_others_show(
    nodes: dict[str, tuple[int, int]], other: tuple[int, int] | None, expected: tuple[Cause, str | None]
) -> None:
    assert cause(nodes, other) == expected


def test_a_node_with_most_of_the_traffic_is_not_blamed_for_a_bad_version() -> None:
    assert cause({"big": (400, 2000), "small": (2, 12)}) == (Cause.VERSION, None)


def test_a_node_is_not_blamed_by_what_the_others_said_before_the_trouble() -> None:
    nodes = {"a": tally(80, 200), "b": tally(2, 600)}
    silent = {"a": tally(0, 0), "b": tally(0, 0)}
    assert one_node(nodes, silent, 0, LIMIT, complete=False) is None
    assert one_node(nodes, {"a": tally(0, 0), "b": tally(30, 100)}, 0, LIMIT, complete=True) is None
    assert one_node(nodes, {"a": tally(0, 0), "b": tally(0, 100)}, 0, LIMIT, complete=True) is not None


@given(st.integers(0, 200), st.integers(1, 500), st.integers(0, 200), st.integers(1, 500))
def test_chance_is_a_chance_and_falls_with_the_difference(a: int, n: int, b: int, m: int) -> None:
    a, b = min(a, n), min(b, m)
    chance = worse_by_chance(tally(a, n), tally(b, m))
    assert 0 <= chance <= 1
    if a < n:
        assert worse_by_chance(tally(a + 1, n), tally(b, m)) <= chance + 1e-3


def test_equal_versions_are_rarely_told_apart() -> None:
    from math import comb

    exact = sum(comb(20, k) for k in range(15, 21)) / 2**20
    assert worse_by_chance(tally(15, 300), tally(5, 300)) == pytest.approx(exact, rel=1e-3)
