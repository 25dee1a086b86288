"""Events as one line for a person. Pure: an event goes in, text comes out; a line says who, what, and the number that
matters, never an event's body."""

from collections.abc import Mapping
from functools import singledispatch

from fleetcast.cli.units import clock, duration, rate, size
from fleetcast.events import decisions as d
from fleetcast.events import payloads as p
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


def _ways(transport: str) -> str:
    """`bittorrent, then aria2`: facts name the transports that brought bytes with a plus between them."""
    return ", then ".join(transport.split("+"))


@singledispatch
def _tell(payload: p.Payload, source: str) -> str:
    return f"{source}: {payload}"


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
def _brought(payload: p.DistributionOrdered, _source: str) -> str:
    until = f" until {payload.until}" if payload.until else ""
    return f"{payload.model}@{payload.version} of {payload.origin} is kept on {', '.join(payload.to)}{until}"


@_tell.register
def _removed(payload: p.VersionRemoved, _source: str) -> str:
    reason = f": {payload.reason}" if payload.reason else ""
    return f"{payload.node} removed {payload.model}@{payload.version}, {size(payload.bytes)}{reason}"


@_tell.register
def _exported(payload: p.ExportCompleted, source: str) -> str:
    counts = f"{payload.samples_new} new of {payload.samples_total} samples"
    return f"{source} exported {counts} of {payload.lane} to {payload.node}:{payload.path}"


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
def _started(payload: p.TransferStarted, _source: str) -> str:
    why = f" ({payload.reason})" if payload.reason else ""
    return f"{payload.node} fetches {payload.model}@{payload.version} by {payload.transport}{why}"


@_tell.register
def _moved(payload: p.TransferMoved, _source: str) -> str:
    kept = f"keeps {size(payload.bytes_kept)}" if payload.bytes_kept else "had nothing yet"
    change = f"from {payload.from_transport} to {payload.transport}"
    return f"{payload.node} moves {payload.model}@{payload.version} {change}, {kept}: {payload.reason or 'no reason'}"


@_tell.register
def _verified(payload: p.TransferVerified, _source: str) -> str:
    total = sum(payload.bytes_by_source.values())
    speed = f" at {rate(total / payload.seconds)}" if total and payload.seconds else ""
    origin = f": {sources(payload.bytes_by_source)}" if payload.bytes_by_source else ""
    what = f"{payload.model}@{payload.version}"
    took = f"in {duration(payload.seconds)}{speed}{origin}"
    return f"{payload.node} has proven {what} by {_ways(payload.transport)} {took}"


@_tell.register
def _failed(payload: p.TransferFailed, _source: str) -> str:
    what = f"{payload.model}@{payload.version} by {_ways(payload.transport)}"
    return f"{payload.node} could not fetch {what} after {duration(payload.seconds)}: {payload.reason or 'no reason'}"


@_tell.register
def _reserved(payload: p.VersionReserved, _source: str) -> str:
    what = f"{payload.model}@{payload.version}"
    return f"{payload.origin} gave {what} its content for ever: artifact {payload.artifact[:16]}"


@_tell.register
def _installed(payload: p.VersionInstalled, _source: str) -> str:
    checks = f"size {payload.checks.size}, sha256 {payload.checks.sha256}, format {payload.checks.format}"
    way = _NOT_FETCHED.get(payload.transport) or f"by {_ways(payload.transport)} in {duration(payload.seconds)}"
    return f"{payload.node} installed {payload.model}@{payload.version}, {size(payload.bytes)} {way}; {checks}"


@_tell.register
def _ordered(payload: p.SlotOrdered, _source: str) -> str:
    before = f", was {payload.previous}" if payload.previous else ""
    return f"{payload.slot} of {payload.model} is {payload.version}{before}, generation {payload.generation}"


@_tell.register
def _activated(payload: p.VersionActivated, _source: str) -> str:
    what = f"{payload.model}@{payload.version}"
    return f"{payload.node} serves {what} as {payload.slot}, generation {payload.generation}"


@_tell.register
def _damaged(payload: p.IntegrityFailed, _source: str) -> str:
    digests = f"expected {payload.expected[:16]}, found {payload.actual[:16]}"
    return f"{payload.node} holds damaged bytes of {payload.model}@{payload.version} in {payload.path}: {digests}"


