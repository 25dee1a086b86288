"""The desk's answers: `fc.svc.trainer.lanes` in, JSON out."""

from collections.abc import Callable, Iterable
from datetime import datetime

import structlog

from fleetcast.bus import Bus
from fleetcast.daemons.runtime.requests import read_request, refusals
from fleetcast.daemons.trainer.lanes import reading
from fleetcast.daemons.trainer.lanes.commands import (
    ASK,
    ChangeLane,
    LaneAnswer,
    LaneView,
    ListLanes,
    NodeVerdict,
    ShowLane,
)
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.daemons.trainer.lanes.desk import LaneDesk
from fleetcast.daemons.trainer.lanes.queue import new_run
from fleetcast.daemons.trainer.lanes.store import Outcome
from fleetcast.events.state import Cause
from fleetcast.events.training import LaneState, TrainingRunState
from fleetcast.registry.picture.agreement import Digests, differing

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")


Judge = Callable[[LaneDefinition, TrainingRunState | None, datetime], Iterable[NodeVerdict]]
"""Which nodes may take a run of a lane, and why each other one may not."""


def nobody(_lane: LaneDefinition, _run: TrainingRunState | None, _now: datetime) -> Iterable[NodeVerdict]:
    """Nothing is known of any node."""
    return ()


class LaneService:
    """Answers requests about lanes."""

    def __init__(self, bus: Bus, desk: LaneDesk, judge: Judge = nobody, others: Callable[[], Digests] = dict) -> None:
        """Make one; *others*: the lanes of all trainers that run."""
        self._bus = bus
        self._desk = desk
        self._judge = judge
        self._others = others

    async def answer(self, body: bytes) -> bytes:
        """The answer to a request, as JSON.

        Raises:
            ServiceError: 400: it is none; 500: what is stored cannot be read; 503: not now, ask again.
        """
        asked = read_request(ASK.validate_json, body)
        with refusals():
            answer = await self._handle(asked)
        return answer.model_dump_json(by_alias=True).encode()

    async def _handle(self, asked: ListLanes | ShowLane | ChangeLane) -> LaneAnswer:
        match asked:
            case ListLanes():
                now = self._desk.clock.now()
                views = await reading.views(self._bus, self._desk.lanes, now)
                names = {each.lane for each in views}
                others = {lane for lanes in self._known.values() for lane in lanes} - names
                unknown = (reading.view(self._desk.lanes, lane, None, None, now) for lane in sorted(others))
                return LaneAnswer(lanes=self._compared((*views, *unknown)))
            case ShowLane():
                return await self._show(asked)
        return await self._change(asked)

    async def _show(self, asked: ShowLane) -> LaneAnswer:
        state = await self._desk.store.find(asked.lane)
        if state is None and self._desk.lanes.find(asked.lane) is None:
            return self._unknown(asked.lane)
        return LaneAnswer(lanes=(await self._view(asked.lane, state, nodes=asked.nodes),))

    def _unknown(self, lane: str) -> LaneAnswer:
        if elsewhere := [node for node, lanes in self._known.items() if lane in lanes]:
            message = f"{self._bus.node} answered, which has no lane {lane}; its lanes differ from those of "
            message += ", ".join(elsewhere)
            return LaneAnswer(
                outcome="unknown", message=message, next_step="give all trainers the same lanes (trainer.lanes)"
            )
        hint = self._desk.lanes.close_to(lane)
        return LaneAnswer(
            outcome="unknown", message=f"there is no lane {lane}", next_step=f"fleetcast lanes    ({hint})"
        )

    async def _view(self, lane: str, state: LaneState | None, *, nodes: bool = False) -> LaneView:
        now = self._desk.clock.now()
        run = await reading.run_of(self._bus, state)
        definition = self._desk.lanes.find(lane)
        verdicts: Iterable[NodeVerdict] = ()
        if nodes and definition is not None:
            verdicts = self._judge(definition, run or _next(definition, state, now), now)
        seen = reading.view(self._desk.lanes, lane, state, run, now, verdicts)
        return self._compared((seen,))[0]

    @property
    def _known(self) -> Digests:
        """The lanes of all trainers, by node; of this one as they are, and not as it told last."""
        return {**self._others(), self._bus.node: self._desk.lanes.digests}

    def _compared(self, views: Iterable[LaneView]) -> tuple[LaneView, ...]:
        """Views with what other trainers have instead."""
        found = differing(self._known)
        return tuple(each.model_copy(update={"copies": found.get(each.lane)}) for each in views)

    async def _change(self, asked: ChangeLane) -> LaneAnswer:
        definition = self._desk.lanes.find(asked.lane)
        if definition is None:
            return self._unknown(asked.lane)
        outcome = await self._changed(definition, asked)
        if outcome.refused:
            return LaneAnswer(outcome="refused", message=outcome.refused, next_step=outcome.next_step)
        log.info("lane.asked", ask=asked.ask, lane=asked.lane, by=asked.by, dry_run=asked.dry_run)
        if not asked.dry_run:
            self._desk.note(outcome.state)
            await self._desk.look(asked.lane)
        return await self._done(asked, outcome)

    async def _changed(self, definition: LaneDefinition, asked: ChangeLane) -> Outcome:
        cause = Cause(event=asked.request, sequence=0, by=asked.by, correlation=asked.request)
        store, dry = self._desk.store, asked.dry_run
        if asked.ask == "trigger":
            return await store.ask(definition, asked.reason, cause, dry_run=dry)
        if asked.ask == "pause":
            return await store.pause(definition, asked.reason, cause, dry_run=dry)
        if asked.ask == "resume":
            return await store.resume(definition, asked.reason, cause, dry_run=dry)
        return await store.withdraw(definition, asked.version or "", asked.reason, cause, dry_run=dry)

    async def _done(self, asked: ChangeLane, outcome: Outcome) -> LaneAnswer:
        state = outcome.state if asked.dry_run else await self._desk.store.find(asked.lane)
        view = await self._view(asked.lane, state)
        said = _SAID[asked.ask]
        message = f"dry run: {asked.lane} would be {said}" if asked.dry_run else f"{asked.lane} is {said}"
        return LaneAnswer(message=f"{message}{_more(asked, outcome, view)}", lanes=(view,))


_SAID = {"trigger": "asked for a run", "pause": "paused", "resume": "resumed", "withdraw": "without it"}


def _more(asked: ChangeLane, outcome: Outcome, view: LaneView) -> str:
    if asked.ask == "withdraw":
        return f"; {outcome.run.run} is cancelled" if outcome.run is not None else ""
    if asked.ask != "trigger" or asked.dry_run:
        return ""
    if view.run is None:
        return ""
    if view.state is not None and view.state.forced is not None:
        return f"; it begins when {view.run.run} has ended"
    return f": {view.run.run} is {view.run.phase.value}"


def _next(definition: LaneDefinition, state: LaneState | None, now: datetime) -> TrainingRunState | None:
    """The run that would come next, by which nodes are judged; None: there is no data to train on."""
    if state is None or state.latest is None:
        return None
    return new_run(definition, state.latest, now, state.cause)
