"""From events to what can be told: pure. A topic knows what it is about, since when, the numbers, what was done, and
what to type; an event that is worth a message makes its next step."""

import hashlib
import shlex
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from fleetcast.daemons.notifier.state import Step, Topic
from fleetcast.events.decisions import PromotionRefused
from fleetcast.events.event import Event
from fleetcast.events.incidents import (
    IncidentChanged,
    IncidentOpened,
    IncidentPhase,
    ResourceType,
    Severity,
    is_around,
)
from fleetcast.events.payloads import SlotOrdered
from fleetcast.events.remedies import ESCALATED, RUN_ENDED, PlaybookRunChanged, RunPhase
from fleetcast.registry.commands import stamp

EVENTS: Final = ("incident.opened", "incident.changed", "playbook.run.changed", "promotion.refused", "slot.ordered")
"""What is told of, by name."""
TOLD_CHANGES: Final = frozenset({"reopened", "acknowledged", "mitigated", "resolved", "flapping"})
"""Changes of an incident that are worth a message by themselves; the others stand in the next one."""
FRESH: Final = frozenset({"opened", "reopened", "worse", "unsilenced", "approval", "decided", *ESCALATED})
"""Steps that are told to whoever the routes name; the others only to those that know of the topic."""
STEPS, DONE, NUMBERS, WORDS = 10, 6, 5, 300
"""What a topic keeps at most: steps, things done, reasons, and characters of each."""
SEPARATE: Final = str.maketrans(dict.fromkeys([*range(32), *range(127, 160), 8232, 8233], " "))


def line(text: object, limit: int = WORDS) -> str:
    """*text* as one line of at most *limit* characters, without control characters: it comes from anywhere."""
    one = " ".join(str(text).translate(SEPARATE).split())
    return one if len(one) <= limit else one[: limit - 1] + "…"


def topic_of(event: Event) -> str | None:
    """Which topic an event belongs to; None: none that is told."""
    payload = event.payload
    if isinstance(payload, IncidentOpened | IncidentChanged):
        return payload.incident
    if isinstance(payload, PlaybookRunChanged):
        return None if payload.drill else payload.run
    if isinstance(payload, PromotionRefused | SlotOrdered):
        return f"dec-{hashlib.sha256(event.id.encode()).hexdigest()[:16]}"
    return None


def fold(topic: Topic | None, event: Event, *, sequence: int, at: datetime) -> tuple[Topic, str] | None:
    """The topic with *event* in it, and which step that made, empty for none; None: nothing changes.

    Args:
        topic: as it is kept; None: it is new.
        sequence: of the event in FC_EVENTS: one that is in the topic already changes nothing.
        at: when the stream took it.
    """
    if topic is not None and topic.seen >= sequence:
        return None
    payload, moment = event.payload, stamp(at)
    match payload:
        case IncidentOpened() | IncidentChanged():
            made, what, detail = _incident(topic, payload, sequence, moment)
        case PlaybookRunChanged() if topic is not None or payload.phase in ESCALATED | {RunPhase.APPROVAL}:
            made, what, detail = _run(topic, payload, sequence, moment)
        case PromotionRefused() | SlotOrdered():
            made, what, detail = _decision(payload, event, sequence, moment), "decided", ""
        case _:
            return None
    if what:
        step = Step(n=made.step + 1, what=what, at=moment, by=line(_by(payload), 80), detail=line(detail))
        made = made.model_copy(update={"step": step.n, "steps": (*made.steps, step)[-STEPS:]})
    return made, what


def _by(payload: Any) -> str:
    return getattr(payload, "by", "")


# -- incidents


