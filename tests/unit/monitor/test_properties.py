"""Whatever comes in whatever order: nothing is counted twice, nothing lost, nothing said twice."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.benchmarks.monitor_statistics import agrees, critical, plan_of
from tests.unit.monitor.builders import MODEL, START, slots

from fleetcast.daemons.monitor.judge import Judge
from fleetcast.daemons.monitor.policy import ModelPolicy
from fleetcast.daemons.monitor.verdicts import Dropped, Remedy, VerdictEvent
from fleetcast.events.incidents import Verdict
from fleetcast.events.lifecycle import Facts
from fleetcast.events.performance import DriftInput, LatencyHistogram, Snapshot, Weight

snapshots = st.fixed_dictionaries(
    {
        "id": st.integers(0, 60).map(str),
        "version": st.sampled_from(["1", "2", "3"]),
        "node": st.sampled_from(["n0", "n1", "n2"]),
        "requests": st.one_of(st.none(), st.integers(0, 400)),
        "error_ratio": st.one_of(st.none(), st.sampled_from([0.0, 0.01, 0.3, 1.0])),
        "ood_ratio": st.one_of(st.none(), st.floats(0, 1)),
        "drift_score": st.one_of(st.none(), st.floats(0, 5)),
        "latency_p95_ms": st.one_of(st.none(), st.floats(0, 1000)),
        "requests_per_second": st.one_of(st.none(), st.floats(0, 100)),
        "latency": st.one_of(st.none(), st.lists(st.floats(1, 500), max_size=20).map(LatencyHistogram.of)),
        "drift": st.sampled_from([{}, {"a": DriftInput((9, 1), (50, 50))}, {"a": DriftInput((9, 1, 0), (5, 5, 5))}]),
    }
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 90), snapshots),
        st.tuples(st.just("tick"), st.integers(0, 300), st.none()),
        st.tuples(st.just("order"), st.integers(0, 30), st.sampled_from(["1", "2", "12", "21"])),
    ),
    max_size=40,
)


def walked(walk: list[tuple[str, int, Any]]) -> tuple[Judge, list[VerdictEvent], list[Snapshot]]:
    judge = Judge(ModelPolicy(mode="auto", warm_up_seconds=0, false_rollbacks_per_model_year=100), MODEL)
    judge.order(slots(canary="2"), START)
    judge.expect("1", Facts(expected_latency_p95_ms=50))
    said, given_, now, generation = [], [], START, 1
    for what, seconds, detail in walk:
        now += seconds
        if what == "take":
            fields = {**detail, "weight": Weight.SINGLE if detail["requests"] is None else Weight.COUNTED}
            given_.append(Snapshot(model=MODEL, stored_at=now, **fields))
            said += judge.take(given_[-1])
        elif what == "tick":
            said += judge.tick(now)
        else:
            generation += 1
            said += judge.order(slots(generation, production=detail[0], canary=detail[1:] or None), now)
    return judge, said, given_


@settings(max_examples=30, deadline=None)
@given(steps)
def test_every_snapshot_is_in_a_minute_or_dropped_with_a_reason(walk: list[tuple[str, int, Any]]) -> None:
    judge, _, given_ = walked(walk)
    judge.order(slots(99, production="9"), START + 1e6)
    kept = sum(minute.snapshots for minute in judge.minutes())
    assert kept + sum(judge.dropped.values()) == len(given_)
    assert set(judge.dropped) <= set(Dropped)


@settings(max_examples=30, deadline=None)
@given(steps)
def test_a_verdict_is_said_only_when_it_changes_and_every_event_can_be_told(walk: list[tuple[str, int, Any]]) -> None:
    judge, said, _ = walked(walk)
    for event in said:
        assert event.fact().verdict is event.verdict
        assert (event.raised() is None) or (event.cleared() is None)
        assert event.before is not event.verdict or event.verdict is Verdict.BREACH
        if event.signal in ("ood_rate", "input_drift", "input_drift_reported", "snapshots"):
            assert event.remedy in (Remedy.NONE, Remedy.RETRAIN), "inputs never roll back"
        assert event.began_at <= event.at + 1e-6
    asked = Counter(
        (event.version, event.slot, event.generation, event.signal, event.node, event.remedy, event.severity)
        for event in said
        if event.rollback() is not None
    )
    breached = Counter(
        (event.version, event.slot, event.generation, event.signal) for event in said if event.verdict is Verdict.OK
    )
    assert all(count <= 1 + breached[key[:4]] for key, count in asked.items())
    judge.health()


def test_the_simulated_rule_is_the_real_one() -> None:
    assert agrees(plan_of(ModelPolicy()), models=3, minutes=20) >= 5


def test_the_fewest_failures_that_alarm_grow_with_the_requests() -> None:
    plan = plan_of(ModelPolicy())
    found = [critical(plan, requests) for requests in (1, 10, 100, 1000, 10_000)]
    assert found == sorted(found)
    assert found[0] == 2, "one request, however bad, is none"
    assert found[4] / 10_000 < found[2] / 100
