"""What is counted of one version in a slot: over all its nodes, and of each node."""

from collections import deque
from collections.abc import Iterator
from typing import Final

from fleetcast.daemons.monitor.detector import Detector
from fleetcast.daemons.monitor.drift import DriftWatch, vote
from fleetcast.daemons.monitor.policy import ModelPolicy
from fleetcast.daemons.monitor.signals import (
    DRIFT_REPORTED,
    ERROR_RATE,
    LATENCY,
    LATENCY_REPORTED,
    NODE_SIGNALS,
    OOD_RATE,
    SIGNALS,
    slow_ms,
)
from fleetcast.events.performance import Minute, OpenMinute, Snapshot, Weight

MOST_SPACING_SECONDS: Final = 60.0
"""Longest time that a rate of requests without an interval is taken to hold for."""


class NodeWatch:
    """One node's part.

    Attributes:
        last_at: when its newest snapshot was stored.
        detectors: by signal.
        minutes: those of the window, oldest first; the last one may still be open.
    """

    __slots__ = ("_untold", "detectors", "last_at", "minutes", "node")

    def __init__(self, node: str) -> None:
        self.node = node
        self.last_at = 0.0
        self.detectors: dict[str, Detector] = {}
        self.minutes: deque[OpenMinute] = deque()
        self._untold: OpenMinute | None = None

    def weigh(self, snapshot: Snapshot) -> tuple[float, Weight]:
        """What a snapshot counts as, in requests, and why."""
        if snapshot.requests is not None:
            return float(snapshot.requests), snapshot.weight
        if snapshot.requests_per_second is not None and self.last_at:
            seconds = min(MOST_SPACING_SECONDS, max(0.0, snapshot.stored_at - self.last_at))
            return snapshot.requests_per_second * seconds, Weight.SPACED
        return 1.0, Weight.SINGLE

    def minute(self, watch: "VersionWatch", minute: int) -> OpenMinute:
        """The minute that is being counted."""
        if self._untold is None or self._untold.minute != minute:
            made = OpenMinute(
                watch.model, watch.version, self.node, minute, slot=watch.slot, generation=watch.generation
            )
            self.minutes.append(made)
            self._untold = made
        return self._untold

    def close(self, minute: int, window: int) -> Minute | None:
        """A minute began: the one that was counted before, if that is over; what left the window is forgotten."""
        while self.minutes and self.minutes[0].minute <= minute - window:
            self.minutes.popleft()
        if self._untold is None or self._untold.minute >= minute:
            return None
        closed, self._untold = self._untold.closed(), None
        return closed


class VersionWatch:
    """One version in a slot.

    Attributes:
        slot: `production` or `canary`.
        since: when it came there, stream time.
        last_at: when its newest snapshot was stored; 0: there was none.
        policy: the model's, with what the version says of its own latency.
        detectors: over all nodes, by signal.
        drift: of binned inputs; None: none came.
        nodes: by name.
        stale: whether it was said that nothing comes any more.
    """

    def __init__(
        self, model: str, version: str, slot: str, *, since: float, generation: int, policy: ModelPolicy
    ) -> None:
        self.model, self.version, self.slot = model, version, slot
        self.since, self.generation, self.policy = since, generation, policy
        self.last_at = 0.0
        self.detectors: dict[str, Detector] = {}
        self.drift: DriftWatch | None = None
        self.nodes: dict[str, NodeWatch] = {}
        self.stale = False
        self.weights: dict[Weight, float] = {}

    def is_warming(self, stream_time: float) -> bool:
        """Whether it is too early to judge."""
        return stream_time < self.since + self.policy.warm_up_seconds

    def expect(self, policy: ModelPolicy) -> None:
        """Another policy, or another expected latency: what was counted as slow is void."""
        if slow_ms(policy) != slow_ms(self.policy):
            for detectors in (self.detectors, *(node.detectors for node in self.nodes.values())):
                for name in (LATENCY, LATENCY_REPORTED):
                    detectors.pop(name, None)
        self.policy = policy

    def take(self, snapshot: Snapshot, minute: int) -> bool:
        """Count a snapshot; whether a verdict changed."""
        node = self.nodes.get(snapshot.node)
        if node is None:
            node = self.nodes[snapshot.node] = NodeWatch(snapshot.node)
        requests, weight = node.weigh(snapshot)
        node.minute(self, minute).add(snapshot, requests, weight)
        node.last_at = self.last_at = snapshot.stored_at
        if self.is_warming(snapshot.stored_at):
            return False
        self.weights[weight] = self.weights.get(weight, 0.0) + requests
        changed = False
        for name, count, bad in self._counts(snapshot, requests):
            changed |= self._count(name, node, snapshot.stored_at, count, bad)
        if snapshot.drift:
            self._drift().take(minute, snapshot.drift)
        return changed

    def _counts(self, snapshot: Snapshot, requests: float) -> Iterator[tuple[str, float, float]]:
        """Signal, counts, and the bad ones among them."""
        if requests:
            if snapshot.error_ratio is not None:
                yield ERROR_RATE, requests, snapshot.error_ratio * requests
            if snapshot.ood_ratio is not None:
                yield OOD_RATE, requests, snapshot.ood_ratio * requests
            if snapshot.drift_score is not None:
                yield DRIFT_REPORTED, *vote(snapshot.drift_score, requests, self.policy.drift)
        slow = slow_ms(self.policy)
        if slow == float("inf"):
            return
        if snapshot.latency is not None:
            yield LATENCY, float(snapshot.latency.total), float(snapshot.latency.slower_than(slow))
        elif snapshot.latency_p95_ms is not None and requests:
            yield LATENCY_REPORTED, 1.0, float(snapshot.latency_p95_ms > slow)

    def _count(self, name: str, node: NodeWatch, stream_time: float, count: float, bad: float) -> bool:
        detector = self.detectors.get(name) or self._detector(self.detectors, name)
        if detector is None:
            return False
        changed = detector.take(stream_time, count, bad)
        if name in NODE_SIGNALS:
            own = node.detectors.get(name) or self._detector(node.detectors, name)
            if own is not None:
                changed |= own.take(stream_time, count, bad)
        return changed

    def _detector(self, among: dict[str, Detector], name: str) -> Detector | None:
        plan = SIGNALS[name].plan(self.policy)
        if plan is None:
            return None
        made = among[name] = Detector(plan, self.policy.clear_windows)
        return made

    def _drift(self) -> DriftWatch:
        if self.drift is None:
            self.drift = DriftWatch(
                self.policy.drift,
                healthy_ratio=self.policy.healthy_ratio,
                per_year=self.policy.false_rollbacks_per_model_year,
                window=self.policy.window_minutes,
                clear_windows=self.policy.clear_windows,
            )
        return self.drift

    def tick(self, minute: int) -> list[Minute]:
        """A minute began: the minutes that are over."""
        for detector in self.detectors.values():
            detector.tick(minute)
        if self.drift is not None:
            self.drift.tick(minute)
        closed = []
        for node in self.nodes.values():
            for detector in node.detectors.values():
                detector.tick(minute)
            over = node.close(minute, self.policy.window_minutes)
            if over is not None:
                closed.append(over)
        return closed
