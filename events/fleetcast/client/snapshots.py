"""`snapshot`: how a version performs, as serving code sees it."""

import time

from fleetcast.client.emit import emit
from fleetcast.client.names import SNAPSHOT


def snapshot(model: str, version: object, /, **fields: object) -> str | None:
    """Say how a version performed on this node over an interval. Never raises and needs no network.

    What is counted (`num_requests`, `errors`, `ood`, `interval_seconds`) is worth more than what is divided: counts of
    several nodes and intervals can be added up.

    Args:
        model: the model.
        version: of it, that this process serves.
        **fields: `num_requests`, `errors` or `error_rate`, `latency_p50_ms`, `latency_p95_ms`, `latency_p99_ms`,
            `ood` or `ood_rate`, `requests_per_second`, `input_drift_score`, …; `timestamp` is the end of the interval,
            default now.

    Returns:
        The snapshot's id, or None when nothing was emitted.
    """
    if "timestamp" not in fields:
        fields["timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return emit(SNAPSHOT, model=model, version=version, **fields)
