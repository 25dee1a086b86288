"""What concerns one version: reservation, what is said about it, and stages that serve nothing."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from fleetcast.events.content import Kind
from fleetcast.events.decisions import ApprovalRecorded, EvidenceRecorded
from fleetcast.events.ids import NO_ARTIFACT
from fleetcast.events.lifecycle import (
    Approval,
    ArchiveRule,
    EntryState,
    Facts,
    Flag,
    Quarantine,
    StageChange,
    StageName,
    entry_subject,
)
from fleetcast.events.payloads import Payload, VersionReserved
from fleetcast.events.state import VersionState, version_subject
from fleetcast.registry import rules
from fleetcast.registry.commands import Adopt, Approve, Describe, Evaluate, Move, Reserve, Transition, stamp
from fleetcast.registry.description import described
from fleetcast.registry.errors import VersionTaken
from fleetcast.registry.transitions import archiving
from fleetcast.registry.transitions.gating import rejection
from fleetcast.registry.transitions.slots import BARRED
from fleetcast.registry.transitions.view import (
    Decision,
    Refusal,
    View,
    at_stage,
    entry_of,
    entry_writes,
    label,
    refuse,
    stage_changed,
)

KEPT_APPROVALS = 20
KEPT_BY_RULES = frozenset({StageName.STAGING, StageName.CANARY, StageName.PRODUCTION, StageName.QUARANTINED})
"""Stages of which only a person archives."""


def reserve(view: View, transition: Transition, command: Reserve) -> Decision:
    """A version with its content, and its entry at `development`.

    Raises:
        Refusal: it has other content (conflict), or it is known already (`state` holds it).
    """
    wanted = command.state
    present = view.versions.get(wanted.version)
    try:
        reserved = rules.decide_reservation(present, wanted)
    except VersionTaken as taken:
        winner = taken.winner
        raise Refusal(
            view.answer(
                "conflict",
                str(taken),
                version=wanted.version,
                code="taken",
                winner=f"{label(winner.model, winner.version)} = {winner.artifact} from {winner.origin.node}",
                next_step="versions are immutable: publish the new bytes under a new version",
                state=winner.model_dump(mode="json", by_alias=True),
            )
        ) from taken
    kept = reserved.state.model_dump(mode="json", by_alias=True)
    answer = view.answer(
        "done",
        f"{label(view.model, wanted.version)} is {wanted.artifact[:16]}…",
        version=wanted.version,
        stage=StageName.DEVELOPMENT,
        state=kept,
    )
    if not reserved.created:
        raise Refusal(answer.model_copy(update={"repeated": True}))
    entry = () if wanted.kind is Kind.DATASET else (_with_announced(view, wanted, transition.actor),)
    subject = version_subject(wanted.model, wanted.version, wanted.kind)
    return Decision(
        action="version.reserved",
        writes={subject: wanted, **entry_writes(*entry)},
        after={
            "version": wanted.version,
            "kind": wanted.kind.value,
            "artifact": wanted.artifact,
            "origin": wanted.origin.node,
            "cause": wanted.cause.model_dump(mode="json"),
        },
        facts=lambda _n: (
            VersionReserved(
                model=wanted.model, version=wanted.version, artifact=wanted.artifact, origin=wanted.origin.node
            ),
        ),
        cause=wanted.cause,
        answer=answer,
    )


def fresh_entry(view: View, state: VersionState, actor: str, stage: StageName = StageName.DEVELOPMENT) -> EntryState:
    """The entry of a version that has just come, with what its producer said of it."""
    facts, rest = described(state.metrics, state.metadata, run_id=state.run_id)
    size = state.content.size if state.content else state.content_ref.bytes if state.content_ref else 0
    return EntryState(
        model=state.model,
        version=state.version,
        artifact=state.artifact,
        stage=stage,
        since=view.at,
        stages=(StageChange(stage=stage, at=view.at, n=view.chain.n + 1),),
        facts=facts,
        metadata=rest,
        bytes=size,
        format=state.content.format.value if state.content else "mixed",
        format_check=state.format_check,
        origin=state.origin.node,
        registered_at=state.at,
        registered_by=actor,
        cause=state.cause,
    )


def _with_announced(view: View, state: VersionState, actor: str) -> EntryState:
    """The entry of a version that has just come, over what was said of it before it had bytes."""
    fresh, known = fresh_entry(view, state, actor), view.entries.get(state.version)
    if known is None or known.artifact != NO_ARTIFACT:
        return fresh
    kept = {name: getattr(known, name) for name in ("stage", "since", "stages", "flags", "approvals", "quarantine")}
    said = {"facts": merged(known.facts, fresh.facts), "metadata": {**known.metadata, **fresh.metadata}}
    return fresh.model_copy(update={**kept, **said})


def first_entry(view: View, state: VersionState) -> EntryState:
    """The entry of a version that an origin wrote itself."""
    served = view.production is not None and view.production.version == state.version
    return fresh_entry(view, state, state.cause.by, StageName.PRODUCTION if served else StageName.DEVELOPMENT)


def adopt(view: View, transition: Transition, command: Adopt) -> Decision:
    """An entry for a version from before a registry daemon ran.

    Raises:
        Refusal: it has one, or is not there.
    """
    state = view.versions.get(command.version)
    if state is None or command.version in view.entries:
        refuse(view, "there is nothing to adopt", version=command.version, code="nothing")
    entry = first_entry(view, state)
    return Decision(
        action="version.adopted",
        reason="it was there before a registry daemon ran",
        writes=entry_writes(entry),
        after={"version": entry.version, "stage": entry.stage.value, "artifact": entry.artifact},
        cause=state.cause,
        answer=view.answer(
            "done", f"{label(view.model, entry.version)} has an entry", version=entry.version, stage=entry.stage
        ),
    )


def move(view: View, transition: Transition, command: Move) -> Decision:
    """A version is taken out of the way, or let in again.

    Raises:
        Refusal: a slot names it, there is no way, or no reason was given.
    """
    entry = entry_of(view, command.version)
    name = label(view.model, entry.version)
    reason = _allow_move(view, transition, command, entry, name)
    if command.stage is StageName.DEVELOPMENT and entry.archive is not None:
        return archiving.ask_back(view, transition, entry)
    quarantine = None
    if command.stage is StageName.QUARANTINED:
        quarantine = Quarantine(reason=reason, by=transition.actor, at=view.at, n=view.chain.n + 1)
    order = entry.archive
    if command.stage is StageName.ARCHIVED and entry.artifact != NO_ARTIFACT:
        order = archiving.ordered(view, transition, command, entry)
        quarantine = entry.quarantine
    archived_to = f"{order.node}:{order.folder}" if order else None
    moved = at_stage(entry, command.stage, view, quarantine=quarantine, archive=order, archived_to=archived_to)
    by = transition.actor

    def facts(n: int) -> tuple[Payload, ...]:
        told = stage_changed(entry, moved, by, reason, n)
        if order is None or order is entry.archive:
            return (told,)
        return told, archiving.archive_changed(entry, order, "ordered", by, reason, n)

    return Decision(
        action="stage.changed",
        reason=transition.reason,
        writes=entry_writes(moved),
        before={"version": entry.version, "stage": entry.stage.value},
        after={"version": entry.version, "stage": moved.stage.value, "archived_to": moved.archived_to},
        facts=facts,
        answer=view.answer(
            "done",
            f"{name} is {moved.stage}" + (f", kept at {archived_to}" if archived_to else ""),
            version=entry.version,
            stage=moved.stage,
        ),
    )


def _allow_move(view: View, transition: Transition, command: Move, entry: EntryState, name: str) -> str:
    """The reason that was given.

    Raises:
        Refusal: as `move`.
    """
    _check_slots(view, command, name)
    if entry.stage is command.stage:
        refuse(view, f"{name} is {entry.stage} already", version=entry.version, code="nothing")
    if command.stage is StageName.ARCHIVED and command.rule is not ArchiveRule.MANUAL and entry.stage in KEPT_BY_RULES:
        refuse(view, f"{name} is {entry.stage}", version=entry.version, code="stage")
    if command.stage is StageName.DEVELOPMENT and entry.stage not in BARRED:
        refuse(
            view,
            f"{name} is {entry.stage}; only what is archived, rejected or quarantined comes back to development",
            version=entry.version,
            code="stage",
            next_step=f"fleetcast models {view.model}",
        )
    if not transition.reason:
        refuse(
            view,
            f"why {name} becomes {command.stage} must be said",
            version=entry.version,
            code="reason",
            next_step="the same command with --reason TEXT",
        )
    return transition.reason


def _check_slots(view: View, command: Move, name: str) -> None:
    slot = view.slot
    if slot is None:
        return
    for kind, held in (("production", slot.production), ("canary", slot.canary)):
        if held is not None and held.version == command.version:
            refuse(
                view,
                f"{name} is in the slot {kind}",
                version=command.version,
                code="slot",
                next_step=f"fleetcast rollback {view.model} --reason …",
            )
    rollout = view.under_way
    if rollout is not None and rollout.version == command.version:
        refuse(
            view,
            f"a rollout of {name} is under way",
            version=command.version,
            code="rollout",
            next_step=f"fleetcast rollback {view.model} --reason …",
        )
    pinned = archiving.pinned_former(view)
    if command.stage is StageName.ARCHIVED and command.version in pinned:
        refuse(
            view,
            f"{name} is one of the last {len(pinned)} production versions, which stay for a rollback",
            version=command.version,
            code="slot",
            next_step=f"fleetcast models {view.model}",
        )


def describe(view: View, transition: Transition, command: Describe) -> Decision:
    """What is said about a version is kept; nothing said is an error.

    Raises:
        Refusal: unknown version, or nothing said.
    """
    entry = entry_of(view, command.version)
    said = command.facts.model_dump(exclude_none=True)
    fields = (*sorted(said), *sorted(command.flags), *(f"metadata.{k}" for k in sorted(command.metadata)))
    if not fields:
        refuse(view, "nothing was said", version=entry.version, code="nothing")
    flags = {
        name: Flag(value=flag.value, by=transition.actor, at=view.at, reason=transition.reason, report=flag.report)
        for name, flag in command.flags.items()
    }
    metadata = {k: v for k, v in {**entry.metadata, **command.metadata}.items() if v is not None}
    changed = entry.model_copy(
        update={
            "facts": merged(entry.facts, command.facts),
            "flags": {**entry.flags, **flags},
            "metadata": metadata,
        }
    )
    return _said(view, transition, entry, changed, fields, "evidence.recorded")


def evaluate(view: View, transition: Transition, command: Evaluate) -> Decision:
    """Results are kept; what they reject for good is rejected in the same decision.

    Raises:
        Refusal: unknown version, or no result.
    """
    entry = entry_of(view, command.version)
    fields = tuple(f"evaluations.{name}" for name in sorted(command.games))
    fields += ("rating",) if command.rating else ()
    if not fields:
        refuse(view, "no result was given", version=entry.version, code="nothing")
    facts = merged(entry.facts, Facts(evaluations=command.games or None, rating=command.rating))
    changed = entry.model_copy(update={"facts": facts})
    rejected = _rejection(view, changed)
    if rejected is not None:
        changed = at_stage(changed, StageName.REJECTED, view)
    return _said(view, transition, entry, changed, fields, "evaluation.recorded", rejected=rejected)


def _rejection(view: View, entry: EntryState) -> str | None:
    """Why the policy rejects a version by its results; None: it does not. What is served is not taken away."""
    served = {e.version for e in (view.production, view.slot.canary if view.slot else None) if e is not None}
    if entry.version in served or entry.stage in BARRED:
        return None
    return rejection(view, entry)


def _said(
    view: View,
    transition: Transition,
    before: EntryState,
    after: EntryState,
    fields: tuple[str, ...],
    action: str,
    *,
    rejected: str | None = None,
) -> Decision:
    def facts(n: int) -> tuple[Payload, ...]:
        told = EvidenceRecorded(
            model=view.model,
            version=after.version,
            fields=fields,
            by=transition.actor,
            reason=transition.reason,
            n=n,
        )
        if rejected is None:
            return (told,)
        return told, stage_changed(before, after, transition.actor, rejected, n)

    name = label(view.model, after.version)
    return Decision(
        action=action,
        reason=transition.reason if rejected is None else rejected,
        writes=entry_writes(after),
        before=_values(before, fields),
        after=_values(after, fields) | {"stage": after.stage.value},
        facts=facts,
        answer=view.answer(
            "done",
            f"{name}: {', '.join(fields)} recorded" + (f"; {name} is rejected: {rejected}" if rejected else ""),
            version=after.version,
            stage=after.stage,
        ),
    )


def _values(entry: EntryState, fields: tuple[str, ...]) -> dict[str, Any]:
    """The values behind names of fields, for the record."""
    facts = entry.facts.model_dump(mode="json", exclude_none=True)
    flags = {name: flag.model_dump(mode="json", exclude_none=True) for name, flag in entry.flags.items()}
    spread: Mapping[str, Any] = {
        **facts,
        **{f"evaluations.{k}": v for k, v in facts.get("evaluations", {}).items()},
        **{f"metadata.{k}": v for k, v in entry.metadata.items()},
        **flags,
    }
    return {"version": entry.version, **{field: spread.get(field) for field in fields}}


def merged(old: Facts, new: Facts) -> Facts:
    """*new* over *old*, field by field; evaluations and metrics name by name."""
    update: dict[str, Any] = {
        field: value for field in Facts.model_fields if (value := getattr(new, field)) is not None
    }
    for field in ("evaluations", "evaluation_metrics"):
        if field in update:
            update[field] = {**(getattr(old, field) or {}), **update[field]}
    return old.model_copy(update=update)


def approve(view: View, transition: Transition, command: Approve) -> Decision:
    """Somebody agrees, until the approval expires.

    Raises:
        Refusal: unknown version, or a stage that needs nobody's agreement.
    """
    entry = entry_of(view, command.version)
    if entry.stage in BARRED:
        refuse(
            view,
            f"{label(view.model, entry.version)} is {entry.stage}",
            version=entry.version,
            code="stage",
            next_step=f"fleetcast info {view.model}@{entry.version}",
        )
    valid = command.valid_seconds or view.policy.gates.to(command.stage).approvals.expires_seconds
    approval = Approval(
        by=command.by,
        stage=command.stage,
        at=view.at,
        expires_at=stamp(view.now + timedelta(seconds=valid)),
        reason=transition.reason,
    )
    others = tuple(a for a in entry.approvals if (a.by, a.stage) != (approval.by, approval.stage))
    changed = entry.model_copy(update={"approvals": (*others, approval)[-KEPT_APPROVALS:]})
    return Decision(
        action="approval.recorded",
        reason=transition.reason,
        writes={entry_subject(view.model, entry.version): changed},
        after={"version": entry.version, **approval.model_dump(mode="json")},
        facts=lambda n: (
            ApprovalRecorded(
                model=view.model,
                version=entry.version,
                stage=approval.stage,
                by=approval.by,
                expires_at=approval.expires_at,
                reason=approval.reason,
                n=n,
            ),
        ),
        answer=view.answer(
            "done",
            (
                f"{approval.by} agrees that {label(view.model, entry.version)} goes to {approval.stage}, until "
                f"{approval.expires_at}"
            ),
            version=entry.version,
            stage=entry.stage,
            next_step=f"fleetcast promote {view.model} {entry.version} --stage {approval.stage}",
        ),
    )
