"""A registry daemon: the fleet against what is ordered, decisions, and the streams that keep the truth."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from fleetcast.bus import Bus
from fleetcast.daemons.metrics.audit import AuditWatch
from fleetcast.daemons.metrics.backups import BackupWatch
from fleetcast.daemons.metrics.catalogue import DAEMONS
from fleetcast.daemons.metrics.sheet import Sheet
from fleetcast.daemons.metrics.streams import StreamsWatch
from fleetcast.daemons.metrics.tally import Tally
from fleetcast.daemons.registry.driver import Driver
from fleetcast.daemons.registry.projector import Projector
from fleetcast.daemons.registry.watching import Nodes
from fleetcast.events.lifecycle import ENDED, Phase
from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import SlotState
from fleetcast.registry.commands import Answer, Rollback, Transition
from fleetcast.registry.engine import Engine
from fleetcast.registry.fleet import FleetView, Lag, Sighting

AT_ONCE: Final = 20
"""Slots that are counted before others have their turn: each is compared with every node."""
OPEN: Final = tuple(phase for phase in Phase if phase not in ENDED)
STATES: Final = ("ready", "degraded", "silent", "stopped", "drained", "other")
PERSON: Final = "cli"


class FleetReading:
    """Of one registry daemon. Two of them see the same fleet: take the greatest value, or the newest."""

    def __init__(
        self,
        bus: Bus,
        nodes: Nodes,
        driver: Driver,
        engine: Engine,
        projector: Projector,
        audit: AuditWatch,
        backups: BackupWatch,
    ) -> None:
        self._nodes, self._driver, self._projector, self._audit = nodes, driver, projector, audit
        self._backups = backups
        self._streams = StreamsWatch(bus)
        self._decisions: Tally[tuple[str, str]] = Tally()
        self._gates: Tally[tuple[str, str]] = Tally()
        self._rollbacks: Tally[str] = Tally()
        engine.on_answer = self._answered

    async def read(self, sheet: Sheet) -> None:
        """Fill in all of it; gives way between models."""
        view = self._nodes.view
        for sighting in view.sightings:
            _node(sheet, sighting)
        sheet.start("fleetcast_nodes", "state", STATES)
        for sighting in view.sightings:
            sheet.add("fleetcast_nodes", 1, state=_state(sighting, drained=sighting.node in view.out_of_service))
        for number, (model, slot) in enumerate(tuple(self._driver.slots.items())):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
            _slot(sheet, model, slot, view)
        self._rollouts(sheet)
        self._decided(sheet)
        self._read_model(sheet)
        await self._streams.read(sheet)
        await self._backups.read(sheet)

    def _answered(self, transition: Transition, answer: Answer) -> None:
        if transition.dry_run or answer.repeated:
            return
        command = transition.command
        self._decisions.note((command.do, answer.outcome))
        for verdict in answer.gates:
            self._gates.note((verdict.gate, verdict.verdict))
        if isinstance(command, Rollback) and answer.accepted:
            self._rollbacks.note(_asked_by(transition.actor))

    def _rollouts(self, sheet: Sheet) -> None:
        sheet.start("fleetcast_rollouts", "phase", OPEN)
        for rollout in self._driver.open.values():
            sheet.add("fleetcast_rollouts", 1, phase=rollout.phase.value)

    def _decided(self, sheet: Sheet) -> None:
        for (action, outcome), count in self._decisions.counts.items():
            sheet.put("fleetcast_decisions_total", count, action=action, outcome=outcome)
        for (gate, decision), count in self._gates.counts.items():
            sheet.put("fleetcast_gate_decisions_total", count, gate=gate, decision=decision)
        sheet.start("fleetcast_rollbacks_total", "trigger", (PERSON, "remedy"))
        for trigger, count in self._rollbacks.counts.items():
            sheet.add("fleetcast_rollbacks_total", count, trigger=trigger)

    def _read_model(self, sheet: Sheet) -> None:
        sheet.put("fleetcast_read_model_sequence", self._projector.as_of_seq)
        sheet.put("fleetcast_read_model_behind_messages", self._projector.behind)
        sheet.put("fleetcast_audit_records", self._audit.records)
        sheet.put("fleetcast_audit_broken", self._audit.broken)
        sheet.put("fleetcast_audit_checked_timestamp_seconds", self._audit.checked_at)


def _node(sheet: Sheet, sighting: Sighting) -> None:
    stopped = sighting.status.state is DaemonState.STOPPED
    sheet.put("fleetcast_node_up", not sighting.silent, node=sighting.node)
    sheet.put("fleetcast_node_stopped", stopped, node=sighting.node)
    sheet.put("fleetcast_node_heartbeat_age_seconds", sighting.age_seconds, node=sighting.node)


def _state(sighting: Sighting, *, drained: bool) -> str:
    state = sighting.status.state
    if state is DaemonState.STOPPED:
        return "stopped"
    if sighting.silent:
        return "silent"
    if drained:
        return "drained"
    return state.value if state.value in STATES else "other"


def _slot(sheet: Sheet, model: str, slot: SlotState, view: FleetView) -> None:
    for name, entry in _entries(slot).items():
        sheet.put("fleetcast_model_info", 1, model=model, version=entry, slot=name)
    sheet.put("fleetcast_slot_generation", slot.generation, model=model)
    sheet.put("fleetcast_slot_changed_timestamp_seconds", datetime.fromisoformat(slot.at).timestamp(), model=model)
    count, tried = view.production_count(slot), view.canary_count(slot)
    sheet.put("fleetcast_slot_wanted", len(count.wanting), model=model)
    sheet.put("fleetcast_slot_serving", len(count.serving), model=model)
    sheet.put("fleetcast_slot_strangers", len(count.strangers), model=model)
    for lag in Lag:
        sheet.add("fleetcast_slot_behind", 0, model=model, reason=_word(lag))
    for straggler in (*count.stragglers, *(tried.stragglers if tried else ())):
        sheet.add("fleetcast_slot_behind", 1, model=model, reason=_word(straggler.lag))
    if tried is not None:
        sheet.put("fleetcast_canary_wanted", len(tried.assigned), model=model)
        sheet.put("fleetcast_canary_serving", len(tried.serving), model=model)


def _entries(slot: SlotState) -> Mapping[str, str]:
    slots = {"production": slot.production, "canary": slot.canary, "previous": slot.previous}
    return {name: entry.version for name, entry in slots.items() if entry is not None}


def _word(lag: Lag) -> str:
    return lag.value.replace(" ", "_")


def _asked_by(actor: str) -> str:
    """`cli` of `/fleet/node-1/cli/ada`, `remedy` of `/fleet/node-1/remedy`."""
    parts = actor.split("/")
    kind = parts[3] if len(parts) > 3 else ""
    return kind if kind in {PERSON, "gateway", *DAEMONS} else "other"
