"""The judge of one model: what it counts, what it drops, what it says and what it calls for."""

import pytest
from tests.unit.monitor.builders import MODEL, START, breaches, judge, serve, slots, snap

from fleetcast.daemons.monitor.deciding import SETTLE_SECONDS
from fleetcast.daemons.monitor.judge import Judge
from fleetcast.daemons.monitor.policy import Mode, ModelPolicy
from fleetcast.daemons.monitor.verdicts import Dropped, Remedy, VerdictEvent
from fleetcast.events.incidents import Health, Severity, Verdict
from fleetcast.events.lifecycle import Facts
from fleetcast.events.performance import DriftInput, Snapshot, Weight


def signals(events: list[VerdictEvent]) -> set[str]:
    return {event.signal for event in breaches(events)}


def only(events: list[VerdictEvent]) -> VerdictEvent:
    found = breaches(events)
    assert len(found) == 1, [event.actual for event in found]
    return found[0]


# -- what it calls for


def test_nothing_was_bad_before_the_version_was_there() -> None:
    """What is counted by the minute begins with a whole one; the time to detect does not."""
    made = judge()
    made.order(slots(generation=2, production="2"), START + 615)
    said = only(serve(made, {("2", "n0"): 0.5, ("2", "n1"): 0.5}, start=650, seconds=60))
    assert said.began_at == START + 615


def test_a_bad_version_is_rolled_back_once_with_its_numbers() -> None:
    made = judge()
    assert not breaches(serve(made, {("1", "n0"): 0.02, ("1", "n1"): 0.02}, seconds=600))
    said = only(serve(made, {("1", "n0"): 0.3, ("1", "n1"): 0.3}, start=600, seconds=900))
    assert (said.verdict, said.before, said.action) == (Verdict.BREACH, Verdict.OK, "roll_back")
    assert said.severity is Severity.HIGH
    assert said.health is Health.CRITICAL
    assert said.began_at <= START + 660
    assert said.reasons[0].startswith("High error rate: ")
    assert "99.9% sure: more than" in said.reasons[1]
    assert said.evidence["path"] == "e_process"
    request = said.rollback()
    assert request is not None
    assert (request.model, request.version, request.requested_by) == (MODEL, "1", "monitor")
    raised = said.raised()
    assert raised is not None
    assert raised.context["model_version"] == "1"
    assert raised.context["deploy_status"] == "production"
    assert "triggered rollback conditions" in (raised.description or "")
    said.fact()


def test_errors_between_the_two_limits_are_medium_by_the_table() -> None:
    assert only(serve(judge(), {("1", "n0"): 0.085}, seconds=1800, requests=200)).severity is Severity.MEDIUM


@pytest.mark.parametrize(
    ("mode", "action", "approval"),
    [("observe", "observe", None), ("approve", "ask", "required"), ("auto", "roll_back", "")],
)
def test_the_mode_says_what_becomes_of_the_same_evidence(mode: str, action: str, approval: str | None) -> None:
    said = only(serve(judge(ModelPolicy(mode=Mode(mode))), {("1", "n0"): 0.3}, seconds=300))
    assert (said.remedy, said.action) == (Remedy.ROLL_BACK, action)
    request = said.rollback()
    assert (request is None) == (approval is None)
    if request is not None:
        assert request.evidence.get("approval", "") == approval
    assert said.raised() is not None, "an incident opens in every mode"


def test_a_canary_that_alone_is_bad_is_rolled_back() -> None:
    said = only(serve(judge(canary="2"), {("1", "n0"): 0.01, ("1", "n1"): 0.01, ("2", "n9"): 0.3}, seconds=600))
    assert (said.version, said.slot, said.remedy) == ("2", "canary", Remedy.ROLL_BACK)
    assert said.evidence["other_version"] == "1"
    assert said.evidence["chance_of_difference"] < 0.01


def test_both_versions_bad_is_the_environment_and_pages() -> None:
    made = judge(canary="2")
    serve(made, {("1", "n0"): 0.02, ("2", "n9"): 0.02}, seconds=120)
    events = breaches(serve(made, {("1", "n0"): 0.3, ("2", "n9"): 0.3}, start=120, seconds=600))
    assert {event.version for event in events} == {"1", "2"}
    assert {event.remedy for event in events} == {Remedy.PAGE}
    assert {event.severity for event in events} == {Severity.CRITICAL}
    assert not any(event.rollback() for event in events)


