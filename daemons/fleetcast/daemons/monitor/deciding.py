"""From what was counted of a version to what is said about it: once per change, with the cause and the remedy."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fleetcast.daemons.monitor.attribution import (
    CONFIDENCE,
    Attribution,
    Cause,
    one_node,
    rest_is_fine,
    together,
    version_or_surroundings,
)
from fleetcast.daemons.monitor.detector import Detector, Tally, chance_if_healthy
from fleetcast.daemons.monitor.measured import metrics, p95_ms, reported_drift
from fleetcast.daemons.monitor.policy import Mode
from fleetcast.daemons.monitor.signals import (
    DRIFT,
    ERROR_RATE,
    LATENCY,
    LATENCY_REPORTED,
    NODE_SIGNALS,
    OOD_RATE,
    SIGNALS,
    SNAPSHOTS,
    clock,
    counted_evidence,
    counted_sentence,
    drift_sentence,
    drift_words,
    seed_sentence,
    severity,
)
from fleetcast.daemons.monitor.verdicts import Remedy, VerdictEvent, rfc3339
from fleetcast.daemons.monitor.watch import VersionWatch
from fleetcast.events.incidents import Health, Severity, Verdict

Key = tuple[str, str | None]
"""Signal, and node; None: all nodes."""
SETTLE_SECONDS: Final = 60.0
"""Longest time that a breach waits for those who are needed to tell whose it is, and have not reported since it began:
nodes report once a minute or oftener, each at its own moment."""
_REMEDIES: Final = {Cause.VERSION: Remedy.ROLL_BACK, Cause.NODE: Remedy.DRAIN, Cause.ENVIRONMENT: Remedy.PAGE}


@dataclass(slots=True)
class Told:
    """What was last said of a trigger."""

    verdict: Verdict = Verdict.INSUFFICIENT
    severity: Severity | None = None
    remedy: Remedy = Remedy.NONE
    began_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Finding:
    """How a trigger stands, before it is compared with what was said."""

    key: Key
    verdict: Verdict
    required: str
    actual: str
    severity: Severity | None = None
    remedy: Remedy = Remedy.NONE
    began_at: float = 0.0
    samples: int = 0
    evidence: Mapping[str, Any] | None = None
    reasons: tuple[str, ...] = ()
    words: str = ""


@dataclass(frozen=True, slots=True)
class Settling:
    """What everybody had counted when a breach was found: requests and bad ones, by node, and by signal of the other
    version. What they count afterwards tells whose it is."""

    at: float
    nodes: Mapping[str, tuple[float, float]]
    other: Mapping[str, tuple[float, float]]

    def is_over(self, stream_time: float) -> bool:
        """Whether it is long enough ago to decide by what there is."""
        return stream_time - self.at >= SETTLE_SECONDS


class Deciding:
    """What was said of a version, and what is to be said now.

    Attributes:
        told: by trigger.
        settling: breaches that are found and not said yet, or were not to be said of a node.
    """

    def __init__(self, watch: VersionWatch) -> None:
        self.watch = watch
        self.told: dict[Key, Told] = {}
        self.settling: dict[Key, Settling] = {}
        self._blamed: dict[Key, Attribution] = {}
        # Nodes that a breach over all nodes was laid to, by signal, until it is over.
        self._explained: dict[str, set[str]] = {}
        # Nodes whose breach is a part of the version's, with their totals when that was over.
        self._covered: dict[Key, tuple[float, float]] = {}

    def decide(self, other: VersionWatch | None, stream_time: float) -> list[VerdictEvent]:
        """The events that follow from what was counted. *other*: the other version that is served."""
        changed = []
        for finding in self._findings(other, stream_time):
            told = self.told.get(finding.key)
            if told is None:
                told = self.told[finding.key] = Told()
            if _is_news(told, finding):
                changed.append((finding, told.verdict))
                self.told[finding.key] = Told(finding.verdict, finding.severity, finding.remedy, finding.began_at)
        return [self._event(finding, before, stream_time) for finding, before in changed]

    # -- findings

    def _findings(self, other: VersionWatch | None, stream_time: float) -> Iterator[Finding]:
        yield from self._silence(stream_time)
        for name, detector in self.watch.detectors.items():
            yield from self._of_all_nodes(name, detector, other, stream_time)
        for name in NODE_SIGNALS:
            yield from self._of_nodes(name, other, stream_time)
        yield from self._drift()

    def _silence(self, stream_time: float) -> Iterator[Finding]:
        watch, limit = self.watch, self.watch.policy.stale_after_seconds
        if not watch.last_at:
            return
        silent = stream_time - watch.last_at
        required = f"a snapshot at least every {limit:g} s"
        if silent > limit:
            actual = f"none since {rfc3339(watch.last_at)}, for {silent:.0f} s"
            reasons = (f"No snapshots: {actual}",)
            key = (SNAPSHOTS, None)
            yield Finding(
                key, Verdict.STALE, required, actual, Severity.LOW, Remedy.NONE, watch.last_at, reasons=reasons
            )
        else:
            yield Finding((SNAPSHOTS, None), Verdict.OK, required, f"the last one {silent:.0f} s ago")

    def _of_all_nodes(
        self, name: str, detector: Detector, other: VersionWatch | None, stream_time: float
    ) -> Iterator[Finding]:
        if detector.alarm is None:
            self.settling.pop((name, None), None)
            self._explained.pop(name, None)
            yield from self._plain((name, None), detector)
            return
        if not SIGNALS[name].rolls_back:
            yield self._breach(name, None, detector, Remedy.RETRAIN, "")
            return
        if self._is_explained(name, detector):
            return
        found = self._whose(name, detector, other, stream_time)
        if found is None:
            return
        self.settling.pop((name, None), None)
        if found.node is None:
            yield self._breach(name, None, detector, _REMEDIES[found.cause], found.words, found.numbers)
        elif self._verdict((name, None)) is not Verdict.BREACH:
            self.watch.nodes[found.node].detectors[name].accuse(detector.alarm)
            self._blamed[name, found.node] = found

    def _is_explained(self, name: str, detector: Detector) -> bool:
        """Whether the breach is that of nodes which it was laid to, even where they are well again by now: the others
        show no breach."""
        assert detector.alarm is not None
        if self._verdict((name, None)) is Verdict.BREACH or name not in self._explained:
            return False
        since = detector.alarm.tally.minute
        rest = together(self._counts(name, since, without=self._explained[name]).values(), since)
        return chance_if_healthy(detector.plan, rest) is None

    def _counts(self, name: str, since: int, *, without: Collection[str] = ()) -> dict[str, Tally]:
        """What nodes counted since a minute."""
        return {
            node.node: own.since(since)
            for node in self.watch.nodes.values()
            if node.node not in without and (own := node.detectors.get(name)) is not None
        }

    def _whose(
        self, name: str, detector: Detector, other: VersionWatch | None, stream_time: float
    ) -> Attribution | None:
        """Whose fault a breach is; None: it shows when others have reported, whom nobody heard since it was found."""
        assert detector.alarm is not None
        told = self.told.get((name, None))
        if told is not None and told.remedy is Remedy.ROLL_BACK:
            # It was acted upon: what is counted while versions change says nothing new.
            return Attribution(Cause.VERSION, "")
        since, limit = detector.alarm.tally.minute, detector.plan.limit
        settling = self._settle((name, None), other, stream_time)
        over = settling.is_over(stream_time) or (told is not None and told.verdict is Verdict.BREACH)
        nodes = self._counts(name, since, without=self._explained.get(name, ()))
        later = nodes if over else self._later(name, settling, nodes)
        shown = {node for node in nodes if any(each[node].lower(CONFIDENCE) > limit for each in (nodes, later))}
        complete = over or not self._late(later, shown, stream_time)
        blamed = one_node(nodes, later, since, limit, complete=complete)
        if blamed is not None:
            return blamed
        if not complete and len(shown) < 2:
            return None
        beside = other.detectors.get(name) if other is not None else None
        if other is None or beside is None or not self._is_recent(other.last_at, stream_time):
            return version_or_surroundings(together(nodes.values(), since), None, limit)
        counts = beside.since(since) if over else beside.after(settling.other.get(name, (0.0, 0.0)))
        if not counts.requests and not over:
            return None
        return version_or_surroundings(together(nodes.values(), since), (other.version, counts), limit)

    def _settle(self, key: Key, other: VersionWatch | None, stream_time: float) -> Settling:
        """What everybody had counted when a breach was found."""
        found = self.settling.get(key)
        if found is None:
            name = key[0]
            nodes = {n.node: own.totals for n in self.watch.nodes.values() if (own := n.detectors.get(name))}
            others = {name: own.totals for name, own in other.detectors.items()} if other is not None else {}
            found = self.settling[key] = Settling(stream_time, nodes, others)
        return found

    def _later(self, name: str, settling: Settling, nodes: Collection[str]) -> dict[str, Tally]:
        """What nodes counted since a breach was found."""
        detectors = {node: self.watch.nodes[node].detectors[name] for node in nodes}
        return {node: own.after(settling.nodes.get(node, (0.0, 0.0))) for node, own in detectors.items()}

    def _late(self, later: Mapping[str, Tally], shown: Collection[str], stream_time: float) -> list[str]:
        """Nodes that reported lately, and have not since the breach was found."""
        return [
            node
            for node, tally in later.items()
            if not tally.requests and node not in shown and self._is_recent(self.watch.nodes[node].last_at, stream_time)
        ]

    def _is_recent(self, last_at: float, stream_time: float) -> bool:
        return last_at > stream_time - self.watch.policy.stale_after_seconds

    def waits(self, stream_time: float) -> bool:
        """Whether a breach waits for others to report."""
        return any(not each.is_over(stream_time) for each in self.settling.values())

    def _of_nodes(self, name: str, other: VersionWatch | None, stream_time: float) -> Iterator[Finding]:
        if len(self.watch.nodes) < 2:
            return
        for node in self.watch.nodes.values():
            own = node.detectors.get(name)
            key = (name, node.node)
            if own is None or (own.alarm is None and key not in self.told):
                continue
            if own.alarm is None:
                for known in (self._blamed, self.settling, self._covered):
                    known.pop(key, None)
                yield from self._plain(key, own)
            elif self._is_its_own(name, node.node, own, other, stream_time):
                self.settling.pop(key, None)
                self._explained.setdefault(name, set()).add(node.node)
                blamed = self._blamed.get(key)
                words = (
                    blamed.words if blamed else f"the other {len(self.watch.nodes) - 1} nodes are not over the limit"
                )
                yield self._breach(name, node.node, own, Remedy.DRAIN, words, blamed.numbers if blamed else None)

    def _is_its_own(self, name: str, node: str, own: Detector, other: VersionWatch | None, stream_time: float) -> bool:
        """Whether a node's breach is to be said of the node: it was already; or the others are fine since it was found,
        and no more than a third of the nodes are at fault."""
        if self._verdict((name, node)) is Verdict.BREACH or (name, node) in self._blamed:
            return True
        if self._verdict((name, None)) is Verdict.BREACH:
            self._covered[name, node] = own.totals
        covered = self._covered.get((name, node))
        if own.alarm is None or (covered and chance_if_healthy(own.plan, own.after(covered)) is None):
            return False
        blamed = {
            key[1]
            for key, told in self.told.items()
            if key[0] == name and key[1] is not None and told.verdict is Verdict.BREACH
        }
        if 3 * len(blamed | {node}) > max(3, len(self.watch.nodes)):
            return False
        since, limit = own.alarm.tally.minute, own.plan.limit
        settling = self._settle((name, node), other, stream_time)
        rest = self._counts(name, since, without=blamed | {node})
        over = settling.is_over(stream_time)
        later = rest if over else self._later(name, settling, rest)
        complete = over or not self._late(later, (), stream_time)
        return rest_is_fine(together(later.values(), since), own.since(since), limit, complete=complete)

    def _drift(self) -> Iterator[Finding]:
        drift = self.watch.drift
        if drift is None or drift.worst is None:
            return
        if drift.verdict is self._verdict((DRIFT, None)) is not Verdict.BREACH:
            return
        feature, found = drift.worst
        actual = drift_words(feature, found)
        required = f"drift (KL) <= {drift.limit:g}"
        evidence = {"feature": feature, "kl": found.kl, "psi": found.psi, "error": found.error, "requests": found.size}
        if drift.verdict is not Verdict.BREACH:
            yield Finding((DRIFT, None), drift.verdict, required, actual, samples=found.size, evidence=evidence)
            return
        yield Finding(
            (DRIFT, None),
            Verdict.BREACH,
            required,
            actual,
            Severity.MEDIUM,
            Remedy.RETRAIN,
            self._began((DRIFT, None), 0.0) or self.watch.last_at,
            found.size,
            evidence,
            (drift_sentence(found.kl), actual),
        )

    def _verdict(self, key: Key) -> Verdict:
        told = self.told.get(key)
        return Verdict.INSUFFICIENT if told is None else told.verdict

    def _plain(self, key: Key, detector: Detector) -> Iterator[Finding]:
        """A trigger without a breach, where that is news: its bounds are not worth computing otherwise."""
        if detector.verdict is self._verdict(key):
            return
        tally = detector.tally
        yield Finding(
            key,
            detector.verdict,
            SIGNALS[key[0]].required(self.watch.policy),
            counted_sentence(key[0], tally),
            samples=round(tally.requests),
            evidence=counted_evidence(detector, tally),
        )

    def _breach(
        self,
        name: str,
        node: str | None,
        detector: Detector,
        remedy: Remedy,
        words: str,
        numbers: Mapping[str, Any] | None = None,
    ) -> Finding:
        assert detector.alarm is not None
        alarm = detector.alarm.tally
        now = detector.since(alarm.minute)
        tally = now if now.requests >= alarm.requests else alarm
        how_bad = max(severity(name, alarm, self.watch.policy), severity(name, tally, self.watch.policy), key=_rank)
        said = counted_sentence(name, tally)
        p95 = p95_ms(self.watch) if name in (LATENCY, LATENCY_REPORTED) else None
        seed = drift_sentence(reported_drift(self.watch) or 0.0)
        if name in (ERROR_RATE, OOD_RATE, LATENCY, LATENCY_REPORTED):
            seed = seed_sentence(name, tally.share, p95, self.watch.policy)
        return Finding(
            (name, node),
            Verdict.BREACH,
            SIGNALS[name].required(self.watch.policy),
            f"{said}; {words}" if words else said,
            Severity.CRITICAL if remedy is Remedy.PAGE else how_bad,
            remedy,
            # A minute is counted as a whole; nothing was bad before the version was there.
            self._began((name, node), max(60.0 * alarm.minute, self.watch.since)),
            round(tally.requests),
            counted_evidence(detector, tally) | dict(numbers or {}) | {"weights": _weights(self.watch)},
            (seed, said),
            words,
        )

    def _began(self, key: Key, now: float) -> float:
        told = self.told.get(key)
        return told.began_at if told is not None and told.verdict is Verdict.BREACH else now

    # -- events

    def _event(self, finding: Finding, before: Verdict, stream_time: float) -> VerdictEvent:
        watch, (signal, node) = self.watch, finding.key
        troubled = finding.severity is not None
        over = before in (Verdict.BREACH, Verdict.STALE) and not troubled
        where = f" on {node}" if node else ""
        return VerdictEvent(
            model=watch.model,
            version=watch.version,
            slot=watch.slot,
            signal=signal,
            node=node,
            verdict=finding.verdict,
            before=before,
            severity=finding.severity,
            health=self.health,
            at=stream_time,
            began_at=finding.began_at or stream_time,
            required=finding.required,
            actual=finding.actual,
            samples=finding.samples,
            generation=watch.generation,
            evidence=finding.evidence or {},
            remedy=finding.remedy,
            action=action(finding.remedy, watch.policy.mode),
            mode=watch.policy.mode.value,
            incident=troubled or over,
            reasons=finding.reasons,
            title=_title(watch, finding, where),
            description=_description(watch, finding, where),
            context=self._context(finding) if troubled else {},
            runbook=watch.policy.runbook,
        )

    def _context(self, finding: Finding) -> dict[str, Any]:
        """What seed 003 has in an incident's context, and the evidence."""
        found = metrics(self.watch, self.watch.policy.window_minutes)
        return {
            "model": self.watch.model,
            "model_version": self.watch.version,
            "deploy_status": self.watch.slot,
            "reasons": list(finding.reasons),
            "avg_error_rate": found["avg_error_rate"],
            "avg_ood_rate": found["avg_ood_rate"],
            "avg_latency_p95_ms": found["avg_latency_p95_ms"],
            "window_minutes": self.watch.policy.window_minutes,
            "cause": finding.words,
            "remedy": finding.remedy.value,
            "required": finding.required,
            "actual": finding.actual,
            **(finding.evidence or {}),
        }

    @property
    def health(self) -> Health:
        """The version's health, in the seed's words: critical where a breach may be cured by another version."""
        told = self.told
        breaches = [key for key, each in told.items() if each.verdict is Verdict.BREACH]
        if any(node is None and name in SIGNALS and SIGNALS[name].rolls_back for name, node in breaches):
            return Health.CRITICAL
        if breaches:
            return Health.DEGRADED
        if self._verdict((SNAPSHOTS, None)) is Verdict.STALE:
            return Health.UNKNOWN
        detectors = self.watch.detectors
        judged = [each for name, each in detectors.items() if SIGNALS[name].rolls_back] or list(detectors.values())
        fine = judged and all(each.verdict is Verdict.OK for each in judged)
        return Health.HEALTHY if fine else Health.UNKNOWN


