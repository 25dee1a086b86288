"""The archive: a version goes there in one decision, and comes back in two: somebody asks, and the node that keeps its
bytes answers once they are proven."""

from fleetcast.events.decisions import ArchiveChanged
from fleetcast.events.lifecycle import ArchiveOrder, EntryState, RestoreOrder, StageName
from fleetcast.registry.commands import Answer, ArchiveKept, Move, Returned, Transition
from fleetcast.registry.transitions.slots import BARRED
from fleetcast.registry.transitions.view import (
    Decision,
    View,
    at_stage,
    entry_of,
    entry_writes,
    label,
    refuse,
    stage_changed,
)

FORMER_PINNED = 3
"""Former production versions that can be served again and are never archived: what a rollback may go back to."""


def pinned_former(view: View) -> tuple[str, ...]:
    """The newest former production versions that may be served again, `previous` among them."""
    slot = view.slot
    if slot is None:
        return ()
    former = [*slot.former, *([slot.previous] if slot.previous else [])]
    names = dict.fromkeys(f.version for f in former if not _is_barred(view, f.version))
    return tuple(names)[:FORMER_PINNED]


def _is_barred(view: View, version: str) -> bool:
    entry = view.entries.get(version)
    return entry is not None and entry.stage in BARRED


def ordered(view: View, transition: Transition, command: Move, entry: EntryState) -> ArchiveOrder:
    """Who keeps the bytes of a version that is archived, and where."""
    if entry.archive is not None:
        return entry.archive
    return ArchiveOrder(
        node=view.archive_node or entry.origin,
        folder=f"{view.now:%Y%m}/{command.rule.folder}/{entry.model}/{entry.version}",
        rule=command.rule,
        stage=entry.stage,
        reason=transition.reason or "",
        by=transition.actor,
        at=view.at,
        n=view.chain.n + 1,
    )


def kept(view: View, transition: Transition, command: ArchiveKept) -> Decision:
    """The archive has every byte: the other nodes need not keep theirs.

    Raises:
        Refusal: nothing of the kind was ordered, or it was said before.
    """
    entry, order = _order_of(view, command.version, command.node)
    if order.kept_at is not None:
        refuse(view, f"{_name(entry)} is in the archive already", version=entry.version, code="nothing")
    now_kept = order.model_copy(update={"kept_at": view.at})
    return _decision(view, transition, entry, now_kept, "archive.kept", "kept", f"{_place(order)} has every byte")


def ask_back(view: View, transition: Transition, entry: EntryState) -> Decision:
    """The node that keeps the version is asked to prove it again and to put it back.

    Raises:
        Refusal: it is being asked already.
    """
    order = entry.archive
    assert order is not None
    if order.restore is not None:
        refuse(view, f"{_name(entry)} is coming back already", version=entry.version, code="nothing")
    restore = RestoreOrder(by=transition.actor, reason=transition.reason or "", at=view.at, n=view.chain.n + 1)
    asked = order.model_copy(update={"restore": restore, "fault": None})
    words = f"{order.node} proves {_name(entry)} again; it is at development once every byte is right"
    decision = _decision(view, transition, entry, asked, "restore.ordered", "asked_back", words)
    answer = decision.answer.model_copy(update={"outcome": "started", "next_step": f"fleetcast info {_name(entry)}"})
    return Decision(
        action=decision.action,
        reason=decision.reason,
        writes=decision.writes,
        before=decision.before,
        after=decision.after,
        facts=decision.facts,
        answer=answer,
    )


def returned(view: View, transition: Transition, command: Returned) -> Decision:
    """The version is installed again, or its archive is damaged and it stays there.

    Raises:
        Refusal: nobody asked for it.
    """
    entry, order = _order_of(view, command.version, command.node)
    if order.restore is None:
        refuse(view, f"nobody asked for {_name(entry)}", version=entry.version, code="nothing")
    if command.fault is not None:
        refused = order.model_copy(update={"restore": None, "fault": command.fault})
        return _decision(
            view, transition, entry, refused, "restore.refused", "restore_refused", command.fault, reason=command.fault
        )
    reason, by = order.restore.reason, order.restore.by
    back = at_stage(entry, StageName.DEVELOPMENT, view, archive=None, archived_to=None, quarantine=None)
    return Decision(
        action="stage.changed",
        reason=reason,
        writes=entry_writes(back),
        before={"version": entry.version, "stage": entry.stage.value, "archived_to": entry.archived_to},
        after={"version": entry.version, "stage": back.stage.value, "archived_to": None},
        facts=lambda n: (
            stage_changed(entry, back, by, reason, n),
            archive_changed(entry, order, "restored", transition.actor, reason, n),
        ),
        answer=_answer(view, back, f"{_name(entry)} is back at development"),
    )


def archive_changed(
    entry: EntryState, order: ArchiveOrder, phase: str, by: str, reason: str | None, n: int
) -> ArchiveChanged:
    """The fact that tells it."""
    return ArchiveChanged.model_validate(
        {
            "model": entry.model,
            "version": entry.version,
            "artifact": entry.artifact,
            "node": order.node,
            "phase": phase,
            "rule": order.rule,
            "folder": order.folder,
            "by": by,
            "reason": reason,
            "n": n,
        }
    )


def _order_of(view: View, version: str, node: str) -> tuple[EntryState, ArchiveOrder]:
    entry = entry_of(view, version)
    if entry.archive is None or entry.archive.node != node:
        where = f"kept by {entry.archive.node}" if entry.archive else "not in an archive"
        refuse(view, f"{_name(entry)} is {where}", version=version, code="stage")
    return entry, entry.archive


def _decision(
    view: View,
    transition: Transition,
    entry: EntryState,
    order: ArchiveOrder,
    action: str,
    phase: str,
    words: str,
    *,
    reason: str | None = None,
) -> Decision:
    said = reason or transition.reason
    return Decision(
        action=action,
        reason=said,
        writes=entry_writes(entry.model_copy(update={"archive": order})),
        after={"version": entry.version, "stage": entry.stage.value, "archive": order.model_dump(mode="json")},
        facts=lambda n: (archive_changed(entry, order, phase, transition.actor, said, n),),
        answer=_answer(view, entry, words),
    )


def _answer(view: View, entry: EntryState, message: str) -> Answer:
    return view.answer("done", message, version=entry.version, stage=entry.stage)


def _place(order: ArchiveOrder) -> str:
    return f"{order.node}:{order.folder}"


def _name(entry: EntryState) -> str:
    return label(entry.model, entry.version)