def _incident(
    topic: Topic | None, payload: IncidentOpened | IncidentChanged, sequence: int, at: str
) -> tuple[Topic, str, str]:
    what = "opened" if isinstance(payload, IncidentOpened) else _change(topic, payload)
    detail = (payload.reason if isinstance(payload, IncidentOpened) else payload.detail or payload.reason) or ""
    old = topic or Topic(
        topic=payload.incident,
        kind="incidents",
        seen=0,
        title="",
        severity=payload.severity,
        phase="",
        subject=payload.resource_id,
        about=payload.resource_type,
        since=payload.opened_at,
        updated=at,
    )
    over = payload.phase is IncidentPhase.RESOLVED
    fields: dict[str, Any] = {
        "seen": sequence,
        "title": line(payload.title, 200),
        "severity": payload.severity,
        "phase": payload.phase.value,
        "version": payload.version or "",
        "trigger": payload.trigger,
        "source": line(payload.source, 80),
        "updated": at,
        "occurrences": payload.occurrences,
        "over": over,
        "acknowledged": payload.phase is IncidentPhase.ACKNOWLEDGED
        or (old.acknowledged and not over and what != "reopened")
        or (isinstance(payload, IncidentChanged) and payload.what == "acknowledged"),
        "silenced": payload.silenced,
        "look": f"fleetcast incident {shlex.quote(payload.incident)}",
        "command": _remedy(payload),
    }
    if isinstance(payload, IncidentOpened):
        fields["description"] = _description(payload)
        fields["numbers"] = _numbers(payload.context, payload.reason)
        fields["runbook"] = line(payload.runbook or "", 1000)
    elif payload.detail and payload.what in {"mitigating", "mitigated", "note", "resolved"}:
        fields["done"] = (*old.done, line(payload.detail))[-DONE:]
    if isinstance(payload, IncidentChanged) and not old.numbers and payload.reason:
        fields["numbers"] = (line(payload.reason),)
    return old.model_copy(update=fields), what, detail


def _description(payload: IncidentOpened) -> str:
    """What is said of it beside the sentences that its numbers are."""
    reasons = payload.context.get("reasons")
    said = {line(str(each)) for each in reasons} if isinstance(reasons, list | tuple) else set()
    lines = (line(each) for each in (payload.description or "").splitlines())
    return line(" ".join(each for each in lines if each.removeprefix("- ") not in said))


def _change(topic: Topic | None, payload: IncidentChanged) -> str:
    """Which step a change makes; empty: none."""
    if topic is not None and topic.silenced and not payload.silenced and payload.phase is not IncidentPhase.RESOLVED:
        return "unsilenced"
    if payload.what == "severity":
        return "worse" if topic is None or payload.severity.rank > topic.severity.rank else ""
    return payload.what if payload.what in TOLD_CHANGES else ""


def _numbers(context: dict[str, Any], reason: str | None) -> tuple[str, ...]:
    """The reasons, which are sentences with numbers; where there are none, the numbers by their names."""
    said = context.get("reasons")
    reasons = [line(each) for each in said] if isinstance(said, list | tuple) else []
    if not reasons and reason:
        reasons = [line(reason)]
    if not reasons:
        plain = {name: value for name, value in context.items() if isinstance(value, int | float | str)}
        reasons = [line(f"{name} {value}", 120) for name, value in plain.items()]
    return tuple(reasons[:NUMBERS])


_INPUTS: Final = frozenset({"ood_rate", "input_drift", "input_drift_reported"})
"""What no older version cures."""
_NO_ROLLBACK: Final = frozenset({"snapshots", "frozen", "environment", "rollout_halted", "hook_failed"})
"""What a rollback does not help against, or cannot: the runbook says what does."""


def _remedy(payload: IncidentOpened | IncidentChanged) -> tuple[str, str] | None:
    """The one command that acts, or that takes back what was done."""
    name, reason = shlex.quote(payload.resource_id), f"--reason {shlex.quote(payload.incident)}"
    mended = payload.phase in {IncidentPhase.MITIGATED, IncidentPhase.RESOLVED}
    if payload.trigger in _INPUTS and not mended:
        return "act", f"fleetcast playbook run retrain_requested {name} {reason}"
    if is_around(payload) or payload.trigger in _NO_ROLLBACK or payload.trigger in _INPUTS:
        return None
    if payload.resource_type is ResourceType.MODEL:
        if not mended:
            return "act", f"fleetcast rollback {name} {reason}"
        if payload.version:
            return "undo", f"fleetcast release {shlex.quote(f'{payload.resource_id}@{payload.version}')} {reason}"
    if payload.resource_type is ResourceType.NODE and not mended:
        return "act", f"fleetcast drain {name} {reason}"
    if payload.resource_type is ResourceType.NODE and payload.source == "monitor":
        # Only the monitor's have a remedy that is to be undone: a node that is heard again was not drained.
        return "undo", f"fleetcast undrain {name} {reason}"
    if payload.resource_type is ResourceType.CHANNEL and not mended:
        return "act", f"fleetcast notify test {name}"
    return None


