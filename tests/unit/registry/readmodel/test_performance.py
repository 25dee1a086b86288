"""Performance by the minute: added up from counts, kept 90 days, the last word of a minute holds."""

from pathlib import Path
from typing import Any

from tests.unit.registry.readmodel import records as r

from fleetcast.bus.streams import MINUTES, REGISTRY
from fleetcast.events.performance import LatencyHistogram, Minute, OpenMinute, Snapshot, Weight
from fleetcast.registry.readmodel import ReadModel, answer
from fleetcast.registry.readmodel.minutes import KEPT_DAYS

FIRST = int(r.BEGAN.timestamp() // 60)


def minute(number: int, version: str = "1", node: str = "gpu-1", **said: Any) -> Minute:
    """A minute with one snapshot of a thousand requests."""
    opened = OpenMinute("hex8", version, node, FIRST + number, slot="production", generation=1)
    stored_at = 60.0 * (FIRST + number)
    snapshot = Snapshot(id=str(number), model="hex8", version=version, node=node, stored_at=stored_at, **said)
    opened.add(snapshot, 1000.0, Weight.COUNTED)
    return opened.closed()


def kept(path: Path, *minutes: Minute, registry: r.Writer | None = None) -> ReadModel:
    """A read model with these minutes, in the order in which they were written."""
    stream = r.Stream()
    for each in minutes:
        stream.put(each.subject, each.data())
    model = ReadModel(path)
    model.open()
    model.apply(MINUTES, stream.messages)
    if registry is not None:
        model.apply(REGISTRY, registry.registry.messages)
    model.index()
    return model


def asked(model: ReadModel, query: str, **arguments: Any) -> Any:
    with model.reader() as db:
        return answer(db, query, {"model": "hex8", **arguments})


def test_nodes_and_minutes_are_added_up_as_counts_and_not_as_means_of_rates(tmp_path: Path) -> None:
    quick = LatencyHistogram.of([10.0] * 990 + [100.0] * 10)
    slow = LatencyHistogram.of([10.0] * 900 + [100.0] * 100)
    model = kept(
        tmp_path / "db",
        minute(0, error_ratio=0.01, latency=quick),
        minute(0, node="gpu-2", error_ratio=0.03, latency=slow),
        minute(1, error_ratio=0.05, latency=quick),
    )
    first, second = asked(model, "performance")["points"]
    assert (first["num_requests"], first["errors"], first["error_rate"], first["nodes"]) == (2000, 40.0, 0.02, 2)
    assert 95 < first["latency_p95_ms"] < 105, "more than a twentieth of both together is slow"
    assert (second["error_rate"], second["nodes"]) == (0.05, 1)
    (both,) = asked(model, "performance", step_minutes=60)["points"]
    assert (both["num_requests"], both["error_rate"]) == (3000, 0.03)
    assert len(asked(model, "performance", by_node=True)["points"]) == 3
    assert asked(model, "performance", since="2099-01-01T00:00:00Z")["points"] == []
    assert asked(model, "performance", limit=1) == {"points": [second], "truncated": True}


def test_a_minute_that_is_written_again_replaces_itself_and_keeps_the_seeds_columns(tmp_path: Path) -> None:
    model = kept(tmp_path / "db", minute(0, error_ratio=0.5), minute(0, error_ratio=0.02, gpu_memory_mb=900.0))
    with model.reader() as db:
        rows = db.execute(
            "SELECT model_id, version, timestamp, latency_p95_ms, error_rate, ood_rate, input_drift_score, "
            "num_requests, gpu_memory_mb, device FROM memory_model_performance"
        ).fetchall()
        indexes = {row["name"] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    assert [tuple(row) for row in rows] == [
        ("hex8", "1", r.at(0)[:17] + "00.000Z", None, 0.02, None, None, 1000, 900.0, None)
    ]
    assert {"idx_model_perf_id", "idx_model_perf_time"} <= indexes


def test_what_is_older_than_ninety_days_is_removed(tmp_path: Path) -> None:
    model = kept(tmp_path / "db", minute(-60 * 24 * (KEPT_DAYS + 1)), minute(0))
    assert [point["timestamp"] for point in asked(model, "performance")["points"]] == [r.at(0)[:17] + "00.000Z"]


def test_a_minute_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    stream = r.Stream()
    stream.put("fc.min.hex8.x", b"{")
    stream.put(minute(0).subject, minute(0).data())
    model = ReadModel(tmp_path / "db")
    model.open()
    assert model.apply(MINUTES, stream.messages) == 2
    assert len(asked(model, "performance")["points"]) == 1


def test_why_a_model_was_rolled_back_is_told_with_how_both_versions_performed_before(tmp_path: Path) -> None:
    writer = r.Writer()
    writer.register("hex8", "1")
    writer.register("hex8", "2")
    writer.order("hex8", "1")
    bad = writer.order("hex8", "2")
    good = bad.model_copy(update={"production": bad.previous, "previous": None, "generation": 3})
    before, after = (slot.model_dump(mode="json", by_alias=True) for slot in (bad, good))
    writer.record("hex8", "slot.rolled_back", before, after, reason="High error rate: 8.50%")
    model = kept(tmp_path / "db", minute(0, version="2", error_ratio=0.085), minute(-600, version="1"), registry=writer)
    (told,) = asked(model, "rollback_reasons")["rollbacks"]
    assert (told["version"], told["to"], told["reason"]) == ("2", "1", "High error rate: 8.50%")
    assert told["performance"]["2"]["error_rate"] == 0.085
    assert told["performance"]["1"] is None, "nothing was reported of it then"
