"""Snapshots as they are sent: every accepted form, what lacks counts, and refusals with the command that is right."""

import json
import shlex
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.events.performance import (
    DriftInput,
    LatencyHistogram,
    Snapshot,
    SnapshotInvalid,
    Weight,
    parse_snapshot,
)

SUBJECT = "fc.perf.fraud_detector"
SEED_003 = {
    "event_type": "model.performance_snapshot",
    "source": "model_registry",
    "resource_id": "fraud_detector",
    "timestamp": "2025-11-13T15:30:00Z",
    "data": {
        "version": "3.2.1",
        "latency_p50_ms": 120.5,
        "latency_p95_ms": 245.3,
        "latency_p99_ms": 350.1,
        "error_rate": 0.085,
        "ood_rate": 0.22,
        "requests_per_second": 250.0,
        "drift_score": 0.35,
    },
}


def read(
    document: Any, *, subject: str = SUBJECT, headers: dict[str, str] | None = None, sequence: int = 7
) -> Snapshot:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_snapshot(data, stored_at=1000.0, subject=subject, headers=headers, sequence=sequence)


def refusal(document: Any, *, subject: str = SUBJECT) -> SnapshotInvalid:
    with pytest.raises(SnapshotInvalid) as caught:
        read(document, subject=subject)
    return caught.value


def test_counts_typed_by_hand_are_taken_as_they_are() -> None:
    found = read(
        {"version": 43, "node": "gpu-1", "num_requests": 1000, "errors": 12, "ood": 50, "interval_seconds": 60}
    )
    assert (found.model, found.version, found.node) == ("fraud_detector", "43", "gpu-1")
    assert (found.requests, found.weight) == (1000, Weight.COUNTED)
    assert (found.error_ratio, found.ood_ratio) == (0.012, 0.05)


def test_the_monitoring_event_of_seed_003_is_taken() -> None:
    found = read(SEED_003)
    assert (found.version, found.error_ratio, found.ood_ratio, found.drift_score) == ("3.2.1", 0.085, 0.22, 0.35)
    assert found.time == datetime(2025, 11, 13, 15, 30, tzinfo=UTC).timestamp()
    assert (found.requests, found.requests_per_second) == (None, 250.0)


def test_the_request_of_seed_003_names_its_model_by_model_id() -> None:
    found = read({"model_id": "fraud_detector", "version": "3.2.1", "input_drift_score": 0.35, "accuracy": 0.89})
    assert (found.drift_score, found.accuracy, found.weight) == (0.35, 0.89, Weight.SINGLE)


def test_a_cloudevent_is_taken_with_its_id() -> None:
    event = {
        "specversion": "1.0",
        "id": "01HX",
        "source": "/fleet/gpu-1/serve",
        "type": "model.performance_snapshot.v1",
        "time": "1970-01-01T00:16:00Z",
        "data": {"model": "fraud_detector", "version": "1", "num_requests": 10, "errors": 1},
    }
    found = read(event)
    assert (found.id, found.time, found.error_ratio) == ("01HX", 960.0, 0.1)


def test_a_cloudevent_about_something_else_is_refused() -> None:
    event = {"specversion": "1.0", "id": "1", "type": "model.promoted.v1", "data": {"version": "1"}}
    assert "not a model.performance_snapshot" in refusal(event).reason


def test_what_makes_two_messages_one_snapshot() -> None:
    body = {"version": "1", "num_requests": 5, "errors": 0}
    assert read(body, headers={"Nats-Msg-Id": "x1"}).id == "x1"
    assert read(body, sequence=3).id != read(body, sequence=4).id, "two reports that look alike are two"
    timed = {**body, "timestamp": "2026-11-21T09:30:00Z"}
    assert read(timed, sequence=3).id == read(timed, sequence=4).id, "the same report of the same moment is one"
    assert read(timed).id != read({**timed, "errors": 1}).id


@pytest.mark.parametrize(
    ("fields", "requests", "weight"),
    [
        ({"num_requests": 40}, 40, Weight.COUNTED),
        ({"latency": {"scheme": "log", "buckets": {"88": 7, "90": 3}}}, 10, Weight.COUNTED),
        ({"requests_per_second": 2.5, "interval_seconds": 60}, 150, Weight.DERIVED),
        ({"requests_per_second": 2.5}, None, Weight.SINGLE),
        ({}, None, Weight.SINGLE),
    ],
)
def test_the_number_of_requests_comes_from_the_best_that_is_there(
    fields: dict[str, Any], requests: int | None, weight: Weight
) -> None:
    found = read({"version": "1", "error_rate": 0.1, **fields})
    assert (found.requests, found.weight) == (requests, weight)


