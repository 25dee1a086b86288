"""One minute of a version on a node: what is kept for 90 days, and what rules can be tried on again."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import Field

from fleetcast.events.content import Stored
from fleetcast.events.ids import Name, Version
from fleetcast.events.performance.drift import DriftInput
from fleetcast.events.performance.histogram import LatencyHistogram
from fleetcast.events.performance.snapshot import Snapshot, Weight

MINUTE_SECONDS: Final = 60


def minute_of(seconds: float) -> int:
    """The minute of a moment: minutes of the epoch."""
    return int(seconds // MINUTE_SECONDS)


def minute_subject(model: str, version: str, node: str, minute: int) -> str:
    """Where a minute is kept: the last one that was written holds."""
    key = hashlib.sha256(f"{version}\n{node}\n{minute}".encode()).hexdigest()[:24]
    return f"fc.min.{model}.{key}"


class Minute(Stored):
    """All snapshots of a version on a node that were stored within one minute.

    Attributes:
        minute: minutes of the epoch, by the stream's clock.
        slot: `production` or `canary`, as it was then; empty: neither.
        generation: of the slot order that held.
        snapshots: how many there were.
        requests: that they count as; `weights` says where the number comes from, in requests by `Weight`.
        errors, error_requests: failed requests, and the requests of the snapshots that said how many failed.
        ood, ood_requests: the same of requests out of distribution.
        latency: requests by latency bucket.
        reported_p95: snapshots by the bucket of the 95th percentile that they reported instead.
        reported_p50_ms, reported_p99_ms: greatest that was reported.
        drift: counts and reference by feature.
        drift_score, drift_requests: mean of the reported scores, by requests.
        accuracy: mean of the reported values, by requests.
    """

    schema_: int = Field(default=1, alias="schema")
    model: Name
    version: Version
    node: str
    minute: int
    slot: str = ""
    generation: int = 0
    snapshots: int = 0
    requests: float = 0.0
    weights: dict[str, float] = {}
    errors: float = 0.0
    error_requests: float = 0.0
    ood: float = 0.0
    ood_requests: float = 0.0
    latency: dict[int, int] = {}
    reported_p95: dict[int, int] = {}
    reported_p50_ms: float | None = None
    reported_p99_ms: float | None = None
    requests_per_second: float | None = None
    drift: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    drift_score: float | None = None
    drift_requests: float = 0.0
    accuracy: float | None = None
    gpu_memory_mb: float | None = None
    device: str | None = None

    @property
    def subject(self) -> str:
        """Where it is kept."""
        return minute_subject(self.model, self.version, self.node, self.minute)

    @property
    def at(self) -> str:
        """When it began, RFC 3339."""
        return datetime.fromtimestamp(self.minute * MINUTE_SECONDS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def error_rate(self) -> float | None:
        """Share of failed requests; None: nobody said."""
        return self.errors / self.error_requests if self.error_requests else None

    @property
    def ood_rate(self) -> float | None:
        """Share of requests out of distribution; None: nobody said."""
        return self.ood / self.ood_requests if self.ood_requests else None

    def latency_ms(self, share: float) -> float | None:
        """A percentile in milliseconds: of the histogram; without one the 95th is the median of the reported ones."""
        if self.latency:
            return LatencyHistogram(self.latency).percentile(share)
        if share == 0.95:
            return LatencyHistogram(self.reported_p95).percentile(0.5)
        return {0.5: self.reported_p50_ms, 0.99: self.reported_p99_ms}.get(share)

    def data(self) -> bytes:
        """As it is stored."""
        return self.model_dump_json(by_alias=True, exclude_defaults=True).encode()

    def as_snapshots(self) -> list[Snapshot]:
        """Snapshots that add up to it, stored at its end: to try rules on it again."""
        return _snapshots_of(self)


def read_minute(data: bytes) -> Minute:
    """A stored minute.

    Raises:
        ValueError: it is none.
    """
    return Minute.model_validate_json(data)


class OpenMinute:
    """A minute that is being counted."""

    __slots__ = (
        "_accuracy",
        "_accuracy_requests",
        "_drift_requests",
        "_drift_score",
        "_weights",
        "device",
        "drift",
        "error_requests",
        "errors",
        "generation",
        "gpu_memory_mb",
        "latency",
        "minute",
        "model",
        "node",
        "ood",
        "ood_requests",
        "p50",
        "p99",
        "reported",
        "requests",
        "rps",
        "slot",
        "snapshots",
        "version",
    )

    def __init__(self, model: str, version: str, node: str, minute: int, *, slot: str, generation: int) -> None:
        self.model, self.version, self.node, self.minute = model, version, node, minute
        self.slot, self.generation = slot, generation
        self.snapshots = 0
        self.requests = self.errors = self.error_requests = self.ood = self.ood_requests = 0.0
        self.latency = LatencyHistogram()
        self.reported: LatencyHistogram | None = None
        self.drift: dict[str, DriftInput] = {}
        self.p50: float | None = None
        self.p99: float | None = None
        self.rps: float | None = None
        self.gpu_memory_mb: float | None = None
        self.device: str | None = None
        self._weights: dict[Weight, float] = {}
        self._drift_score = self._drift_requests = self._accuracy = self._accuracy_requests = 0.0

    def add(self, snapshot: Snapshot, requests: float, weight: Weight) -> None:
        """Count a snapshot as so many *requests*."""
        self.snapshots += 1
        self.requests += requests
        self._weights[weight] = self._weights.get(weight, 0.0) + requests
        if snapshot.error_ratio is not None:
            self.errors += snapshot.error_ratio * requests
            self.error_requests += requests
        if snapshot.ood_ratio is not None:
            self.ood += snapshot.ood_ratio * requests
            self.ood_requests += requests
        if snapshot.latency is not None:
            self.latency.add(snapshot.latency)
        elif snapshot.latency_p95_ms is not None:
            self._add_reported(snapshot)
        self._add_rest(snapshot, requests)

    def _add_reported(self, snapshot: Snapshot) -> None:
        assert snapshot.latency_p95_ms is not None
        if self.reported is None:
            self.reported = LatencyHistogram()
        self.reported.count_one(snapshot.latency_p95_ms)
        self.p50 = _greater(self.p50, snapshot.latency_p50_ms)
        self.p99 = _greater(self.p99, snapshot.latency_p99_ms)

    def _add_rest(self, snapshot: Snapshot, requests: float) -> None:
        for name, binned in snapshot.drift.items():
            known = self.drift.get(name)
            self.drift[name] = binned if known is None else known.plus(binned)
        if snapshot.drift_score is not None:
            self._drift_score += snapshot.drift_score * requests
            self._drift_requests += requests
        if snapshot.accuracy is not None:
            self._accuracy += snapshot.accuracy * requests
            self._accuracy_requests += requests
        if snapshot.requests_per_second is not None:
            self.rps = snapshot.requests_per_second
        if snapshot.gpu_memory_mb is not None:
            self.gpu_memory_mb = _greater(self.gpu_memory_mb, snapshot.gpu_memory_mb)
        if snapshot.device is not None:
            self.device = snapshot.device

    @property
    def drift_total(self) -> tuple[float, float]:
        """Sum of the reported drift scores times requests, and those requests."""
        return self._drift_score, self._drift_requests

    def closed(self) -> Minute:
        """As a value: of what was counted so far."""
        return Minute(
            model=self.model,
            version=self.version,
            node=self.node,
            minute=self.minute,
            slot=self.slot,
            generation=self.generation,
            snapshots=self.snapshots,
            requests=_rounded(self.requests),
            weights={weight.value: _rounded(count) for weight, count in self._weights.items()},
            errors=_rounded(self.errors),
            error_requests=_rounded(self.error_requests),
            ood=_rounded(self.ood),
            ood_requests=_rounded(self.ood_requests),
            latency=dict(sorted(self.latency.buckets.items())),
            reported_p95=dict(sorted(self.reported.buckets.items())) if self.reported else {},
            reported_p50_ms=self.p50,
            reported_p99_ms=self.p99,
            requests_per_second=self.rps,
            drift={name: (binned.counts, binned.reference) for name, binned in self.drift.items()},
            drift_score=_mean(self._drift_score, self._drift_requests),
            drift_requests=_rounded(self._drift_requests),
            accuracy=_mean(self._accuracy, self._accuracy_requests),
            gpu_memory_mb=self.gpu_memory_mb,
            device=self.device,
        )


def _greater(known: float | None, new: float | None) -> float | None:
    return known if new is None else new if known is None else max(known, new)


def _rounded(value: float) -> float:
    """Without what adding up fractions leaves: two replays of one stream give the same bytes."""
    return round(value, 6)


def _mean(total: float, weight: float) -> float | None:
    return round(total / weight, 6) if weight else None


def _snapshots_of(minute: Minute) -> list[Snapshot]:
    stored_at = (minute.minute + 1) * MINUTE_SECONDS - 0.001
    place: dict[str, Any] = {"model": minute.model, "version": minute.version, "node": minute.node}
    made = [
        Snapshot(
            **place,
            id=f"{minute.subject}/counts",
            stored_at=stored_at,
            requests=round(minute.requests),
            weight=_main_weight(minute.weights),
            error_ratio=minute.error_rate,
            ood_ratio=minute.ood_rate,
            latency=LatencyHistogram(minute.latency) if minute.latency else None,
            drift={name: DriftInput(*binned) for name, binned in minute.drift.items()},
            drift_score=minute.drift_score,
            accuracy=minute.accuracy,
            gpu_memory_mb=minute.gpu_memory_mb,
            device=minute.device,
        )
    ]
    for bucket, count in minute.reported_p95.items():
        # Each report was one vote, and is one again.
        latency = LatencyHistogram({bucket: 1}).percentile(1)
        made += [
            Snapshot(
                **place, id=f"{minute.subject}/{bucket}/{n}", stored_at=stored_at, requests=1, latency_p95_ms=latency
            )
            for n in range(count)
        ]
    return made


def _main_weight(weights: Mapping[str, float]) -> Weight:
    return Weight(max(weights, key=lambda each: weights[each])) if weights else Weight.SINGLE
