"""What facts mean for incidents: which of them say that something is wrong, and which that it is over. Pure.

Whatever notices something says `incident.raised`; these are the facts that say so without that word.
"""

import re
from functools import singledispatch
from typing import Any, Final

from fleetcast.daemons.remedy.incidents.rules import Cleared, Raised, Said
from fleetcast.events import decisions as d
from fleetcast.events import hooks as h
from fleetcast.events import payloads as p
from fleetcast.events import runs as r
from fleetcast.events import training as t
from fleetcast.events.envelope import Event
from fleetcast.events.incidents import IncidentCleared, IncidentRaised, ResourceType, Severity
from fleetcast.events.lifecycle import Phase
from fleetcast.events.names import CATALOGUE
from fleetcast.events.runs import FaultClass, RunOutcome

TRANSFER_TRIES: Final = 3
"""A transfer that failed so often is worth a look; before that it is tried again by itself."""

News = Raised | Cleared


def news_of(event: Event, said: Said) -> tuple[News, ...]:
    """What *event* says about incidents; nothing: it says nothing about any."""
    return _news(event.payload, said)


def subjects() -> tuple[str, ...]:
    """Subjects of all events that say something about incidents."""
    told = set(_news.registry) - {object, p.Payload}
    return tuple(subject for entry in CATALOGUE if entry.payload in told for subject in entry.filters())


@singledispatch
def _news(_payload: p.Payload, _said: Said) -> tuple[News, ...]:
    return ()


@_news.register
def _raised(payload: IncidentRaised, said: Said) -> tuple[News, ...]:
    return (Raised(about=payload, said=said),)


@_news.register
def _cleared(payload: IncidentCleared, said: Said) -> tuple[News, ...]:
    return (Cleared(about=payload, said=said),)


@_news.register
def _damaged(payload: p.IntegrityFailed, said: Said) -> tuple[News, ...]:
    what = f"{payload.model}@{payload.version}"
    reason = f"{payload.path} of {what} should be {payload.expected[:16]}, and is {payload.actual[:16]}"
    about = _wrong(
        _integrity(payload.node),
        Severity.HIGH,
        title=f"{payload.node}: damaged bytes on the disk",
        reason=reason,
        node=payload.node,
        model=payload.model,
        version=payload.version,
        path=payload.path,
        expected=payload.expected,
        actual=payload.actual,
        source=payload.source,
    )
    return (Raised(about=about, said=said, affected=what),)


@_news.register
def _failed(payload: p.TransferFailed, said: Said) -> tuple[News, ...]:
    what = f"{payload.model}@{payload.version}"
    final = payload.final
    about = _wrong(
        _transfer(payload),
        Severity.HIGH if final else Severity.LOW,
        title=f"{what} is refused by the nodes" if final else f"{what} cannot be fetched",
        reason=f"{payload.node}: {payload.reason or 'no reason'}",
        node=payload.node,
        transport=payload.transport,
        artifact=payload.artifact,
        tried_again=not final,
    )
    worse_after = None if final else TRANSFER_TRIES
    return (Raised(about=about, said=said, affected=payload.node, worse_after=worse_after),)


@_news.register(p.VersionInstalled)
@_news.register(p.VersionRemoved)
def _settled(payload: p.VersionInstalled | p.VersionRemoved, said: Said) -> tuple[News, ...]:
    what = f"{payload.model}@{payload.version}"
    verb = "proven and installed" if isinstance(payload, p.VersionInstalled) else "removed"
    reason = f"{what} is {verb} on {payload.node}"
    return (
        Cleared(about=_over(_integrity(payload.node), reason), said=said, affected=what),
        Cleared(about=_over(_transfer(payload), reason), said=said, affected=payload.node),
    )


@_news.register
def _hook_failed(payload: h.HookFailed, said: Said) -> tuple[News, ...]:
    about = _wrong(
        _hook(payload),
        Severity.HIGH,
        title=f"{payload.model}: the hook fails, so that servers may not know what is served",
        reason=f"{payload.node}, {payload.version}, attempt {payload.attempt}: {payload.error}",
        node=payload.node,
        version=payload.version,
        attempt=payload.attempt,
        error=payload.error,
        output=payload.output,
    )
    return (Raised(about=about, said=said, affected=payload.node),)