def test_binned_inputs_are_taken_with_their_reference() -> None:
    found = read({"version": "1", "drift": {"amount": {"counts": [1, 2], "reference": [30, 40]}}})
    assert found.drift == {"amount": DriftInput((1, 2), (30, 40))}


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"error_rate": 8.5}, "error_rate", "looks like percent, write 0.085"),
        ({"ood_rate": 22}, "ood_rate", "looks like percent, write 0.22"),
        ({"error_rate": 1e6}, "error_rate", "a ratio lies between 0 and 1"),
        ({"error_rate": -0.1}, "error_rate", "less than nothing"),
        ({"num_requests": -5}, "num_requests", "less than nothing"),
        ({"num_requests": 2.5}, "num_requests", "whole number"),
        ({"num_requests": True}, "num_requests", "not a number"),
        ({"num_requests": "100"}, "num_requests", "not a number"),
        ({"errors": 5}, "errors", "num_requests is missing"),
        ({"errors": 5, "num_requests": 3}, "errors", "more than the 3 requests"),
        ({"interval_seconds": 0}, "interval_seconds", "leave it out"),
        ({"timestamp": "yesterday"}, "timestamp", "not a time"),
        ({"node": "../etc"}, "node", "cannot name a node"),
        ({"device": 4}, "device", "not text"),
        ({"error_rat": 0.1}, "error_rat", "did you mean error_rate?"),
        ({"latency": {"scheme": "linear", "buckets": {}}}, "latency.scheme", '"log" is known'),
        ({"latency": {"buckets": {"9999": 1}}}, "latency.buckets", "is no bucket"),
        ({"latency": {"buckets": {"8": -1}}}, "latency.buckets.8", "less than nothing"),
        ({"latency": {"buckets": {"8": 9}}, "num_requests": 3}, "num_requests", "histogram has 9"),
        ({"drift": {"a": {"counts": [1, 2], "reference": [1]}}}, "drift.a.reference", "list of 2 to"),
        ({"drift": {"a": {"counts": [1, 2], "reference": [1, 2, 3]}}}, "drift.a", "has 2 bins, its reference 3"),
        ({"drift": {"a": {"counts": [1, 2], "reference": [0, 0]}}}, "drift.a.reference", "nothing to compare"),
        ({"model": "other"}, "model", "'other' in the body, but 'fraud_detector'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, Any], field: str, said: str) -> None:
    refused = refusal({"version": "1", **fields})
    assert refused.field == field
    assert said in refused.reason


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"version": "1", "error_rate": NaN}', "error_rate: NaN is not a JSON number"),
        (b'{"version": "1", "error_rate": Infinity}', "not a JSON number"),
        (b'{"version": "1", "latency_p95_ms": 1e999}', "inf, which is no measurement"),
        (b'{"version": "1", "num_requests": 99999999999999999999999}', "is no measurement"),
        (b"{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"", "empty"),
        (b"[" * 100_000, "nested"),
        (b'{"num_requests": 3}', "version is missing"),
        (b'{"version": "../../x"}', "cannot name a version"),
        (b'{"version": "1", "pad": "' + b"x" * 1_000_001 + b'"}', "bytes"),
    ],
)
def test_what_is_no_snapshot_is_refused_with_a_reason(data: bytes, said: str) -> None:
    assert said in refusal(data).reason


def test_fields_that_nobody_knows_are_left_alone() -> None:
    assert read({"version": "1", "num_requests": 4, "errors": 1, "region": "eu", "x": [1]}).error_ratio == 0.25


@pytest.mark.parametrize(
    "document",
    [
        {"version": "1", "error_rate": 8.5, "num_requests": 50},
        {"version": "1", "errors": 5},
        {"errors": 5, "num_requests": 50},
        {"version": "1", "error_rat": 0.1},
        {"version": [1]},
        b"{",
    ],
)
def test_the_command_of_a_refusal_is_right_as_it_stands(document: Any) -> None:
    command = shlex.split(refusal(document).next_step.rpartition("example: ")[2])
    assert command[:4] == ["nats", "pub", "-J", SUBJECT]
    assert read(command[4].encode()).version


def test_percent_is_put_right_in_the_command_without_losing_the_rest() -> None:
    step = refusal({"version": "9", "error_rate": 8.5, "num_requests": 50}).next_step
    assert json.loads(shlex.split(step)[-1]) == {"version": "9", "num_requests": 50, "error_rate": 0.085}


@given(st.binary(max_size=300))
def test_no_bytes_whatever_do_anything_but_be_read_or_refused(data: bytes) -> None:
    try:
        read(data)
    except SnapshotInvalid as fault:
        said = str(fault)
    else:
        said = "read"
    assert said


_numbers = st.one_of(st.integers(-5, 10**20), st.floats(), st.booleans(), st.text(max_size=5), st.none())


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(
            ["version", "num_requests", "errors", "error_rate", "ood", "latency_p95_ms", "timestamp", "node"]
        ),
        _numbers,
    )
)
def test_whatever_is_counted_is_a_possible_count(fields: dict[str, Any]) -> None:
    try:
        found = read(json.dumps(fields).encode())
    except SnapshotInvalid:
        return
    for ratio in (found.error_ratio, found.ood_ratio):
        assert ratio is None or 0 <= ratio <= 1
    assert found.requests is None or found.requests >= 0


def test_a_histogram_reads_percentiles_within_its_width() -> None:
    values = [float(value) for value in range(1, 1001)]
    found = LatencyHistogram.of(values)
    for share in (0.5, 0.95, 0.99):
        exact = values[int(share * 1000) - 1]
        read_off = found.percentile(share)
        assert read_off is not None
        assert exact <= read_off <= exact * 1.0443


@settings(max_examples=50)
@given(st.lists(st.floats(0.001, 1e6), max_size=40), st.lists(st.floats(0.001, 1e6), max_size=40), st.floats(0.01, 1e5))
def test_histograms_add_up_and_accuse_nobody_wrongly(a: list[float], b: list[float], limit: float) -> None:
    together = LatencyHistogram.of(a)
    together.add(LatencyHistogram.of(b))
    assert together == LatencyHistogram.of([*a, *b])
    assert together.slower_than(limit) <= sum(value > limit for value in [*a, *b])
    assert together.slower_than(limit) >= sum(value > 1.0443 * limit for value in [*a, *b])


def test_averaged_percentiles_mislead_where_the_merged_histogram_does_not() -> None:
    quiet, busy = [2000.0] * 20, [10.0] * 2000
    merged = LatencyHistogram.of(quiet)
    merged.add(LatencyHistogram.of(busy))
    mean_of_p95 = (2000 + 10) / 2
    assert mean_of_p95 > 1000, "the broken way: half of the nodes are slow, so the fleet is"
    p95 = merged.percentile(0.95)
    assert p95 is not None
    assert p95 < 11