def action(remedy: Remedy, mode: Mode) -> str:
    """What the mode makes of a remedy. People are told whatever the mode."""
    if remedy in (Remedy.NONE, Remedy.PAGE):
        return remedy.value
    if mode is Mode.OBSERVE:
        return "observe"
    return "ask" if mode is Mode.APPROVE and remedy in (Remedy.ROLL_BACK, Remedy.DRAIN) else remedy.value


def _is_news(told: Told, finding: Finding) -> bool:
    if finding.verdict is not told.verdict:
        return True
    if finding.verdict is not Verdict.BREACH:
        return False
    return _rank(finding.severity) > _rank(told.severity) or finding.remedy is not told.remedy


def _rank(severity: Severity | None) -> int:
    return -1 if severity is None else severity.rank


def _weights(watch: VersionWatch) -> dict[str, float]:
    return {weight.value: round(count, 3) for weight, count in watch.weights.items()}


def _title(watch: VersionWatch, finding: Finding, where: str) -> str:
    if finding.verdict is Verdict.STALE:
        return f"No snapshots of {watch.model}@{watch.version}"
    return f"Model performance degradation detected: {watch.model}@{watch.version}{where}"


def _description(watch: VersionWatch, finding: Finding, where: str) -> str:
    if finding.verdict is Verdict.STALE:
        return f"{watch.model}@{watch.version} ({watch.slot}): {finding.actual}"
    reasons = "".join(f"\n- {reason}" for reason in finding.reasons)
    cause = f"\n{finding.words}" if finding.words else ""
    began = clock(int(finding.began_at // 60)) if finding.began_at else "now"
    return (
        f"Model {watch.model} (v{watch.version}, {watch.slot}){where} triggered rollback conditions, since {began}:"
        f"{reasons}{cause}"
    )