@_news.register
def _hook_recovered(payload: h.HookRecovered, said: Said) -> tuple[News, ...]:
    reason = f"the hook worked on {payload.node} at attempt {payload.attempts}"
    return (Cleared(about=_over(_hook(payload), reason), said=said, affected=payload.node),)


@_news.register
def _activated(payload: p.VersionActivated, said: Said) -> tuple[News, ...]:
    if payload.hook is None or not payload.hook.startswith("ok"):
        return ()
    reason = f"the hook of {payload.version} worked on {payload.node}"
    return (Cleared(about=_over(_hook(payload), reason), said=said, affected=payload.node),)


@_news.register
def _rollout(payload: d.RolloutChanged, said: Said) -> tuple[News, ...]:
    def model(trigger: str) -> dict[str, Any]:
        return _key("registry", ResourceType.MODEL, payload.model, trigger)

    halted, frozen = payload.phase is Phase.HALTED, payload.phase is Phase.FROZEN
    reason = f"the rollout of {payload.version} is {payload.phase}"
    if halted or frozen:
        about = _wrong(
            model("frozen" if frozen else "rollout_halted"),
            Severity.CRITICAL if frozen else Severity.MEDIUM,
            title=f"{payload.model}: no good version is left"
            if frozen
            else f"{payload.model}: the rollout of {payload.version} has halted",
            reason=payload.reason or reason,
            version=payload.version,
            rollout=payload.rollout,
            percent=payload.percent,
        )
        return (Raised(about=about, said=said),)
    over = [Cleared(about=_over(model("rollout_halted"), reason), said=said)]
    if payload.phase in {Phase.PROMOTED, Phase.ROLLED_BACK}:
        over.append(Cleared(about=_over(model("frozen"), reason), said=said))
    return tuple(over)


@_news.register
def _ordered(payload: p.SlotOrdered, said: Said) -> tuple[News, ...]:
    if payload.slot != "production":
        return ()
    about = _key("registry", ResourceType.MODEL, payload.model, "frozen")
    return (Cleared(about=_over(about, f"production is {payload.version} now"), said=said),)


_RUN_SEVERITY: Final = {FaultClass.PREEMPTED: Severity.LOW}


@_news.register
def _fault(payload: r.RunFaultRecorded, said: Said) -> tuple[News, ...]:
    about = _wrong(
        _run(payload, "run_fault"),
        _RUN_SEVERITY.get(payload.fault_class, Severity.MEDIUM),
        title=f"training run {payload.run_id}: {payload.fault_class} fault",
        reason=_fault_said(payload),
        node=payload.node,
        fault_class=payload.fault_class.value,
        signature=payload.signature,
        done=payload.action,
    )
    if not payload.spent:
        return (Raised(about=about, said=said),)
    goes_on = payload.remedy == t.Remedy.CPU
    tries = f"training run {payload.run_id} has used up its tries for {payload.fault_class} faults"
    spent = _wrong(
        _run(payload, "retry_budget_spent"),
        # On the CPU it makes its model all the same, only later.
        Severity.MEDIUM if goes_on else Severity.HIGH,
        title=f"{tries}, and goes on on the CPU" if goes_on else tries,
        reason=_fault_said(payload),
        node=payload.node,
        fault_class=payload.fault_class.value,
        signature=payload.signature,
        remedy=payload.remedy,
        guidance=payload.guidance or None,
    )
    return (Raised(about=about, said=said), Raised(about=spent, said=said))


def _fault_said(payload: r.RunFaultRecorded) -> str:
    """The reason, after the signature where that does not begin it anyway."""
    named = payload.reason.startswith(payload.signature)
    return payload.reason if named else f"{payload.signature}: {payload.reason}"


@_news.register
def _fell_back(payload: t.RunFellBack, said: Said) -> tuple[News, ...]:
    return (Raised(about=of_fallback(payload), said=said),)


def of_fallback(payload: t.RunFellBack, *, slower: str | None = None) -> IncidentRaised:
    """What is wrong with a run that fell back; *slower*: how much longer it takes, once that is known."""
    return _wrong(
        _run(payload, "run_fallback"),
        Severity.MEDIUM,
        title=f"training run {payload.run_id} goes on on {payload.to_device}, not on {payload.from_device}",
        reason=payload.reason,
        node=payload.node,
        lane=payload.lane,
        done=payload.remedial_action,
        guidance=payload.guidance or None,
        slower=slower,
    )