# -- runs of playbooks


def _run(topic: Topic | None, payload: PlaybookRunChanged, sequence: int, at: str) -> tuple[Topic, str, str]:
    run, about = shlex.quote(payload.run), payload.resource_id
    version = f"@{payload.version}" if payload.version else ""
    waits, over = payload.phase is RunPhase.APPROVAL, payload.phase in RUN_ENDED - ESCALATED
    wording = "waits for your approval" if waits else payload.phase.value
    old = topic or Topic(
        topic=payload.run,
        kind="playbooks",
        seen=0,
        title="",
        severity=payload.severity,
        phase="",
        subject=about,
        about=payload.resource_type,
        since=at,
        updated=at,
    )
    fields: dict[str, Any] = {
        "seen": sequence,
        "title": line(f"{payload.playbook} for {about}{version}: {wording}", 200),
        "severity": payload.severity,
        "phase": payload.phase.value,
        "version": payload.version or "",
        "to": payload.to or "",
        "trigger": payload.phase.value,
        "source": payload.playbook,
        "updated": at,
        "over": over,
        "command": _answer(payload, run),
        "look": f"fleetcast playbook show {run}",
    }
    if payload.reasons:
        fields["numbers"] = tuple(line(each) for each in payload.reasons[:NUMBERS])
    if payload.detail and payload.phase is not RunPhase.APPROVAL:
        fields["done"] = (*old.done, line(payload.detail))[-DONE:]
    what = ""
    if payload.phase.value != old.phase:
        went_on = payload.phase is RunPhase.RUNNING and old.phase == RunPhase.APPROVAL
        what = "approved" if went_on else "" if payload.phase in {RunPhase.RUNNING, RunPhase.WAITING} else payload.phase
    # Once it was approved nobody is needed any more, unless it fails.
    fields["over"] = over or payload.phase in {RunPhase.RUNNING, RunPhase.WAITING}
    return old.model_copy(update=fields), str(what), payload.detail


def _answer(payload: PlaybookRunChanged, run: str) -> tuple[str, str] | None:
    if payload.phase is RunPhase.APPROVAL:
        return "approve", f"fleetcast playbook approve {run} --reason {shlex.quote(payload.incident or payload.run)}"
    if payload.phase in ESCALATED and payload.resource_type is ResourceType.MODEL:
        reason = shlex.quote(payload.incident or payload.run)
        return "act", f"fleetcast rollback {shlex.quote(payload.resource_id)} --reason {reason}"
    return None


# -- decisions


def _decision(payload: PromotionRefused | SlotOrdered, event: Event, sequence: int, at: str) -> Topic:
    model = shlex.quote(payload.model)
    version = f"{payload.model}@{payload.version}"
    fields: dict[str, Any]
    if isinstance(payload, PromotionRefused):
        fields = {
            "title": f"{version} was not let into {payload.stage}",
            "phase": "refused",
            "numbers": _gates(payload),
            "look": f"fleetcast why {model}",
        }
    else:
        before = f" instead of {payload.previous}" if payload.previous else ""
        fields = {"title": f"{version} is served as {payload.slot}{before}", "phase": "ordered"}
        fields["look"] = f"fleetcast why {model}"
        if payload.previous:
            back = f"fleetcast rollback {model} --to {shlex.quote(payload.previous)} --reason TEXT"
            fields["command"] = ("undo", back)
    topic = topic_of(event)
    assert topic is not None
    return Topic(
        topic=topic,
        kind="decisions",
        seen=sequence,
        severity=Severity.MEDIUM,
        subject=payload.model,
        about=ResourceType.MODEL,
        version=payload.version,
        source="registry",
        since=at,
        updated=at,
        over=True,
        **{**fields, "title": line(fields["title"], 200)},
    )


def _gates(payload: PromotionRefused) -> tuple[str, ...]:
    bad: Sequence[Any] = [gate for gate in payload.gates if gate.verdict != "pass"]
    said = [line(f"{g.gate} {g.verdict}: {g.actual}, required {g.required}") for g in bad]
    return tuple([line(payload.reason), *said][:NUMBERS])
