"""Runs that leave this node though they are not done: its machine is taken away, or a GPU is there again for one that
fell back to the CPU. And what becomes of the runs of a node that is gone."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from fleetcast.daemons.trainer import releasing
from fleetcast.daemons.trainer.checkpoints import cadence
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.eligibility import NodeFacts, eligible
from fleetcast.daemons.trainer.claims.keeper import Keeper
from fleetcast.daemons.trainer.claims.leasing import Owned
from fleetcast.daemons.trainer.claims.store import Change
from fleetcast.daemons.trainer.claims.watching import NodeWatch
from fleetcast.daemons.trainer.faults import slowing
from fleetcast.daemons.trainer.faults.judging import judge
from fleetcast.daemons.trainer.faults.returning import Candidate
from fleetcast.daemons.trainer.faults.ward import bring_back, candidate
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.daemons.trainer.runner import Runner, ended_by
from fleetcast.daemons.trainer.spot.rules import Leave, RunHere
from fleetcast.daemons.trainer.supervision.spec import Exit
from fleetcast.events.training import TrainingRunState

RETURN_SECONDS = 30.0
"""Between looks at runs on the CPU: they wait for minutes."""


class Moving:
    """Has runs leave this node in order."""

    def __init__(
        self, node: str, keeper: Keeper, runner: Runner, nodes: NodeWatch, *, now: Callable[[], datetime]
    ) -> None:
        self._node = node
        self._keeper = keeper
        self._runner = runner
        self._nodes = nodes
        self._now = now

    # -- the machine goes (spot.leaving.Hands)

    def here(self) -> Sequence[RunHere]:
        """The runs that this node owns now."""
        return [self._run_here(owned) for owned in self._keeper.owned.values()]

    def _run_here(self, owned: Owned) -> RunHere:
        run = owned.run
        began = run.attempts[-1].started_at if run.attempts else run.at
        saved = run.checkpoint.at if run.checkpoint is not None else began
        since = max(datetime.fromisoformat(saved), datetime.fromisoformat(began))
        unsaved = max(0.0, (self._now() - since).total_seconds())
        return RunHere(run.run, cadence.save_cost(run.checkpoints), unsaved)

    async def leave(self, leave: Leave, deadline: datetime) -> bool:
        """Stop a run in time and give it back, so that another node goes on with it; whether it saved for that."""
        owned = self._keeper.owned.get(leave.run)
        if owned is None:
            return False
        why = releasing.reclaimed(owned.run, self._node, leave.why, deadline=deadline, by=leave.by, save=leave.save)
        return await why.saved if self._runner.release(leave.run, why) else False

    # -- a GPU is there again

    async def watch_returns(self) -> None:
        """Look at runs on the CPU until cancelled."""
        while True:
            await asyncio.sleep(RETURN_SECONDS)
            for owned in tuple(self._keeper.owned.values()):
                await slowing.tell(owned)
            degraded = [owned.run for owned in self._keeper.owned.values()]
            await bring_back(degraded, now=self._now, candidates=self._candidates, leave_cpu=self._leave_cpu)

    def _candidates(self, run: TrainingRunState) -> list[Candidate]:
        return candidates(run, self._nodes.all_facts, self._now())

    async def _leave_cpu(self, run: TrainingRunState, reason: str) -> None:
        self._runner.release(run.run, releasing.returns(reason))

    def others(self, run: TrainingRunState) -> int:
        """How many other nodes could take a run on a GPU now."""
        lane = LaneDefinition.of(run.definition)
        rest = [facts for facts in self._nodes.all_facts if facts.node != self._node]
        return sum(eligible(lane, _on_gpu(run), facts, self._now()).ok for facts in rest)


def candidates(run: TrainingRunState, nodes: Iterable[NodeFacts], now: datetime) -> list[Candidate]:
    """*nodes* as somewhere that a run on the CPU may return to."""
    lane, wanted = LaneDefinition.of(run.definition), _on_gpu(run)
    judged = ((facts, eligible(lane, wanted, facts, now)) for facts in nodes)
    return [
        candidate(facts.node, found.reason, [gpu for gpu in facts.gpus if gpu.index in found.gpus])
        for facts, found in judged
    ]


def _on_gpu(run: TrainingRunState) -> TrainingRunState:
    return run.model_copy(update={"cpu": False})


def node_gone(nodes: NodeWatch, run: TrainingRunState, now: datetime) -> Change:
    """What becomes of a run whose node is gone: that its machine was to be taken away is known from its last word."""
    owner = run.owner or ""
    last = nodes.status(owner)
    reclaimed = last is not None and last.reclaim_deadline is not None
    reason = "stopped" if reclaimed else "lost"
    detail = f"the machine of {owner} was taken away" if reclaimed else f"{owner} has fallen silent"
    end = Exit(None, None, 0.0, (), reason, detail)  # type: ignore[arg-type]
    judgement = judge(run, LaneDefinition.of(run.definition), end, node=owner, now=now)
    change = ended_by(run, judgement, now)
    outcome = rules.RECLAIMED if reclaimed else rules.LOST
    attempts = change.run.attempts
    if attempts and attempts[-1].claim == run.claim:
        attempts = (*attempts[:-1], attempts[-1].model_copy(update={"outcome": outcome}))
    return Change(change.run.model_copy(update={"attempts": attempts}), change.facts)
