"""Archival in the registry daemon: says what the rules propose, and where the settings say so, has it done."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from fleetcast.bus import Bus, Entry
from fleetcast.bus.errors import BusError
from fleetcast.bus.streams import REGISTRY
from fleetcast.config.archival import ArchivalSettings
from fleetcast.daemons.runtime.requests import read_request, refusals
from fleetcast.events.content import Value
from fleetcast.events.lifecycle import EntryState, RolloutState, StageName, rollout_subject
from fleetcast.events.state import SlotState, slot_subject
from fleetcast.registry.archival import Proposal, plan
from fleetcast.registry.archival.asking import ArchivalAnswer, ArchivalQuestion, Proposed
from fleetcast.registry.commands import Move, Transition
from fleetcast.registry.engine import Engine
from fleetcast.registry.errors import RecordDamaged
from fleetcast.registry.ledger import read

log = structlog.get_logger("fleetcast.registry.archival")

V = TypeVar("V", bound=Value)


class ArchivalDesk:
    """Answers `fc.svc.registry.archival`, and sweeps."""

    def __init__(self, bus: Bus, engine: Engine, policy: ArchivalSettings, *, actor: str) -> None:
        self._bus = bus
        self._engine = engine
        self._policy = policy
        self._actor = actor

    async def answer(self, body: bytes) -> bytes:
        """The answer to one question.

        Raises:
            ServiceError: 400: it is none; 503: not now, ask again.
        """
        question = read_request(ArchivalQuestion.model_validate_json, body or b"{}")
        with refusals():
            found = await self.plan(question.model)
        shown = tuple(
            Proposed(model=p.model, version=p.version, rule=p.rule, reason=p.reason) for p in found[: question.limit]
        )
        answer = ArchivalAnswer(proposals=shown, total=len(found), mode=self._policy.mode, node=self._policy.node)
        return answer.model_dump_json().encode()

    async def plan(self, model: str | None = None) -> tuple[Proposal, ...]:
        """What the rules propose now.

        Raises:
            TransportFailed: the bus does not answer.
        """
        entries = await self._bus.newest(REGISTRY, (f"fc.reg.state.entry.{model or '*'}.*",))
        slots = await self._bus.newest(REGISTRY, (slot_subject(model or "*"),))
        rollouts = await self._bus.newest(REGISTRY, (rollout_subject(model or "*"),))
        return await asyncio.to_thread(_plan, entries, slots, rollouts, self._policy)

    async def run(self) -> None:
        """Look once per `sweep_seconds` until cancelled, unless the mode is `off`."""
        while self._policy.mode != "off":
            try:
                await self._sweep()
            except BusError as away:
                log.warning("archival.waiting", reason=str(away))
            await asyncio.sleep(self._policy.sweep_seconds)

    async def _sweep(self) -> None:
        found = await self.plan()
        done = 0
        for proposal in found:
            log.info("archival.proposed", model=proposal.model, version=proposal.version, reason=proposal.reason)
            if self._policy.mode == "on":
                done += await self._archive(proposal)
        log.info("archival.swept", mode=self._policy.mode, proposed=len(found), archived=done)

    async def _archive(self, proposal: Proposal) -> bool:
        """Have one archived; whatever came about since it was proposed is looked at again by the decision."""
        # Of several daemons that sweep on one day one archives, and the others hear that it is done.
        request = f"archival/{datetime.now(UTC):%Y%m%d}/{proposal.model}/{proposal.version}"
        command = Move(model=proposal.model, version=proposal.version, stage=StageName.ARCHIVED, rule=proposal.rule)
        try:
            answer = await self._engine.handle(
                Transition(request=request, actor=self._actor, reason=proposal.reason, command=command)
            )
        except RecordDamaged as e:
            log.warning("archival.refused", model=proposal.model, version=proposal.version, reason=str(e))
            return False
        return answer.accepted


def _plan(
    entries: Sequence[Entry], slots: Sequence[Entry], rollouts: Sequence[Entry], policy: ArchivalSettings
) -> tuple[Proposal, ...]:
    unreadable: set[str] = set()
    known_slots = {s.model: s for s in _read(SlotState, slots, unreadable)}
    known_rollouts = {r.model: r for r in _read(RolloutState, rollouts, unreadable)}
    # Of a model whose slots cannot be read nobody can say what is pinned.
    known = [e for e in _read(EntryState, entries, unreadable) if e.model not in unreadable]
    return plan(known, known_slots, known_rollouts, datetime.now(UTC), policy)


def _read(kind: type[V], entries: Iterable[Entry], unreadable: set[str]) -> list[V]:
    """The values that can be read; the models of the others go to *unreadable*."""
    found = []
    for entry in entries:
        try:
            found.append(read(kind, entry))
        except RecordDamaged as e:
            log.warning("record.unreadable", subject=entry.subject, reason=str(e))
            unreadable.add(entry.subject.split(".")[4])
    return found
