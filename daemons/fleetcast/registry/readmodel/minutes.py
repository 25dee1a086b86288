"""Performance by the minute as rows: what FC_MINUTES says, for as long as it is kept. Runs inside the caller's
transaction."""

import sqlite3
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

import structlog
from pydantic_core import to_json

from fleetcast.events.performance import Minute, read_minute
from fleetcast.registry.readmodel.flatten import moment, stamp
from fleetcast.registry.readmodel.projection import Record

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.registry")

KEPT_DAYS: Final = 90
SWEEP_ROWS: Final = 5000
"""Rows that one transaction removes at most: a hundred thousand at once would hold up all others for seconds."""

_ROW: Final = """
INSERT INTO memory_model_performance (
  model_id, version, timestamp, latency_p95_ms, error_rate, ood_rate, input_drift_score, num_requests, gpu_memory_mb,
  device, node, minute, slot, generation, snapshots, errors, error_requests, ood, ood_requests, latency_p50_ms,
  latency_p99_ms, requests_per_second, accuracy, drift_requests, latency, reported_p95, weights
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (model_id, version, node, minute) DO UPDATE SET
  latency_p95_ms = excluded.latency_p95_ms, error_rate = excluded.error_rate, ood_rate = excluded.ood_rate,
  input_drift_score = excluded.input_drift_score, num_requests = excluded.num_requests,
  gpu_memory_mb = excluded.gpu_memory_mb, device = excluded.device, slot = excluded.slot,
  generation = excluded.generation, snapshots = excluded.snapshots, errors = excluded.errors,
  error_requests = excluded.error_requests, ood = excluded.ood, ood_requests = excluded.ood_requests,
  latency_p50_ms = excluded.latency_p50_ms, latency_p99_ms = excluded.latency_p99_ms,
  requests_per_second = excluded.requests_per_second, accuracy = excluded.accuracy,
  drift_requests = excluded.drift_requests, latency = excluded.latency, reported_p95 = excluded.reported_p95,
  weights = excluded.weights
"""


def project_minutes(db: sqlite3.Connection, records: Iterable[Record]) -> None:
    """Bring the table to what *records* (in order) say, and remove what is older than it is kept."""
    newest: datetime | None = None
    for record in records:
        newest = record.time
        try:
            minute = read_minute(record.data)
        except ValueError as e:
            # One record that cannot be read must not hide all the others.
            log.warning("record.unreadable", subject=record.subject, sequence=record.sequence, reason=str(e)[:500])
            continue
        db.execute(_ROW, _row(minute))
    if newest is not None:
        _sweep(db, newest)


def _row(m: Minute) -> tuple[object, ...]:
    return (
        m.model,
        m.version,
        moment(m.at),
        m.latency_ms(0.95),
        m.error_rate,
        m.ood_rate,
        m.drift_score,
        round(m.requests),
        m.gpu_memory_mb,
        m.device,
        m.node,
        m.minute,
        m.slot,
        m.generation,
        m.snapshots,
        m.errors,
        m.error_requests,
        m.ood,
        m.ood_requests,
        m.latency_ms(0.5),
        m.latency_ms(0.99),
        m.requests_per_second,
        m.accuracy,
        m.drift_requests,
        _text(m.latency),
        _text(m.reported_p95),
        _text(m.weights),
    )


def _text(document: object) -> str | None:
    return to_json(document).decode() if document else None


def _sweep(db: sqlite3.Connection, newest: datetime) -> None:
    oldest = stamp(newest - timedelta(days=KEPT_DAYS))
    db.execute(
        "DELETE FROM memory_model_performance WHERE id IN "
        "(SELECT id FROM memory_model_performance WHERE timestamp < ? ORDER BY timestamp LIMIT ?)",
        (oldest, SWEEP_ROWS),
    )
