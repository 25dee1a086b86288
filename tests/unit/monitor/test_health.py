"""Health in the seeds' words and numbers."""

from typing import Any

from tests.unit.monitor.builders import MODEL, judge, serve, snap

from fleetcast.daemons.monitor.health import fleet_summary, health_summary, rollback_check
from fleetcast.daemons.monitor.judge import Judge
from fleetcast.events.incidents import Health, Verdict
from fleetcast.events.performance import LatencyHistogram


def served(rate: float, **more: Any) -> Judge:
    made = judge(expected_ms=100)
    serve(made, {("1", "n0"): rate, ("1", "n1"): rate}, seconds=900)
    for second in range(900, 1200, 10):
        made.take(snap(second, requests=100, bad=100 * rate, **more))
    return made


def test_one_model_has_the_fields_of_seed_003() -> None:
    found = health_summary(served(0.01).health())
    assert set(found) == {"model_id", "version", "status", "deployed_at", "health_status", "metrics"}
    assert (found["model_id"], found["version"], found["status"]) == (MODEL, "1", "production")
    assert found["health_status"] == "healthy"
    assert set(found["metrics"]) == {"avg_error_rate", "avg_latency_p95_ms", "avg_ood_rate", "snapshot_count"}


def test_a_fleet_is_counted_in_the_words_of_seed_003() -> None:
    inputs = served(0.0, ood_ratio=0.4)
    found = fleet_summary([served(0.01).health(), served(0.2).health(), inputs.health(), judge().health()])
    counts = {key: found[key] for key in ("total_models", "healthy", "degraded", "failing", "unknown")}
    assert counts == {"total_models": 4, "healthy": 1, "degraded": 1, "failing": 1, "unknown": 1}
    assert [each["model_id"] for each in found["issues"]] == [MODEL, MODEL]
    assert found["issues"][0]["reasons"][0].startswith("High error rate: ")
    assert found["issues"][1]["reasons"] == [
        f"High OOD rate: {inputs.health().versions[0].metrics['avg_ood_rate']:.2%}"
    ]


def test_a_check_says_what_would_be_done_and_changes_nothing() -> None:
    made = served(0.3)
    first, second = rollback_check(made.health()), rollback_check(made.health())
    assert first == second
    assert first["should_rollback"] is True
    assert first["window_minutes"] == 10
    assert first["reasons"][0].startswith("High error rate: ")


def test_a_version_that_one_node_alone_makes_look_bad_says_so_beside_its_numbers() -> None:
    made = judge()
    serve(made, {("1", "n0"): 0.0, ("1", "n1"): 0.0, ("1", "n2"): 0.5}, seconds=300)
    of_all, of_node = (each for each in made.health().versions[0].triggers if each.signal == "error_rate")

    assert (of_all.node, of_all.verdict) == (None, Verdict.OK)
    assert of_all.actual.endswith("; of single nodes, see theirs")
    assert (of_node.node, of_node.verdict) == ("n2", Verdict.BREACH)
    assert not of_node.actual.endswith("see theirs")


def test_inputs_alone_are_no_reason_to_roll_back() -> None:
    assert rollback_check(served(0.0, ood_ratio=0.4).health())["should_rollback"] is False


def test_percentiles_are_of_all_requests_and_no_mean_of_percentiles() -> None:
    made = judge(expected_ms=100)
    made.take(snap(0, node="quiet", requests=10, latency=LatencyHistogram.of([900.0] * 10)))
    made.take(snap(1, node="busy", requests=1000, latency=LatencyHistogram.of([10.0] * 1000)))
    found = made.health().versions[0].metrics["avg_latency_p95_ms"]
    assert found is not None
    assert 10 <= found < 11


def test_numbers_are_of_the_window_that_is_asked_for() -> None:
    made = judge()
    for second in range(0, 600, 60):
        made.take(snap(second, requests=100, bad=10 if second >= 480 else 0))
    assert made.health(2).versions[0].metrics["avg_error_rate"] == 0.1
    assert made.health(10).versions[0].metrics["avg_error_rate"] == 0.02
    assert made.health(60).window_minutes == 10, "more than the policy's window is not kept in memory"


def test_canary_and_production_are_compared_over_the_same_minutes() -> None:
    made = judge(canary="2")
    serve(made, {("1", "n0"): 0.02}, seconds=600)
    serve(made, {("1", "n0"): 0.02, ("2", "n9"): 0.04}, start=600, seconds=300)
    found = made.health().comparison
    assert found is not None
    compared = found["error_rate"]
    assert compared["canary"]["requests"] == 30 * 33
    assert compared["production"]["requests"] <= 31 * 33, "what production did before the canary came is left out"
    assert 0 < compared["chance_of_difference"] < 1


def test_every_condition_of_the_seeds_has_a_line_with_its_limit() -> None:
    made = judge(expected_ms=100)
    made.take(snap(0))
    found = {each.signal: each for each in made.health().versions[0].triggers}
    assert set(found) == {"error_rate", "latency_p95", "ood_rate", "input_drift"}
    assert found["latency_p95"].required == "p95 <= 150 ms (1.5 x the expected 100 ms)"
    assert found["input_drift"].required == "drift (KL) <= 0.3"
    assert {each.verdict for each in found.values()} == {Verdict.INSUFFICIENT}


def test_a_model_that_is_bad_in_canary_only_counts_as_failing() -> None:
    made = judge(canary="2")
    serve(made, {("1", "n0"): 0.01, ("2", "n9"): 0.4}, seconds=600)
    report = made.health()
    assert report.health is Health.CRITICAL
    assert {each.slot: each.health for each in report.versions} == {
        "production": Health.HEALTHY,
        "canary": Health.CRITICAL,
    }
