"""A registry in memory: what the engine reads and writes, without a bus."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from fleetcast.events.content import Content, ContentFile, Format, Kind, Value
from fleetcast.events.lifecycle import (
    FLEET,
    EntryState,
    FreezeState,
    RolloutState,
    StageName,
    entry_subject,
    freeze_subject,
    rollout_subject,
)
from fleetcast.events.payloads import Endpoints, Origin, Payload
from fleetcast.events.state import Cause, ChainState, SlotState, VersionState, slot_subject, version_subject
from fleetcast.registry.commands import Answer, AnyCommand, Reserve, Transition
from fleetcast.registry.engine import DECISIONS
from fleetcast.registry.gates.policy import ModelPolicy
from fleetcast.registry.transitions.view import Decision, Readiness, Refusal, View

MODEL = "m"
NODES = ("n1", "n2", "n3", "n4")
START = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
EXTERNAL = ModelPolicy(decides="external")


def cause(sequence: int) -> Cause:
    return Cause(event=f"event-{sequence}", sequence=sequence, by="/fleet/gpu-1/job", correlation=f"c-{sequence}")


def version_state(version: str, *, size: int | None = None, metrics: dict[str, object] | None = None) -> VersionState:
    file = ContentFile(
        path="m.pt", size=size or len(version) * 1000 + ord(version[-1]), sha256="0" * 64, pieces_root="0" * 64
    )
    content = Content(kind=Kind.MODEL, format=Format.TORCH, files=(file,))
    return VersionState(
        model=MODEL,
        version=version,
        artifact=content.artifact,
        content=content,
        origin=Origin(node="n1", endpoints=Endpoints()),
        metainfo_b64="bWV0YQ==",
        cause=cause(1),
        at="2026-11-20T10:00:00.000Z",
        metrics=metrics,
    )


@dataclass
class Scene:
    """The states by subject, the clock, and who holds what.

    Attributes:
        holders: nodes that hold an artifact verified; an artifact that is not here is held by all.
        told: facts, oldest first.
        obeyed: highest generation that a node follows.
    """

    policy: ModelPolicy = EXTERNAL
    now: datetime = START
    head: int = 1000
    states: dict[str, Value] = field(default_factory=dict)
    holders: dict[str, int] = field(default_factory=dict)
    told: list[Payload] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    requests: int = 0
    obeyed: int = 0

    @property
    def slot(self) -> SlotState | None:
        found = self.states.get(slot_subject(MODEL))
        assert found is None or isinstance(found, SlotState)
        return found

    @property
    def rollout(self) -> RolloutState | None:
        found = self.states.get(rollout_subject(MODEL))
        assert found is None or isinstance(found, RolloutState)
        return found

    def entry(self, version: str) -> EntryState:
        found = self.states[entry_subject(MODEL, version)]
        assert isinstance(found, EntryState)
        return found

    def stage(self, version: str) -> StageName:
        return self.entry(version).stage

    @property
    def entries(self) -> dict[str, EntryState]:
        return {e.version: e for e in self.states.values() if isinstance(e, EntryState)}

    @property
    def served(self) -> str | None:
        return self.slot.production.version if self.slot and self.slot.production else None

    @property
    def generation(self) -> int:
        return self.slot.generation if self.slot else 0

    def readiness(self, artifact: str) -> Readiness:
        return Readiness(self.holders.get(artifact, len(NODES)), len(NODES), NODES)

    def view(self) -> View:
        freezes: Mapping[str, FreezeState] = {
            key: f for key in (MODEL, FLEET) if isinstance(f := self.states.get(freeze_subject(key)), FreezeState)
        }
        return View(
            model=MODEL,
            now=self.now,
            chain=ChainState(n=len(self.actions), sha256="0" * 64),
            slot=self.slot,
            rollout=self.rollout,
            freezes=freezes,
            entries=self.entries,
            versions={v.version: v for v in self.states.values() if isinstance(v, VersionState)},
            sequences={},
            head=self.head,
            policy=self.policy,
            readiness=self.readiness,
            obeyed=self.obeyed,
        )

    def ask(self, command: AnyCommand, *, reason: str | None = "because", actor: str = "/fleet/n1/cli") -> Answer:
        """Decide, and keep what is decided; a refusal that is not recorded is answered all the same."""
        self.requests += 1
        transition = Transition(request=f"request-{self.requests}", actor=actor, reason=reason, command=command)
        try:
            decision: Decision = DECISIONS[type(command)](self.view(), transition, command)
        except Refusal as refused:
            return refused.answer
        self.states.update(decision.writes)
        n = len(self.actions) + 1
        self.told.extend(decision.facts(n))
        self.actions.append(decision.action)
        return decision.answer.model_copy(update={"n": n})

    def register(self, *versions: str) -> None:
        for version in versions:
            state = version_state(version)
            self.ask(Reserve(state=state))
            self.states.setdefault(version_subject(MODEL, version), state)

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
