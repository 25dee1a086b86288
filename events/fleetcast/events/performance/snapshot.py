"""One report of how a version performs on a node over an interval."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from fleetcast.events.errors import clip
from fleetcast.events.performance.drift import DriftInput
from fleetcast.events.performance.histogram import LatencyHistogram


class Weight(StrEnum):
    """Where the number of requests comes from that a snapshot counts as; best first."""

    COUNTED = "counted"
    """It says so: `num_requests`, or a latency histogram."""
    DERIVED = "derived"
    """`requests_per_second` times `interval_seconds`."""
    SPACED = "spaced"
    """`requests_per_second` times the time since the node's last snapshot of the version, at most a minute."""
    SINGLE = "single"
    """Nothing tells: one request."""


class SnapshotInvalid(ValueError):
    """A snapshot was refused: nothing of it is counted.

    Attributes:
        field: at fault, dotted; None: the whole.
        reason: what is wrong.
        next_step: what to do, with the command where there is one.
        model: that it is about, as far as known; empty: not known.
    """

    def __init__(self, reason: str, *, field: str | None = None, next_step: str, model: str = "") -> None:
        self.reason = clip(reason, 600)
        self.field = None if field is None else clip(field, 200)
        self.next_step = clip(next_step, 2000)
        self.model = model
        super().__init__(f"{self.reason}{'' if self.reason.endswith(('?', '.')) else '.'} {self.next_step}")


_NOTHING: Final[Mapping[str, DriftInput]] = MappingProxyType({})


class Snapshot(NamedTuple):
    """What a node reports of a version over an interval. Ratios are 0 to 1, latencies milliseconds, times seconds of
    the epoch.

    Attributes:
        id: two snapshots of the same id are one.
        node: that reports; "unknown" where nothing says so.
        sequence: its place in the stream; 0: none.
        stored_at: when the stream took it: the time that decisions are made by.
        time: end of the interval by the node's clock; None: it did not say.
        interval_seconds: how long the interval was; None: not said.
        requests: in the interval; None: neither said nor to be derived.
        weight: where `requests` comes from.
        error_ratio, ood_ratio: share of the requests that failed, and that were out of distribution; None: not said.
        latency: of the requests; None: not said.
        latency_p50_ms, latency_p95_ms, latency_p99_ms: percentiles as reported.
        drift: binned inputs by feature.
        drift_score: as computed by the node (KL divergence in seed 003).
    """

    id: str
    model: str
    version: str
    stored_at: float
    node: str = "unknown"
    sequence: int = 0
    time: float | None = None
    interval_seconds: float | None = None
    requests: int | None = None
    weight: Weight = Weight.SINGLE
    error_ratio: float | None = None
    ood_ratio: float | None = None
    latency: LatencyHistogram | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    requests_per_second: float | None = None
    drift: Mapping[str, DriftInput] = _NOTHING
    drift_score: float | None = None
    accuracy: float | None = None
    gpu_memory_mb: float | None = None
    device: str | None = None
