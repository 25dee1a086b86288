"""Which checkpoints are kept."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleetcast.daemons.trainer.checkpoints.retention import Retention, judge
from fleetcast.events.training import CheckpointRecord

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def checkpoint(
    n: int, *, minutes: float | None = None, metric: float | None = None, size: int = 100, pins: int = 0
) -> CheckpointRecord:
    at = BEGAN + timedelta(minutes=n * 10 if minutes is None else minutes)
    pinned = tuple(f"because {p}" for p in range(pins))
    return CheckpointRecord(path=f"/c/{n}", node="n1", size=size, at=at.isoformat(), metric=metric, pins=pinned, step=n)


def kept(policy: Retention, *records: CheckpointRecord, others: int = 0) -> list[int]:
    return [int(j.record.path[3:]) for j in judge(records, policy, others_bytes=others) if j.stays]


def newest_first(*numbers: int) -> list[CheckpointRecord]:
    return [checkpoint(n) for n in sorted(numbers, reverse=True)]


def test_the_last_few_are_kept_by_commit_and_not_by_number() -> None:
    records = [checkpoint(2), checkpoint(9), checkpoint(4), checkpoint(3)]
    assert kept(Retention(last=2, every_seconds=None), *records) == [2, 9]


def test_the_best_is_kept_and_of_equals_the_older() -> None:
    records = [
        checkpoint(5, metric=0.3),
        checkpoint(4, metric=0.2),
        checkpoint(3, metric=0.2),
        checkpoint(2, metric=0.9),
    ]
    assert kept(Retention(last=1, best="min", every_seconds=None), *records) == [5, 3]
    assert kept(Retention(last=1, best="max", every_seconds=None), *records) == [5, 2]
    assert kept(Retention(last=1, best=None, every_seconds=None), *records) == [5]


def test_one_of_each_interval_is_kept_and_stays_the_same_one() -> None:
    hourly = Retention(last=1, every_seconds=3600)
    before = kept(hourly, *newest_first(*range(1, 12)))
    later = kept(hourly, *newest_first(*range(1, 30)))
    assert before == [11, 6, 1]
    assert later == [29, 24, 18, 12, 6, 1]


def test_pins_stay_whatever_the_quota() -> None:
    records = [checkpoint(3), checkpoint(2), checkpoint(1, pins=1)]
    assert kept(Retention(last=1, every_seconds=None, quota_bytes=1), *records) == [3, 1]


def test_quota_gives_up_intervals_then_the_last_then_the_best() -> None:
    records = [
        checkpoint(40, metric=5.0),
        checkpoint(39, metric=4.0),
        checkpoint(38, metric=1.0),
        checkpoint(6, metric=9.0),
        checkpoint(1, metric=9.0),
    ]
    policy = {"last": 2, "best": "min", "every_seconds": 3600.0}
    assert kept(Retention(**policy, quota_bytes=500), *records) == [40, 39, 38, 6, 1]  # type: ignore[arg-type]
    assert kept(Retention(**policy, quota_bytes=400), *records) == [40, 39, 38, 6]  # type: ignore[arg-type]
    assert kept(Retention(**policy, quota_bytes=250), *records) == [40, 38]  # type: ignore[arg-type]
    assert kept(Retention(**policy, quota_bytes=100), *records) == [40]  # type: ignore[arg-type]
    assert kept(Retention(**policy, quota_bytes=400), *records, others=200) == [40, 38]  # type: ignore[arg-type]


@given(
    st.lists(
        st.tuples(st.integers(1, 10**6), st.none() | st.floats(-5, 5), st.integers(0, 1)), min_size=1, max_size=30
    ),
    st.integers(1, 5),
    st.sampled_from(["min", "max", None]),
    st.none() | st.integers(60, 10**5),
    st.none() | st.integers(0, 10**7),
    st.integers(0, 10**7),
)
def test_the_newest_and_every_pin_stay_and_the_quota_holds_for_the_rest(
    made: list[tuple[int, float | None, int]],
    last: int,
    best: str | None,
    every: int | None,
    quota: int | None,
    others: int,
) -> None:
    count = len(made)
    records = [
        checkpoint(count - n, size=size, metric=metric, pins=pins) for n, (size, metric, pins) in enumerate(made)
    ]
    policy = Retention(last=last, best=best, every_seconds=every, quota_bytes=quota)  # type: ignore[arg-type]
    found = judge(records, policy, others_bytes=others)
    assert found[0].stays
    assert all(j.stays for j in found if j.record.pins)
    free = [j for j in found[1:] if j.stays and not j.record.pins]
    if quota is not None and free:
        assert others + sum(j.record.size for j in found if j.stays) <= quota
