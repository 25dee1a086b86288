"""What a decision is made from, and what it is."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn

from fleetcast.events.content import Value
from fleetcast.events.decisions import StageChanged
from fleetcast.events.lifecycle import (
    ENDED,
    DrainState,
    EntryState,
    FreezeState,
    Phase,
    RolloutState,
    StageChange,
    StageName,
    TrustState,
    entry_subject,
)
from fleetcast.events.payloads import Payload
from fleetcast.events.state import Cause, ChainState, SlotEntry, SlotState, VersionState
from fleetcast.registry.commands import Answer, Outcome, Transition, stamp
from fleetcast.registry.gates.policy import ModelPolicy

MOST_AHEAD = 1_000_000
"""Orders that a registry may have forgotten by a restore; what a node says beyond that is no number of ours."""
REMEMBERED_STAGES = 50
FORMER_VERSIONS = 5


@dataclass(frozen=True, slots=True)
class Readiness:
    """How many of the nodes that want a model hold an artifact verified; `nodes`: the names of those that want it."""

    verified: int
    wanting: int
    nodes: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """0 when no node wants it."""
        return self.verified / self.wanting if self.wanting else 0.0

    def reaches(self, quorum_ratio: float) -> bool:
        """Whether the quorum is there; of a fleet in which nobody wants the model, no quorum is asked."""
        return self.wanting == 0 or self.ratio >= quorum_ratio


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What is known of a node: whether it was heard from, and the models that nobody else serves."""

    known: bool
    alone_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The state that a decision is made from, read after the end of the chain: whatever is written meanwhile makes the
    decision a conflict.

    Attributes:
        sequences: of what was read, by subject; 0: there was nothing.
        head: sequence of the newest event in FC_EVENTS: a decision of a person comes after all of them.
        obeyed: highest generation that a node follows for the model.
        readiness: of an artifact.
        archive_node: that keeps what is archived; empty: the origin of each version.
        trust: in the model, where a decision looks at it.
        drains: nodes that were ever taken out of service, for a decision about one.
        node_facts: of a node, beside others of which some are drained.
    """

    model: str
    now: datetime
    chain: ChainState
    slot: SlotState | None
    rollout: RolloutState | None
    freezes: Mapping[str, FreezeState]
    entries: Mapping[str, EntryState]
    versions: Mapping[str, VersionState]
    sequences: Mapping[str, int]
    head: int
    policy: ModelPolicy
    readiness: Callable[[str], Readiness]
    obeyed: int = 0
    archive_node: str = ""
    trust: TrustState | None = None
    drains: Mapping[str, DrainState] = field(default_factory=dict)
    node_facts: Callable[[str, Iterable[str]], NodeFacts] = lambda _node, _drained: NodeFacts(known=True)

    @property
    def at(self) -> str:
        return stamp(self.now)

    @property
    def generation(self) -> int:
        return self.slot.generation if self.slot else 0

    @property
    def next_generation(self) -> int:
        """Of the next order. Above every order that a node obeys, also one that a restore has made this registry
        forget: a node takes no other."""
        ahead = self.obeyed if self.obeyed - self.generation <= MOST_AHEAD else 0
        return max(self.generation, ahead) + 1

    @property
    def production(self) -> SlotEntry | None:
        return self.slot.production if self.slot else None

    @property
    def under_way(self) -> RolloutState | None:
        """The rollout that goes on by itself, or that stands as a canary on its way to production."""
        rollout = self.rollout
        if rollout is None or rollout.phase in ENDED | {Phase.HALTED, Phase.FROZEN}:
            return None
        if rollout.phase in {Phase.CANARY, Phase.BAKING} and rollout.target is StageName.CANARY:
            return None
        return rollout

    def answer(self, outcome: Outcome, message: str, **more: Any) -> Answer:
        """An answer about the model; *more*: further fields of `Answer`, in place of what the view says."""
        said = {"model": self.model, "generation": self.generation, "outcome": outcome, "message": message}
        return Answer.model_validate(said | more)

    @property
    def freeze(self) -> FreezeState | None:
        """The freeze that holds now."""
        for freeze in self.freezes.values():
            if freeze.frozen and (freeze.until is None or datetime.fromisoformat(freeze.until) > self.now):
                return freeze
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is written, and answered.

    Attributes:
        writes: new states by subject.
        facts: what the fleet is told, given the number of the audit record.
        cause: the event that this follows from; None: the request itself.
    """

    action: str
    answer: Answer
    writes: Mapping[str, Value] = field(default_factory=dict)
    facts: Callable[[int], tuple[Payload, ...]] = lambda _n: ()
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    evidence: Mapping[str, Any] | None = None
    reason: str | None = None
    cause: Cause | None = None


class Refusal(Exception):
    """Nothing is decided and nothing is written; carries the answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(answer.message)


def refuse(
    view: View,
    message: str,
    *,
    version: str | None = None,
    code: str,
    next_step: str = "",
    outcome: Outcome = "refused",
    winner: str = "",
) -> NoReturn:
    """Raises Refusal."""
    raise Refusal(view.answer(outcome, message, version=version, code=code, next_step=next_step, winner=winner))


def entry_of(view: View, version: str) -> EntryState:
    """The entry of a version.

    Raises:
        Refusal: there is none.
    """
    entry = view.entries.get(version)
    if entry is None:
        refuse(
            view,
            f"{view.model}@{version} is not registered",
            version=version,
            code="unknown",
            next_step=f"fleetcast models {view.model}    (or: fleetcast register {view.model} {version} FILE)",
        )
    return entry


def person_cause(view: View, transition: Transition) -> Cause:
    """The cause of what no event asks for: it comes after every event that there is."""
    correlation = transition.correlation or transition.request
    return Cause(event=transition.request, sequence=view.head, by=transition.actor, correlation=correlation)


def at_stage(entry: EntryState, stage: StageName, view: View, **update: Any) -> EntryState:
    """*entry* at another stage, from now on."""
    change = StageChange(stage=stage, at=view.at, n=view.chain.n + 1)
    stages = (*entry.stages, change)[-REMEMBERED_STAGES:]
    return entry.model_copy(update={"stage": stage, "since": view.at, "stages": stages, **update})


def stage_changed(before: EntryState, after: EntryState, by: str, reason: str | None, n: int) -> StageChanged:
    """The fact that tells it."""
    return StageChanged(
        model=before.model,
        version=before.version,
        artifact=before.artifact,
        from_stage=before.stage,
        to_stage=after.stage,
        by=by,
        reason=reason,
        n=n,
    )


def entry_writes(*entries: EntryState) -> dict[str, Value]:
    return {entry_subject(e.model, e.version): e for e in entries}


def slot_entry(entry: EntryState | VersionState) -> SlotEntry:
    return SlotEntry(version=entry.version, artifact=entry.artifact)


def label(model: str, version: str | None) -> str:
    return f"{model}@{version}" if version else model