def test_without_waiting_for_the_canary_the_environment_would_roll_production_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The broken variant: whoever reports first is judged alone."""
    monkeypatch.setattr("fleetcast.daemons.monitor.deciding.SETTLE_SECONDS", 0.0)
    made = judge(canary="2")
    serve(made, {("1", "n0"): 0.01, ("2", "n9"): 0.01}, seconds=300)
    events = breaches(serve(made, {("1", "n0"): 0.9, ("2", "n9"): 0.9}, start=300, seconds=60, requests=100))
    assert Remedy.ROLL_BACK in {event.remedy for event in events}


def outage(made: Judge) -> list[VerdictEvent]:
    """All nodes are well, and at one moment none is."""
    rates = {("1", f"n{place}"): 0.01 for place in range(4)}
    serve(made, rates, seconds=330)
    return breaches(serve(made, dict.fromkeys(rates, 0.7), start=330, seconds=60))


def test_a_sudden_outage_is_not_laid_on_the_node_that_reports_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {event.remedy for event in outage(judge())} == {Remedy.ROLL_BACK}
    monkeypatch.setattr("fleetcast.daemons.monitor.deciding.SETTLE_SECONDS", 0.0)
    assert Remedy.DRAIN in {event.remedy for event in outage(judge())}, "the broken variant: by what was said before"


def test_waiting_for_others_ends() -> None:
    made = judge(canary="2")
    serve(made, {("1", "n0"): 0.01, ("2", "n9"): 0.01}, seconds=300)
    events = serve(made, {("1", "n0"): 0.9}, start=300, seconds=SETTLE_SECONDS + 20)
    said = only(events)
    assert said.remedy is Remedy.ROLL_BACK
    assert said.at >= START + 300 + SETTLE_SECONDS


def test_one_bad_node_is_drained_and_the_version_stays() -> None:
    rates = {("1", f"n{place}"): 0.01 for place in range(8)} | {("1", "n3"): 0.6}
    said = only(serve(judge(), rates, seconds=900))
    assert (said.node, said.remedy, said.action) == ("n3", Remedy.DRAIN, "drain")
    assert said.health is Health.DEGRADED
    assert said.rollback() is None
    raised = said.raised()
    assert raised is not None
    assert (raised.resource_type.value, raised.resource_id) == ("node", "n3")


def test_a_bad_node_that_recovers_is_told_to_have() -> None:
    made = judge()
    good = {("1", f"n{place}"): 0.01 for place in range(4)}
    serve(made, good | {("1", "n2"): 0.6}, seconds=600)
    events = serve(made, good, start=600, seconds=3600)
    over = [event for event in events if event.node == "n2"]
    assert [event.verdict for event in over] == [Verdict.OK]
    cleared = over[0].cleared()
    assert cleared is not None
    assert cleared.resource_id == "n2"


def test_inputs_out_of_distribution_ask_for_training_and_never_roll_back() -> None:
    made, events = judge(), []
    for second in range(0, 900, 10):
        events += made.take(snap(second, requests=100, ood_ratio=0.35))
    said = only(events)
    assert (said.signal, said.remedy, said.action) == ("ood_rate", Remedy.RETRAIN, "retrain")
    assert said.rollback() is None
    asked = said.retrain()
    assert asked is not None
    assert asked.reasons[0] == f"High OOD rate: {said.evidence['share']:.2%}"
    assert made.health().versions[0].health is Health.DEGRADED


def test_drifted_inputs_ask_for_training_and_never_roll_back() -> None:
    made, events = judge(), []
    drift = {"amount": DriftInput((90, 8, 2, 0), (250, 250, 250, 250))}
    for second in range(0, 300, 10):
        events += made.take(snap(second, drift=drift))
    said = only(events)
    assert (said.signal, said.remedy) == ("input_drift", Remedy.RETRAIN)
    assert said.reasons[0].startswith("Input distribution drift: ")
    assert said.rollback() is None


def test_a_slow_version_is_rolled_back_by_the_share_of_slow_requests() -> None:
    made = judge(expected_ms=40)
    assert not breaches(serve(made, {("1", "n0"): 0.0}, seconds=600, latency_ms=20))
    said = only(serve(made, {("1", "n0"): 0.0}, start=600, seconds=600, latency_ms=60))
    assert (said.signal, said.remedy, said.severity) == ("latency_p95", Remedy.ROLL_BACK, Severity.MEDIUM)
    assert "expected 40.0ms" in said.reasons[0]
    assert said.required == "p95 <= 60 ms (1.5 x the expected 40 ms)"


def test_latency_without_an_expectation_is_not_judged_and_says_what_to_set() -> None:
    made = judge()
    assert "latency_p95" not in signals(serve(made, {("1", "n0"): 0.0}, seconds=600, latency_ms=9000))
    trigger = next(t for t in made.health().versions[0].triggers if t.signal == "latency_p95")
    assert trigger.verdict is Verdict.INSUFFICIENT
    assert "fleetcast evidence set fraud_detector 1 expected_latency_p95_ms" in trigger.actual


def test_percentiles_without_a_histogram_are_votes_that_take_long() -> None:
    made, at = judge(expected_ms=100), None
    for second in range(0, 7200, 10):
        if breaches(made.take(snap(second, requests=50, latency_p95_ms=240.0))):
            at = second
            break
    assert at is not None
    assert 120 <= at <= 1200
    unsure = judge(expected_ms=100)
    events = [
        event
        for second in range(0, 7200, 10)
        for event in unsure.take(snap(second, requests=50, latency_p95_ms=240.0 if second % 20 else 90.0))
    ]
    assert not breaches(events), "half of the reports are over the limit: of a healthy model they may be"


def test_what_is_newly_expected_voids_what_was_slow() -> None:
    made = judge(expected_ms=20)
    serve(made, {("1", "n0"): 0.0}, seconds=60, latency_ms=30)
    assert "latency_p95" in made._slots["production"].watch.detectors
    made.expect("1", Facts(expected_latency_p95_ms=100))
    assert "latency_p95" not in made._slots["production"].watch.detectors


# -- weights


def test_a_ratio_of_nobody_knows_how_many_can_hardly_breach_alone() -> None:
    made = judge()
    for second in range(0, 120, 10):
        assert not breaches(made.take(snap(second, requests=None, error_ratio=0.085)))
    report = made.health().versions[0]
    assert report.weights == {"single": 12.0}
    assert report.metrics["avg_error_rate"] == 0.085, "the numbers are shown all the same"


def test_a_ratio_with_requests_per_second_counts_as_those_since_the_last_report() -> None:
    made = judge()
    events = []
    for second in range(0, 120, 10):
        events += made.take(snap(second, requests=None, error_ratio=0.2, requests_per_second=25.0))
    assert signals(events) == {"error_rate"}
    weights = made.health().versions[0].weights
    assert weights == {"single": 1.0, "spaced": 11 * 250.0}
    assert breaches(events)[0].evidence["weights"]["spaced"] > 0


def test_an_interval_that_nobody_reported_counts_for_a_minute_at_most() -> None:
    made = judge()
    made.take(snap(0, requests=None, error_ratio=0.0, requests_per_second=10.0))
    made.take(snap(170, requests=None, error_ratio=0.0, requests_per_second=10.0))
    assert made.health().versions[0].weights["spaced"] == 600.0


def test_a_node_that_was_bad_does_not_condemn_the_version_once_it_is_well() -> None:
    """What all nodes counted while one was bad is still in their window when that one is well again."""
    for seed in range(6):
        made = judge()
        good = {("1", f"n{place}"): 0.01 for place in range(4)}
        events = serve(made, good | {("1", "n2"): 0.6}, seconds=600, seed=seed)
        events += serve(made, good, start=600, seconds=1800, seed=seed)
        assert {event.remedy for event in breaches(events)} == {Remedy.DRAIN}


def test_a_version_that_turns_bad_while_a_node_is_bad_already_is_rolled_back() -> None:
    made = judge()
    rates = {("1", f"n{place}"): 0.01 for place in range(4)} | {("1", "n2"): 0.6}
    assert {event.remedy for event in breaches(serve(made, rates, seconds=600))} == {Remedy.DRAIN}
    worse = dict.fromkeys(rates, 0.4)
    assert Remedy.ROLL_BACK in {event.remedy for event in breaches(serve(made, worse, start=600, seconds=300))}


def test_a_node_that_stays_bad_when_the_version_is_well_again_is_drained_then() -> None:
    made = judge()
    rates = {("1", f"n{place}"): 0.01 for place in range(8)}
    serve(made, rates, seconds=300)
    assert {e.remedy for e in breaches(serve(made, dict.fromkeys(rates, 0.4), start=300, seconds=300))} == {
        Remedy.ROLL_BACK
    }
    later = breaches(serve(made, rates | {("1", "n1"): 0.12}, start=600, seconds=3600))
    assert [(event.node, event.remedy) for event in later] == [("n1", Remedy.DRAIN)]


def test_half_of_the_nodes_bad_is_the_version() -> None:
    rates = {("1", f"n{place}"): 0.5 if place % 2 else 0.0 for place in range(6)}
    events = breaches(serve(judge(), rates, seconds=900))
    assert Remedy.ROLL_BACK in {event.remedy for event in events}
    assert sum(event.remedy is Remedy.DRAIN for event in events) <= 2


# -- what it drops


class Careless(Judge):
    """The broken variant: it counts whatever comes."""

    def _refusal(self, snapshot: Snapshot) -> Dropped | None:
        return None


def twice(made: Judge) -> None:
    for second in range(0, 40, 10):
        once = snap(second, requests=10, bad=2)
        for _ in range(20):
            made.take(once)


def test_the_same_snapshot_counts_once_however_often_it_comes() -> None:
    ours, careless = judge(), judge(of=Careless)
    twice(ours)
    twice(careless)
    assert not ours.health().should_rollback
    assert ours.dropped[Dropped.DUPLICATE] == 4 * 19
    assert careless.health().should_rollback, "eight errors counted twenty times are a breach"


@pytest.mark.parametrize(("ahead", "reason"), [(3600, Dropped.FROM_THE_FUTURE), (-3600, Dropped.FROM_THE_PAST)])
def test_a_clock_that_is_off_is_counted_and_judges_nothing(ahead: float, reason: Dropped) -> None:
    made, careless = judge(), judge(of=Careless)
    for each in (made, careless):
        for second in range(0, 60, 10):
            each.take(snap(second, requests=100, bad=50, time=START + second + ahead))
    assert made.dropped == {reason: 6}
    assert not made.health().should_rollback
    assert careless.health().should_rollback


def test_a_clock_that_is_a_little_off_decides_nothing_either_way() -> None:
    plain, skewed = judge(), judge()
    a = [e for s in range(0, 120, 10) for e in plain.take(snap(s, requests=50, bad=10, time=START + s))]
    b = [e for s in range(0, 120, 10) for e in skewed.take(snap(s, requests=50, bad=10, time=START + s + 120))]
    assert [(e.signal, e.verdict, e.at) for e in a] == [(e.signal, e.verdict, e.at) for e in b]


def test_the_tail_of_a_replaced_version_is_dropped_and_an_unknown_one_is_told() -> None:
    made = judge()
    made.order(slots(2, production="2", previous={"version": "1", "artifact": "a" * 64}), START)
    for second in range(0, 300, 10):
        made.take(snap(second, version="1", bad=90))
        made.take(snap(second, version="7", bad=90))
    assert made.dropped == {Dropped.REPLACED: 30, Dropped.UNKNOWN_VERSION: 30}
    assert not made.health().should_rollback


# -- orders


def test_a_new_version_warms_up_before_it_is_judged() -> None:
    made = judge()
    made.order(slots(2, production="2"), START)
    cold = [event for second in (0, 10, 20) for event in made.take(snap(second, version="2", bad=100))]
    assert not breaches(cold)
    assert made.health().versions[0].metrics["num_requests"] == 300, "they are kept and shown, and not held against it"
    assert signals(made.take(snap(40, version="2", bad=100))) == {"error_rate"}


def test_an_order_voids_what_was_counted_of_the_slot_that_changed_only() -> None:
    made = judge(canary="2")
    serve(made, {("1", "n0"): 0.01, ("2", "n9"): 0.01}, seconds=300)
    before = made._slots["production"].watch
    made.order(slots(2, production="1", canary="3"), START + 300)
    assert made._slots["production"].watch is before
    assert made._slots["production"].watch.generation == 2
    assert not made._slots["canary"].watch.detectors
    made.order(slots(3, production="3"), START + 400)
    assert made.versions == {"production": "3"}
    assert not made._slots["production"].watch.detectors, "a canary that became production is judged anew"


def test_errors_of_the_former_generation_do_not_condemn_the_next() -> None:
    made = judge()
    serve(made, {("1", "n0"): 0.9}, seconds=60)
    made.order(slots(2, production="2"), START + 60)
    assert not breaches(serve(made, {("2", "n0"): 0.0}, start=60, seconds=600))
    assert not made.health().should_rollback


def test_the_same_order_again_changes_nothing() -> None:
    made = judge()
    serve(made, {("1", "n0"): 0.02}, seconds=120)
    watch = made._slots["production"].watch
    made.order(slots(1), START + 130)
    assert made._slots["production"].watch is watch


# -- silence


def test_a_version_that_falls_silent_is_stale_and_says_so_once() -> None:
    made = judge()
    serve(made, {("1", "n0"): 0.02}, seconds=300, requests=200)
    events = [event for second in range(300, 1500, 5) for event in made.tick(START + second)]
    stale = [event for event in events if event.verdict is Verdict.STALE]
    assert [event.signal for event in stale] == ["snapshots"]
    assert stale[0].severity is Severity.LOW
    assert made.health().health is Health.UNKNOWN
    assert {t.verdict for t in made.health().versions[0].triggers} == {Verdict.STALE}
    back = made.take(snap(1500, requests=200))
    assert [(event.signal, event.verdict) for event in back] == [("snapshots", Verdict.OK)]
    assert back[0].cleared() is not None


def test_silence_takes_no_breach_back() -> None:
    made = judge()
    serve(made, {("1", "n0"): 0.5}, seconds=120)
    events = [event for second in range(120, 7200, 30) for event in made.tick(START + second)]
    assert [event.signal for event in events if event.incident] == ["snapshots"]
    assert made.health().should_rollback


def test_a_version_that_never_reported_is_insufficient_and_not_stale() -> None:
    made = judge()
    assert not [event for second in range(0, 7200, 30) for event in made.tick(START + second)]
    report = made.health().versions[0]
    assert {t.verdict for t in report.triggers} == {Verdict.INSUFFICIENT}
    assert {t.actual for t in report.triggers} == {"no snapshot was received"}


def test_requests_that_nobody_made_are_no_news() -> None:
    made = judge()
    for second in range(0, 3600, 30):
        made.take(snap(second, requests=0))
    assert not made.tick(START + 3620)
    assert made.health().health is Health.UNKNOWN


# -- ending, and minutes


def test_a_breach_that_is_over_is_said_and_clears_its_incident() -> None:
    made = judge()
    serve(made, {("1", "n0"): 0.4}, seconds=120)
    events = serve(made, {("1", "n0"): 0.0}, start=120, seconds=1800)
    over = [event for event in events if event.signal == "error_rate"]
    assert [(event.before, event.verdict) for event in over] == [(Verdict.BREACH, Verdict.OK)]
    assert over[0].cleared() is not None
    assert over[0].raised() is None


def test_a_breach_that_grows_worse_is_said_again() -> None:
    made = judge()
    first = only(serve(made, {("1", "n0"): 0.09}, seconds=1200, requests=60))
    assert first.severity is Severity.MEDIUM
    worse = only(serve(made, {("1", "n0"): 0.5}, start=1200, seconds=1200, requests=60))
    assert (worse.before, worse.severity) == (Verdict.BREACH, Severity.HIGH)


def test_minutes_add_up_to_what_was_reported() -> None:
    made = judge(expected_ms=100)
    serve(made, {("1", "n0"): 0.1, ("1", "n1"): 0.0}, seconds=300, latency_ms=20)
    made.tick(START + 400)
    minutes = made.minutes()
    assert len(minutes) == 10
    assert sum(each.requests for each in minutes) == 60 * 33
    assert sum(sum(each.latency.values()) for each in minutes) == 60 * 33
    assert {each.node for each in minutes} == {"n0", "n1"}
    assert all(each.slot == "production" and each.generation == 1 for each in minutes)
    assert len({each.subject for each in minutes}) == 10
    assert made.minutes() == []


def test_a_replay_of_the_stream_says_the_same_to_the_last_bit() -> None:
    def run() -> tuple[list[VerdictEvent], list[bytes]]:
        made = judge(canary="2", expected_ms=50)
        rates = {("1", "n0"): 0.03, ("1", "n1"): 0.5, ("2", "n9"): 0.3}
        events = serve(made, rates, seconds=900, latency_ms=20)
        made.tick(START + 1000)
        return events, [minute.data() for minute in made.minutes()]

    assert run() == run()


def test_weights_are_told_apart() -> None:
    made = judge()
    made.take(snap(0, requests=10, bad=1))
    made.take(snap(1, requests=20, bad=1, weight=Weight.DERIVED))
    assert made.health().versions[0].weights == {"counted": 10.0, "derived": 20.0}
