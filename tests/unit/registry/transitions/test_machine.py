"""Whatever is asked in whatever order, what is served makes sense."""

from datetime import datetime
from itertools import pairwise

from hypothesis import Phase as Phases
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.registry.transitions.scene import MODEL, NODES, Scene, cause, version_state

from fleetcast.events.lifecycle import Phase, StageName
from fleetcast.registry.commands import AnyCommand, Freeze, Move, Promote, Resume, Rollback
from fleetcast.registry.gates.policy import ModelPolicy
from fleetcast.registry.transitions.rollouts import Serving, next_step
from fleetcast.registry.transitions.slots import BARRED

VERSIONS = tuple("abcdef")
POLICIES = (
    ModelPolicy(decides="external"),
    ModelPolicy(decides="external", canary_steps=(10, 50), bake_seconds=5, distribute_seconds=50),
)


class Registry(RuleBasedStateMachine):
    """Promotions, rollbacks, verdicts, freezes and the daemon's own steps, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene()
        self.generations = [0]

    @initialize(policy=st.sampled_from(POLICIES))
    def begin(self, policy: ModelPolicy) -> None:
        self.scene.policy = policy
        self.scene.register(*VERSIONS)

    def _ask(self, command: AnyCommand) -> None:
        before = dict(self.scene.states)
        answer = self.scene.ask(command)
        if not answer.accepted and answer.code not in {"none-good"}:
            assert self.scene.states == before
        self.generations.append(self.scene.generation)

    @rule(
        version=st.sampled_from(VERSIONS),
        stage=st.sampled_from([StageName.STAGING, StageName.CANARY, StageName.PRODUCTION]),
        replace=st.booleans(),
    )
    def promote(self, version: str, stage: StageName, replace: bool) -> None:
        self._ask(Promote(model=MODEL, version=version, stage=stage, replace=replace))

    @rule(version=st.sampled_from(VERSIONS), sequence=st.integers(900, 1100))
    def event(self, version: str, sequence: int) -> None:
        self.scene.head = max(self.scene.head, sequence)
        self._ask(Promote(model=MODEL, version=version, cause=cause(sequence)))

    @rule(to=st.none() | st.sampled_from(VERSIONS), now=st.booleans(), keep=st.booleans())
    def roll_back(self, to: str | None, now: bool, keep: bool) -> None:
        self._ask(Rollback(model=MODEL, to=to, now=now, keep=keep))

    @rule(
        version=st.sampled_from(VERSIONS),
        stage=st.sampled_from([StageName.ARCHIVED, StageName.REJECTED, StageName.QUARANTINED, StageName.DEVELOPMENT]),
    )
    def move(self, version: str, stage: StageName) -> None:
        self._ask(Move.model_validate({"model": MODEL, "version": version, "stage": stage}))

    @rule(frozen=st.booleans())
    def freeze(self, frozen: bool) -> None:
        self._ask(Freeze(model=MODEL, frozen=frozen))

    @rule(abandon=st.booleans())
    def resume(self, abandon: bool) -> None:
        self._ask(Resume(model=MODEL, abandon=abandon))

    @rule(version=st.sampled_from(VERSIONS), count=st.integers(0, len(NODES)))
    def nodes_hold(self, version: str, count: int) -> None:
        self.scene.holders[version_state(version).artifact] = count

    @rule(seconds=st.sampled_from([1, 10, 60]))
    def time_passes(self, seconds: int) -> None:
        self.scene.wait(seconds)

    @precondition(lambda self: self.scene.rollout is not None)
    @rule(serving=st.integers(0, 1))
    def daemon_steps(self, serving: int) -> None:
        rollout = self.scene.rollout
        assert rollout is not None
        command = next_step(rollout, self.scene.readiness(rollout.artifact), Serving(serving, 1), self.scene.now)
        if command is not None:
            self._ask(command)

    @invariant()
    def generations_only_grow_one_by_one(self) -> None:
        assert {after - before for before, after in pairwise(self.generations)} <= {0, 1}

    @invariant()
    def nothing_barred_is_served(self) -> None:
        slot = self.scene.slot
        held = [slot.production, slot.canary] if slot else []
        assert all(self.scene.stage(e.version) not in BARRED for e in held if e is not None)

    @invariant()
    def the_one_version_at_production_is_the_one_in_the_slot(self) -> None:
        at = {v for v, e in self.scene.entries.items() if e.stage is StageName.PRODUCTION}
        assert at == ({self.scene.served} if self.scene.served else set())

    @invariant()
    def previous_is_another_version_and_among_the_former(self) -> None:
        slot = self.scene.slot
        if slot is not None and slot.previous is not None:
            assert slot.previous.version != self.scene.served
            assert slot.previous.version in {f.version for f in slot.former}

    @invariant()
    def a_canary_belongs_to_a_rollout_that_stands(self) -> None:
        slot, rollout = self.scene.slot, self.scene.rollout
        if slot is not None and slot.canary is not None:
            assert rollout is not None
            assert rollout.version == slot.canary.version
            assert rollout.phase in {Phase.CANARY, Phase.BAKING, Phase.HALTED}

    @invariant()
    def stages_are_remembered_in_order(self) -> None:
        for entry in self.scene.entries.values():
            times = [datetime.fromisoformat(change.at) for change in entry.stages]
            assert times == sorted(times)
            assert entry.stages[-1].stage is entry.stage


TestRegistry = Registry.TestCase
TestRegistry.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, report_multiple_bugs=False, phases=(Phases.generate,)
)
