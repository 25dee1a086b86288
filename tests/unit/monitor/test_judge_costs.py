"""What the judge of one model costs: memory by nodes, time by snapshot."""

import sys
from collections.abc import Callable

import pytest
from tests.unit.monitor.builders import MODEL, START, judge, serve, snap

from fleetcast.events.performance import LatencyHistogram, Snapshot


def test_memory_depends_on_nodes_and_not_on_snapshots() -> None:
    made = judge()
    sizes = []
    for hour in range(3):
        serve(made, {("1", "n0"): 0.02, ("1", "n1"): 0.02}, start=3600 * hour, seconds=3600, every=30)
        watch = made._slots["production"].watch
        sizes.append((len(watch.nodes["n0"].minutes), len(watch.detectors["error_rate"]._minutes)))
        made.minutes()
    assert sizes == [(10, 10)] * 3


def test_ids_that_are_remembered_are_bounded() -> None:
    made = judge()
    for place in range(50_000):
        made._refusal(Snapshot(id=str(place), model=MODEL, version="1", stored_at=START))
    assert len(made._seen) + len(made._seen_before) <= 40_000


@pytest.mark.parametrize(
    "make",
    [
        lambda at: snap(at, requests=50, bad=1, latency=LatencyHistogram.of([20.0] * 50), ood_ratio=0.01),
        lambda at: snap(at, requests=None, error_ratio=0.02, requests_per_second=5.0, latency_p95_ms=20.0),
    ],
)
def test_a_snapshot_costs_the_same_after_many(make: Callable[[float], Snapshot]) -> None:
    """Counted in calls of Python functions, which no busy machine changes."""
    made, counts = judge(expected_ms=100), []
    for batch in range(3):
        for place in range(2000):
            made.take(make(61 + batch * 40 + place / 50))
        calls = 0

        def trace(_frame: object, event: str, _arg: object) -> None:
            nonlocal calls
            calls += event == "call"

        snapshot = make(61 + batch * 40 + 40)
        sys.setprofile(trace)
        try:
            made.take(snapshot)
        finally:
            sys.setprofile(None)
        counts.append(calls)
    assert max(counts) < 400, counts
