"""Events as one line for a person. Pure: an event goes in, text comes out; a line says who, what, and the number that
matters, never an event's body."""

from collections.abc import Mapping
from functools import singledispatch

from fleetcast.cli.sentences import listed, told, ways
from fleetcast.cli.units import clock, duration, rate, size
from fleetcast.events import decisions as d
from fleetcast.events import incidents as i
from fleetcast.events import payloads as p
from fleetcast.events import remedies as m
from fleetcast.events import runs as r
from fleetcast.events.envelope import Event


def line(event: Event) -> str:
    """`12:00:01.234 model.promoted  hex8_2p@43 …  01KAG…`: wall clock, type, what happened, and the event's id."""
    return f"{clock(event.time)}  {event.type.name:<18} {sentence(event)}  [{event.id}]"


def sentence(event: Event) -> str:
    """What happened, without time, type and id."""
    return printable(_tell(event.payload, event.source))


def printable(text: str) -> str:
    """*text* on one line and without control characters: what strangers wrote must not move the cursor."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def sources(bytes_by_source: Mapping[str, int]) -> str:
    """`41.0 MiB from node-1, 23.0 MiB from node-2`, largest first."""
    ordered = sorted(bytes_by_source.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{size(count)} from {node}" for node, count in ordered)


_NOT_FETCHED = {"origin": "of its own", "local": "that were here already", "none": "that were here already"}
"""Words for installs that needed no transfer."""


@singledispatch
def _tell(payload: p.Payload, source: str) -> str:
    return told(payload, source) or f"{source}: {payload}"


@_tell.register
def _submitted(payload: p.ModelSubmitted, source: str) -> str:
    asked = "asked to serve" if isinstance(payload, p.ModelPromoted) else "registered"
    reason = (payload.metadata or {}).get("reason")
    because = f", because: {reason}" if reason else ""
    return f"{source} {asked} {payload.model}@{payload.version} from {payload.node}:{payload.path}{because}"


@_tell.register
def _distribution(payload: p.DistributionRequested, source: str) -> str:
    reason = (payload.metadata or {}).get("reason")
    because = f", because: {reason}" if reason else ""
    what = f"{payload.model}@{payload.version}" if payload.version else payload.model
    return f"{source} asked to bring {what} from {payload.node}:{payload.path} to {', '.join(payload.to)}{because}"


@_tell.register
def _available(payload: p.ArtifactAvailable, _source: str) -> str:
    stated = payload.envelope.statement
    files, total = _amount(payload)
    amount = f"{size(total)} in {files} file{'s' if files > 1 else ''}"
    return f"{payload.origin.node} offers {stated.model}@{stated.version}, {amount}, artifact {payload.artifact[:16]}"


def _amount(payload: p.ArtifactAvailable) -> tuple[int, int]:
    """Files and bytes of what is offered, wherever its content lies."""
    if payload.content is not None:
        return len(payload.content.files), payload.content.size
    assert payload.content_ref is not None
    return payload.content_ref.files, payload.content_ref.bytes


@_tell.register
def _verified(payload: p.TransferVerified, _source: str) -> str:
    total = sum(payload.bytes_by_source.values())
    speed = f" at {rate(total / payload.seconds)}" if total and payload.seconds else ""
    origin = f": {sources(payload.bytes_by_source)}" if payload.bytes_by_source else ""
    what = f"{payload.model}@{payload.version}"
    took = f"in {duration(payload.seconds)}{speed}{origin}"
    return f"{payload.node} has proven {what} by {ways(payload.transport)} {took}"


@_tell.register
def _installed(payload: p.VersionInstalled, _source: str) -> str:
    checks = f"size {payload.checks.size}, sha256 {payload.checks.sha256}, format {payload.checks.format}"
    way = _NOT_FETCHED.get(payload.transport) or f"by {ways(payload.transport)} in {duration(payload.seconds)}"
    return f"{payload.node} installed {payload.model}@{payload.version}, {size(payload.bytes)} {way}; {checks}"


@_tell.register
def _promotion_refused(payload: d.PromotionRefused, _source: str) -> str:
    bad = [f"{g.gate}: {g.actual}, required {g.required}" for g in payload.gates if g.verdict != "pass"]
    numbers = f" ({'; '.join(bad[:3])}{'; …' if len(bad) > 3 else ''})" if bad else ""
    what = f"{payload.model}@{payload.version} was not let into {payload.stage}"
    return f"{what}: {payload.reason}{numbers} (decision {payload.n})"


@_tell.register
def _freeze_changed(payload: d.FreezeChanged, _source: str) -> str:
    whom = "all models" if payload.model.startswith("_") else payload.model
    until = f" until {payload.until}" if payload.until and payload.frozen else ""
    return f"{payload.by} {'froze' if payload.frozen else 'thawed'} {whom}{until}: {payload.reason}"


@_tell.register
def _incident_changed(payload: i.IncidentChanged, _source: str) -> str:
    known = (
        ("detected", payload.time_to_detect_seconds),
        ("mitigated", payload.time_to_mitigate_seconds),
        ("resolved", payload.time_to_resolve_seconds),
    )
    took = ", ".join(f"{name} after {duration(value)}" for name, value in known if value is not None)
    by = "" if payload.what in {"resolved", "mitigated", "severity"} else f" by {payload.by}"
    detail = f": {payload.detail}" if payload.detail else ""
    of = f"{payload.trigger} of {i.named(payload.resource_type, payload.resource_id, payload.version)}"
    grade = f" ({payload.severity})" if payload.what in {"severity", "reopened"} else ""
    change = _CHANGES.get(payload.what, f" {payload.what}")
    return f"incident {payload.incident} ({of}){change}{grade}{by}{detail} ({took})"


_CHANGES = {
    "acknowledged": " is looked after",
    "mitigating": " is being remedied",
    "mitigated": " is mitigated",
    "resolved": " is resolved",
    "reopened": " is open again",
    "severity": " has another severity",
    "note": ", note",
    "silenced": " is silenced",
    "unsilenced": " is told again",
    "flapping": " comes and goes",
}


@_tell.register
def _rollback_requested(payload: i.RollbackRequested, _source: str) -> str:
    left = f"@{payload.version}" if payload.version else ""
    to = f" to {payload.to}" if payload.to else ""
    incident = f", for {payload.incident}" if payload.incident else ""
    why = f": {listed(payload.reasons)}" if payload.reasons else ""
    return f"{payload.requested_by} asked that {payload.model}{left} go back{to}{incident}{why}"


@_tell.register
def _run_of_playbook(payload: m.PlaybookRunChanged, _source: str) -> str:
    about = i.named(payload.resource_type, payload.resource_id, payload.version)
    drill = "drill of " if payload.drill else ""
    settled = payload.step_seconds and payload.phase is m.RunPhase.RUNNING
    took = f" in {duration(payload.step_seconds)}" if settled and payload.outcome in _SETTLED else ""
    # What an earlier attempt said is no news of this one.
    new = payload.outcome is not m.StepOutcome.RUNNING or payload.phase is not m.RunPhase.RUNNING
    detail = f": {payload.detail}" if payload.detail and new else ""
    what = f"{drill}playbook {payload.playbook} ({payload.run}) on {about}"
    colon = ":" if payload.progress.startswith("step ") else ""
    return f"{what}{colon} {payload.progress}{took}{detail} ({duration(payload.seconds)} after the request)"


_SETTLED = frozenset({m.StepOutcome.SUCCEEDED, m.StepOutcome.FAILED})


@_tell.register
def _run_started(payload: r.RunStarted, _source: str) -> str:
    made = f" makes {payload.model}" if payload.model else ""
    data = f" from the data of {payload.lane}" if payload.lane else ""
    device = f", {payload.device}" if payload.device else ""
    code = f", code {payload.git_commit[:12]}" if payload.git_commit else ""
    return f"run {payload.run_id} on {payload.node}{made or ' trains'}{data}{device}{code}"


@_tell.register
def _epoch_logged(payload: r.RunEpochLogged, _source: str) -> str:
    took = f" in {duration(payload.seconds)}" if payload.seconds is not None else ""
    return f"run {payload.run_id} ended epoch {payload.epoch}{took}{_metrics(payload.metrics, payload.nonfinite)}"


@_tell.register
def _metrics_logged(payload: r.RunMetricsLogged, _source: str) -> str:
    return f"run {payload.run_id} is at step {payload.step}{_metrics(payload.metrics, payload.nonfinite)}"


@_tell.register
def _run_finished(payload: r.RunFinished, _source: str) -> str:
    reason = f": {payload.reason}" if payload.reason else ""
    return f"run {payload.run_id} ended, {payload.outcome}{reason}{_metrics(payload.metrics, payload.nonfinite)}"


def _metrics(metrics: Mapping[str, float], nonfinite: Mapping[str, str]) -> str:
    """The first five numbers of a run; before them those that are none."""
    shown = [*nonfinite.items(), *((name, f"{value:g}") for name, value in metrics.items())]
    return "".join(f", {name} {value}" for name, value in shown[:5])
