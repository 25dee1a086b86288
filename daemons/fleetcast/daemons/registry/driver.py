"""Drives rollouts: whenever nodes or rollouts change, and every second, it takes the next step of each.

Several daemons may do so at once: a step that another one took first is a conflict, and nothing more.
"""

import asyncio
from datetime import UTC, datetime
from typing import Final

import structlog

from fleetcast.bus import Bus, InSync
from fleetcast.bus.errors import BusError
from fleetcast.bus.streams import REGISTRY
from fleetcast.client.ulid import new_ulid
from fleetcast.daemons.registry.watching import Nodes
from fleetcast.events.lifecycle import ENDED, FLEET, FreezeState, Phase, RolloutState, freeze_subject, rollout_subject
from fleetcast.events.state import SlotState, slot_subject
from fleetcast.registry.commands import Drain, Transition
from fleetcast.registry.engine import Engine
from fleetcast.registry.errors import RecordDamaged
from fleetcast.registry.ledger import read
from fleetcast.registry.transitions.rollouts import next_step

_WAITING: Final = {Phase.HALTED, Phase.FROZEN}
"""Phases in which a rollout waits for somebody."""

log = structlog.get_logger("fleetcast.registry")


class Driver:
    """Owner of the rollouts under way, as the stream tells them. Finished ones leave it: they are history.

    Attributes:
        open: the rollouts that have not ended, by model, those that wait for somebody included.
        slots: what is ordered of every model.
    """

    def __init__(self, bus: Bus, engine: Engine, nodes: Nodes, *, actor: str, look_seconds: float) -> None:
        self._bus = bus
        self._engine = engine
        self._nodes = nodes
        self._actor = actor
        self._look_seconds = look_seconds
        self.open: dict[str, RolloutState] = {}
        self.slots: dict[str, SlotState] = {}
        self._freezes: dict[str, FreezeState] = {}

    @property
    def under_way(self) -> int:
        """How many rollouts are under way."""
        return len(self._moving())

    def _moving(self) -> list[RolloutState]:
        """Those that take steps by themselves."""
        return [rollout for rollout in self.open.values() if rollout.phase not in _WAITING]

    async def watch(self) -> None:
        """Follow rollouts, the slots of their models and freezes until cancelled."""
        subjects = (rollout_subject("*"), slot_subject("*"), freeze_subject("*"))
        async for entry in self._bus.watch(REGISTRY, subjects):
            if isinstance(entry, InSync):
                continue
            kind, _, key = entry.subject.removeprefix("fc.reg.state.").partition(".")
            try:
                if kind == "rollout":
                    self._note(read(RolloutState, entry))
                elif kind == "slot":
                    self.slots[key] = read(SlotState, entry)
                else:
                    self._freezes[key] = read(FreezeState, entry)
            except RecordDamaged as e:
                log.warning("record.unreadable", subject=entry.subject, reason=str(e))
            self._nodes.changed.set()

    def _note(self, rollout: RolloutState) -> None:
        if rollout.phase in ENDED:
            self.open.pop(rollout.model, None)
        else:
            self.open[rollout.model] = rollout

    async def run(self) -> None:
        """Take steps until cancelled."""
        await self._nodes.known.wait()
        while True:
            self._nodes.changed.clear()
            for rollout in self._moving():
                await self._step(rollout)
            await self._lift_drains()
            try:
                async with asyncio.timeout(self._look_seconds):
                    await self._nodes.changed.wait()
            except TimeoutError:
                continue

    async def _step(self, rollout: RolloutState) -> None:
        now = datetime.now(UTC)
        ready = self._nodes.readiness(rollout.model, rollout.artifact)
        serving = self._nodes.serving(self.slots.get(rollout.model))
        command = next_step(rollout, ready, serving, now, frozen=self._is_frozen(rollout.model, now))
        if command is None:
            return
        transition = Transition(request=new_ulid(), actor=self._actor, reason=command.reason, command=command)
        try:
            answer = await self._engine.handle(transition)
        except (BusError, RecordDamaged) as e:
            log.warning("rollout.waiting", model=rollout.model, rollout=rollout.rollout, reason=str(e))
            return
        level = log.info if answer.accepted else log.debug
        level("rollout.stepped", model=rollout.model, step=command.step, outcome=answer.outcome, said=answer.message)

    async def _lift_drains(self) -> None:
        """Take nodes back into service whose time is over; several daemons ask under the same key."""
        now = datetime.now(UTC)
        for state in self._nodes.drains:
            if state.until is None or datetime.fromisoformat(state.until) > now:
                continue
            command = Drain(node=state.node, drained=False)
            key = f"undrain/{state.node}/{state.n}"
            try:
                transition = Transition(request=key, actor=self._actor, reason="its time is over", command=command)
                answer = await self._engine.handle(transition)
            except (BusError, RecordDamaged) as e:
                log.warning("drain.waiting", drained=state.node, reason=str(e))
                return
            log.info("drain.lifted", drained=state.node, outcome=answer.outcome, said=answer.message)

    def _is_frozen(self, model: str, now: datetime) -> bool:
        found = (self._freezes.get(model), self._freezes.get(FLEET))
        return any(f is not None and f.frozen and (not f.until or datetime.fromisoformat(f.until) > now) for f in found)
