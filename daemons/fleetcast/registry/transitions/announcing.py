"""A version that is known before its bytes are: described by whoever registers it over the gateway, and brought by an
origin later, under the same name."""

from fleetcast.events.decisions import EvidenceRecorded
from fleetcast.events.ids import NO_ARTIFACT
from fleetcast.events.lifecycle import EntryState, Flag, StageChange, StageName
from fleetcast.registry.commands import Announce, Transition
from fleetcast.registry.transitions.view import Decision, View, entry_writes, label, person_cause, refuse


def announce(view: View, transition: Transition, command: Announce) -> Decision:
    """A version is known before its bytes are.

    Raises:
        Refusal: it is known already.
    """
    name = label(view.model, command.version)
    known = view.entries.get(command.version) or view.versions.get(command.version)
    if known is not None:
        content = "no bytes yet" if known.artifact == NO_ARTIFACT else f"{known.artifact[:16]}…"
        refuse(
            view,
            f"{name} is registered already ({content})",
            version=command.version,
            code="taken",
            outcome="conflict",
            winner=f"{name} = {known.artifact}",
            next_step=f"fleetcast info {name}    (or register another version)",
        )
    entry = _entry(view, transition, command)
    said = sorted(command.facts.model_dump(exclude_none=True))
    return Decision(
        action="version.announced",
        reason=transition.reason,
        writes=entry_writes(entry),
        after={"version": entry.version, "stage": entry.stage.value, "artifact": entry.artifact},
        facts=lambda n: (
            EvidenceRecorded(
                model=view.model,
                version=entry.version,
                fields=(*said, *sorted(command.flags), "announced"),
                by=transition.actor,
                reason=transition.reason,
                n=n,
            ),
        ),
        answer=view.answer(
            "done",
            f"{name} is known, without bytes",
            version=entry.version,
            stage=entry.stage,
            next_step=f"fleetcast register {view.model} {entry.version} FILE    (on a node that holds its file)",
        ),
    )


def _entry(view: View, transition: Transition, command: Announce) -> EntryState:
    """What is known of the version so far."""
    flags = {
        key: Flag(value=flag.value, by=transition.actor, at=view.at, reason=transition.reason, report=flag.report)
        for key, flag in command.flags.items()
    }
    return EntryState(
        model=view.model,
        version=command.version,
        artifact=NO_ARTIFACT,
        stage=StageName.DEVELOPMENT,
        since=view.at,
        stages=(StageChange(stage=StageName.DEVELOPMENT, at=view.at, n=view.chain.n + 1),),
        facts=command.facts,
        flags=flags,
        metadata=command.metadata,
        origin=command.origin,
        registered_at=view.at,
        registered_by=transition.actor,
        cause=person_cause(view, transition),
    )