@_tell.register
def _banned(payload: p.PeerBanned, _source: str) -> str:
    lost = f"{size(payload.bytes_wasted)} received in vain"
    return f"{payload.node} takes nothing more from {payload.peer} by {payload.transport}, {lost}: {payload.reason}"


@_tell.register
def _rejected(payload: p.EventRejected, _source: str) -> str:
    field = f" (field {payload.field})" if payload.field else ""
    winner = f"; winner: {payload.winner}" if payload.winner else ""
    return f"{payload.event} was refused: {payload.reason}{field}{winner}; next: {payload.next_step}"


@_tell.register
def _node_started(payload: p.NodeStarted, _source: str) -> str:
    return f"{payload.daemon} {payload.version} on {payload.node} is ready"


@_tell.register
def _node_stopped(payload: p.NodeStopped, _source: str) -> str:
    return f"{payload.daemon} on {payload.node} stopped in order"


@_tell.register
def _stage_changed(payload: d.StageChanged, _source: str) -> str:
    why = f", because: {payload.reason}" if payload.reason else ""
    change = f"from {payload.from_stage} to {payload.to_stage}"
    return f"{payload.model}@{payload.version} went {change}, by {payload.by}{why} (decision {payload.n})"


@_tell.register
def _promotion_refused(payload: d.PromotionRefused, _source: str) -> str:
    bad = [f"{g.gate}: {g.actual}, required {g.required}" for g in payload.gates if g.verdict != "pass"]
    numbers = f" ({'; '.join(bad[:3])}{'; …' if len(bad) > 3 else ''})" if bad else ""
    what = f"{payload.model}@{payload.version} was not let into {payload.stage}"
    return f"{what}: {payload.reason}{numbers} (decision {payload.n})"


@_tell.register
def _rollout_changed(payload: d.RolloutChanged, _source: str) -> str:
    share = f" on {payload.percent} % of the nodes" if payload.percent else ""
    reason = f": {payload.reason}" if payload.reason else ""
    return f"rollout of {payload.model}@{payload.version} to {payload.target} is {payload.phase}{share}{reason}"


@_tell.register
def _evidence_recorded(payload: d.EvidenceRecorded, _source: str) -> str:
    return f"{payload.by} said of {payload.model}@{payload.version}: {', '.join(payload.fields)}"


@_tell.register
def _approval_recorded(payload: d.ApprovalRecorded, _source: str) -> str:
    what = f"{payload.model}@{payload.version} goes to {payload.stage}"
    return f"{payload.by} agrees that {what}, until {payload.expires_at}"


@_tell.register
def _freeze_changed(payload: d.FreezeChanged, _source: str) -> str:
    whom = "all models" if payload.model.startswith("_") else payload.model
    until = f" until {payload.until}" if payload.until and payload.frozen else ""
    return f"{payload.by} {'froze' if payload.frozen else 'thawed'} {whom}{until}: {payload.reason}"


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
    return f"run {payload.run_id} ended epoch {payload.epoch}{took}{_metrics(payload.metrics)}"


@_tell.register
def _checkpoint_saved(payload: r.RunCheckpointSaved, _source: str) -> str:
    what = f"a checkpoint of epoch {payload.epoch}, {size(payload.size)}"
    return f"run {payload.run_id} saved {what}, at {payload.node}:{payload.path}"


@_tell.register
def _degraded(payload: r.RunDegraded, _source: str) -> str:
    device = f" on {payload.device}" if payload.device else ""
    return f"run {payload.run_id} is degraded{device} since epoch {payload.since_epoch}: {payload.reason}"


@_tell.register
def _fault_recorded(payload: r.RunFaultRecorded, _source: str) -> str:
    action = f"; {payload.action}" if payload.action else ""
    kind = f"{payload.fault_class} fault on {payload.node}"
    return f"run {payload.run_id} had a {kind} ({payload.signature}): {payload.reason}{action}"


@_tell.register
def _run_finished(payload: r.RunFinished, _source: str) -> str:
    reason = f": {payload.reason}" if payload.reason else ""
    return f"run {payload.run_id} ended, {payload.outcome}{reason}{_metrics(payload.metrics)}"


def _metrics(metrics: Mapping[str, float]) -> str:
    """The first five numbers of a run."""
    return "".join(f", {name} {value:g}" for name, value in list(metrics.items())[:5])
