"""One sentence for each kind of event, as a table: what a person reads in `events`, `why`, and the demo.

A sentence names fields of the payload, `{about}`, the resource of an incident, and `{source}`, who emitted it:
`{bytes:size}` is written as `_FORMS` says. What stands in brackets is said only where all of its fields have a value;
after a bar stands what is said otherwise: `[, because: {reason}]`, `[keeps {bytes_kept:size}|had nothing yet]`. Events
whose sentence takes more than that are told in `narrate`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from string import Formatter
from typing import Any, Final

from fleetcast.cli.units import counted, duration, size
from fleetcast.events import backups as b
from fleetcast.events import decisions as d
from fleetcast.events import hooks as h
from fleetcast.events import incidents as i
from fleetcast.events import letters as w
from fleetcast.events import notices as n
from fleetcast.events import payloads as p
from fleetcast.events import remedies as m
from fleetcast.events import runs as r
from fleetcast.events import training as t

_PART = re.compile(r"\[([^\]]*)\]")


def ways(transport: str) -> str:
    """`bittorrent, then aria2`: facts name the transports that brought bytes with a plus between them."""
    return ", then ".join(transport.split("+"))


def _reasons(context: Mapping[str, Any]) -> str:
    """The sentences that an incident was raised with."""
    reasons = context.get("reasons")
    return listed(reasons) if isinstance(reasons, list | tuple) else ""


def listed(values: Iterable[object]) -> str:
    """The first three, parted by semicolons."""
    told = [str(each) for each in values]
    return "; ".join([*told[:3], *(["…"] if len(told) > 3 else [])])


_FORMS: Final[Mapping[str, Callable[[Any], str]]] = {
    "size": size,
    "duration": duration,
    "ways": ways,
    "short": lambda digest: str(digest)[:16],
    "names": ", ".join,
    "ratio": lambda share: f"{share:.2f}",
    "listed": listed,
    "reasons": _reasons,
    "promotions": partial(counted, noun="promotion"),
    "rollbacks": partial(counted, noun="rollback"),
    "false alarms": partial(counted, noun="false alarm"),
    "verdict": lambda verdict: "in breach" if verdict is i.Verdict.BREACH else str(verdict),
    "words": lambda name: str(name).replace("_", " "),
    "amount": lambda number: f"{number:,g}",
    "if": lambda _: "",
}
"""How a value is written; `if` writes nothing, and only has to have a value."""

_VERSION: Final = "{model}@{version}"
_ABOUT: Final = "{about}"

SENTENCES: Final[Mapping[type[p.Payload], str]] = {
    p.DistributionOrdered: f"{_VERSION} of {{origin}} is kept on {{to:names}}[ until {{until}}]",
    p.VersionRemoved: f"{{node}} removed {_VERSION}, {{bytes:size}}[: {{reason}}]",
    p.ExportCompleted: "{source} exported {samples_new} new of {samples_total} samples of {lane} to {node}:{path}",
    p.TransferStarted: f"{{node}} fetches {_VERSION} by {{transport}}[ ({{reason}})]",
    p.TransferMoved: f"{{node}} moves {_VERSION} from {{from_transport}} to {{transport}}, "
    "[keeps {bytes_kept:size}|had nothing yet]: [{reason}|no reason]",
    p.TransferFailed: f"{{node}} could not fetch {_VERSION} by {{transport:ways}} after {{seconds:duration}}: "
    "[{reason}|no reason][{final:if}; it is not fetched again by itself]",
    p.VersionReserved: f"{{origin}} gave {_VERSION} its content for ever: artifact {{artifact:short}}",
    p.SlotOrdered: "{slot} of {model} is {version}[, was {previous}], generation {generation}",
    p.VersionActivated: f"{{node}} serves {_VERSION} as {{slot}}, generation {{generation}}[; hook {{hook}}]",
    h.HookFailed: f"{{node}}: hook of {_VERSION} (attempt {{attempt}}, {{occasion}}) failed after "
    "{seconds:duration}: {error}",
    h.HookRecovered: f"{{node}}: hook of {_VERSION} worked at attempt {{attempts}}",
    p.IntegrityFailed: f"{{node}} holds damaged bytes of {_VERSION} in {{path}}: "
    "expected {expected:short}, found {actual:short}",
    p.PeerBanned: "{node} takes nothing more from {peer} by {transport}, {bytes_wasted:size} received in vain: "
    "{reason}",
    p.EventRejected: "{event} was refused: {reason}[ (field {field})][; winner: {winner}]; next: {next_step}",
    p.NodeStarted: "{daemon} {version} on {node} is ready",
    p.NodeStopped: "{daemon} on {node} stopped in order",
    d.StageChanged: f"{_VERSION} went from {{from_stage}} to {{to_stage}}, by {{by}}[, because: {{reason}}] "
    "(decision {n})",
    d.RolloutChanged: f"rollout of {_VERSION} to {{target}} is {{phase}}[ on {{percent}} % of the nodes][: {{reason}}]",
    d.EvidenceRecorded: f"{{by}} said of {_VERSION}: {{fields:names}}",
    d.ApprovalRecorded: f"{{by}} agrees that {_VERSION} goes to {{stage}}, until {{expires_at}}",
    d.ArchiveChanged: f"archive: {_VERSION} is {{phase}} on {{node}} by rule {{rule}}, by {{by}}[: {{reason}}]",
    d.TrustChanged: "{model} is trusted with {score:ratio} ({score_low:ratio} to {score_high:ratio}): "
    "{promotions:promotions}, {rollbacks:rollbacks}, {false_alarms:false alarms} (decision {n})",
    d.DrainChanged: "{by} took {node} [out of service{drained:if}|back into service][{drained:if} until {until}]: "
    "{reason}",
    r.RunCheckpointSaved: "run {run_id} saved a checkpoint of epoch {epoch}, {size:size}, at {node}:{path}",
    r.RunDegraded: "run {run_id} is degraded[ on {device}] since epoch {since_epoch}: {reason}",
    t.LaneTriggered: "{requested_by} asked lane {lane} for a run: {reason}",
    t.LaneChanged: "lane {lane}: {what:words}[, run {run}][: {detail}]; {tokens:amount} of {required:amount} samples "
    "in its bucket",
    t.RunMoved: "run {run_id} of lane {lane} is {phase}[ on {node} ({device})][, claim {claim}][: {detail}]",
    t.RunFellBack: "run {run_id} left {from_device} of {node} for {to_device}: {reason}; {remedial_action}"
    "[; {guidance}]",
    t.RunReturned: "run {run_id} is back on {to_device} of {node}[, after {degraded_seconds:duration} on "
    "{from_device}]",
    t.RunNodeAllowed: "{by} lets run {run_id} go to {node} again: {reason}",
    t.NodeQuarantined: "{node} gets[{quarantined:if} no] training runs[ until {until}]: {reason}",
    t.ReclaimNotice: "{node}'s machine is to be taken away at {deadline} ({source})",
    r.RunFaultRecorded: "run {run_id} had a fault of class {fault_class} on {node} ({signature}): {reason}[; {action}]",
    i.IncidentRaised: f"{{source}} raised {{trigger}} of {_ABOUT}, {{severity}}: {{title}}[ ({{context:reasons}})]",
    i.IncidentCleared: f"{{source}} cleared {{trigger}} of {_ABOUT}: {{reason}}",
    i.IncidentOpened: "incident {incident} opened, {severity}: {title}[: {reason}][{silenced:if}; silenced]"
    "[; see {runbook}]",
    i.RetrainRequested: "a new training of {model}[@{version}][ by lane {lane}] is asked for[: {reasons:listed}]",
    i.VerdictChanged: f"{{signal}} of {_VERSION}[ on {{node}}] as {{slot}} is {{verdict:verdict}}[, was "
    "{before:verdict}][, {severity}]: {actual}, required {required} ({samples} requests); the model is {health}, "
    "action {action} in mode {mode}",
    m.PlaybookRequested: f"{{requested_by}} asked for playbook {{playbook}} on {_ABOUT}[ because of {{incident}}]"
    "[: {reasons:listed}]",
    b.BackupTaken: "{node} wrote backup {backup}: {streams} streams, {messages:amount} messages, "
    "{records:amount} records of decisions, in {seconds:duration}",
    w.LetterSettled: "{by} {outcome} dead letter {number} of {consumer}[, {subject}][: {reason}]",
    n.NotificationFailed: "{kind} channel {channel} could not tell {title}, {attempts} attempts since {since}: "
    "{reason}; next: {next_step}",
}


class _Teller(Formatter):
    """Writes the fields of one event."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def tell(self, template: str) -> str:
        """The sentence of *template*."""
        return self.vformat(_PART.sub(self._part, template), (), self._values)

    def format_field(self, value: Any, format_spec: str) -> Any:
        return _FORMS[format_spec](value) if format_spec else super().format_field(value, "")

    def _part(self, found: re.Match[str]) -> str:
        said, _, otherwise = found[1].partition("|")
        fields = [(name, spec) for _, name, spec, _ in self.parse(said) if name]
        return said if all(self._has(name, spec or "") for name, spec in fields) else otherwise

    def _has(self, name: str, spec: str) -> bool:
        value = self._values[name]
        # A form may write nothing of a value that is there.
        return bool(value) and (spec == "if" or spec not in _FORMS or bool(_FORMS[spec](value)))


def told(payload: p.Payload, source: str) -> str | None:
    """The sentence about *payload*, emitted by *source*; None: the table has none."""
    template = SENTENCES.get(type(payload))
    if template is None:
        return None
    own = {name: getattr(payload, name) for name in type(payload).model_fields}
    if isinstance(payload, i.AboutResource | m.PlaybookRequested):
        own["about"] = i.named(payload.resource_type, payload.resource_id, payload.version)
    # What an incident's source says of itself is in the payload; everybody else is named by the envelope.
    return _Teller({"source": source} | own).tell(template)
