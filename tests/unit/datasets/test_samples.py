"""Sample counts: what an export says is held against what its file holds."""

from hypothesis import given
from hypothesis import strategies as st

from fleetcast.daemons.distributor.samples import (
    KnownExport,
    Samples,
    contradiction,
    impossible_counts,
    known_export,
    new_samples,
    samples_of,
)

COUNTS = st.integers(0, 10**9)


@given(new=COUNTS, total=COUNTS)
def test_more_new_samples_than_samples_are_impossible(new: int, total: int) -> None:
    wrong = impossible_counts(new, total)
    assert (wrong is not None) == (new > total)
    assert wrong is None or wrong.field == "samples_new"


@given(total=COUNTS, count=st.integers(1, 10**9))
def test_arrays_that_are_named_for_samples_decide_the_count(total: int, count: int) -> None:
    wrong = contradiction(total, Samples(count, named=True, lengths=frozenset({count, 7})))
    assert (wrong is None) == (total == count)
    assert wrong is None or (wrong.field == "samples_total" and f"samples_total={count}" in wrong.next_step)


def test_without_telling_names_any_length_may_be_the_count() -> None:
    seen = Samples(10, named=False, lengths=frozenset({10, 25}))
    assert contradiction(25, seen) is None
    assert contradiction(26, seen) is not None


def test_a_file_without_samples_is_refused() -> None:
    assert contradiction(0, None) is not None
    assert contradiction(0, Samples(0, named=True, lengths=frozenset({0}))) is not None


def test_facts_of_a_format_test_become_samples() -> None:
    assert samples_of({}) is None
    assert samples_of({"samples": 4, "named": True, "lengths": [4, 9]}) == Samples(4, True, frozenset({4, 9}))


@given(total=st.integers(1, 10**6), before=st.integers(0, 10**6))
def test_new_samples_of_a_file_are_at_least_one_and_at_most_all(total: int, before: int) -> None:
    new = new_samples("x.npz", total, [KnownExport("x.npz", before, "2026-01-01")])
    assert 1 <= new <= total
    if 0 < before < total:
        assert new == total - before
    else:
        assert new == total


def test_only_the_newest_data_set_of_the_same_name_is_compared() -> None:
    earlier = [
        KnownExport("x.npz", 10, "2026-01-01"),
        KnownExport("x.npz", 30, "2026-01-03"),
        KnownExport("y.npz", 49, "2026-01-04"),
        known_export("x.npz", {"samples_total": "many"}, "2025-01-01"),
    ]
    assert new_samples("x.npz", 50, earlier) == 20
    assert new_samples("z.npz", 50, earlier) == 50