@_news.register
def _returned(payload: t.RunReturned, said: Said) -> tuple[News, ...]:
    reason = f"it is back on {payload.to_device} of {payload.node}"
    over = (_over(_run(payload, trigger), reason) for trigger in ("run_fallback", "run_degraded"))
    return tuple(Cleared(about=each, said=said) for each in over)


@_news.register
def _quarantined(payload: t.NodeQuarantined, said: Said) -> tuple[News, ...]:
    key = _key("trainer", ResourceType.NODE, payload.node, "node_quarantined")
    if not payload.quarantined:
        return (Cleared(about=_over(key, payload.reason), said=said),)
    what = "its GPUs get no training runs" if payload.gpu else "it gets no training runs"
    about = _wrong(
        key,
        Severity.MEDIUM,
        title=f"{payload.node}: {what} until {payload.until}",
        reason=payload.reason,
        node=payload.node,
        run=payload.run,
        fault_class=payload.fault_class.value if payload.fault_class else None,
        signature=payload.signature,
        by=payload.by or None,
    )
    return (Raised(about=about, said=said),)


@_news.register
def _degraded(payload: r.RunDegraded, said: Said) -> tuple[News, ...]:
    about = _wrong(
        _run(payload, "run_degraded"),
        Severity.LOW,
        title=f"training run {payload.run_id} is degraded",
        reason=payload.reason,
        node=payload.node,
        device=payload.device,
        since_epoch=payload.since_epoch,
    )
    return (Raised(about=about, said=said),)


@_news.register(r.RunEpochLogged)
@_news.register(r.RunCheckpointSaved)
def _goes_on(payload: r.RunEpochLogged | r.RunCheckpointSaved, said: Said) -> tuple[News, ...]:
    reason = f"it trains again: epoch {payload.epoch}"
    return (Cleared(about=_over(_run(payload, "run_fault"), reason), said=said),)


@_news.register
def _finished(payload: r.RunFinished, said: Said) -> tuple[News, ...]:
    reason = f"it ended, {payload.outcome}"
    # Of a run that failed, `run_failed` and the tries that were used up stay; its faults are their story.
    ended = (_over(_run(payload, trigger), reason) for trigger in ("run_fault", "run_degraded", "run_fallback"))
    over: list[News] = [Cleared(about=each, said=said) for each in ended]
    if payload.outcome is not RunOutcome.FAILED:
        return (*over, Cleared(about=_over(_run(payload, "retry_budget_spent"), reason), said=said))
    about = _wrong(
        _run(payload, "run_failed"),
        Severity.MEDIUM,
        title=f"training run {payload.run_id} failed",
        reason=payload.reason or reason,
        node=payload.node,
    )
    return (*over, Raised(about=about, said=said))


# -- what they are about


def _key(source: str, kind: ResourceType, resource: str, trigger: str, version: str | None = None) -> dict[str, Any]:
    return {
        "source": source,
        "resource_type": kind,
        "resource_id": resource,
        "trigger": trigger,
        "version": version,
    }


def _integrity(node: str) -> dict[str, Any]:
    return _key("distributor", ResourceType.NODE, node, "integrity_failed")


def _transfer(payload: p.TransferFailed | p.VersionInstalled | p.VersionRemoved) -> dict[str, Any]:
    return _key("distributor", ResourceType.TRANSFER, payload.model, "transfer_failed", payload.version)


def _hook(payload: h.HookFailed | h.HookRecovered | p.VersionActivated) -> dict[str, Any]:
    return _key("distributor", ResourceType.MODEL, payload.model, "hook_failed")


def _run(payload: r.RunFact, trigger: str) -> dict[str, Any]:
    return _key("trainer", ResourceType.RUN, payload.run_id, trigger)


def _wrong(about: dict[str, Any], severity: Severity, *, title: str, reason: str, **context: Any) -> IncidentRaised:
    known = {name: value for name, value in context.items() if value is not None}
    return IncidentRaised(**about, severity=severity, title=_line(title), context={"reasons": [reason], **known})


def _over(about: dict[str, Any], reason: str) -> IncidentCleared:
    return IncidentCleared(**about, reason=reason)


def _line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)[:200]
