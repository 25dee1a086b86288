"""Level-triggered: compares what slots and offers ask for with what is here, starts what is missing, moves pointers.

Runs at start, on every change, and every few seconds, so that a missed message costs seconds and never correctness.
"""

import asyncio
import functools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import get_args

import structlog

from fleetcast.bus import Entry, InSync, tracing
from fleetcast.bus.errors import BusError
from fleetcast.daemons.distributor.contents import get_content, offer_of
from fleetcast.daemons.distributor.hooks.desk import Saying
from fleetcast.daemons.distributor.orders import SlotOrders
from fleetcast.daemons.distributor.parts import Follows, Parts
from fleetcast.daemons.distributor.precedence import LOOK_SECONDS
from fleetcast.daemons.distributor.rollouts import RolloutBook, sought
from fleetcast.daemons.distributor.rules import (
    Goal,
    InForce,
    Offer,
    Urgency,
    activated,
    coming,
    due,
    goals,
    in_force,
    offer_from_event,
    remembered,
    shows,
)
from fleetcast.daemons.distributor.serving import Serving
from fleetcast.daemons.distributor.shelf import Shelf
from fleetcast.daemons.distributor.transfers import Transfers, Wanted
from fleetcast.daemons.distributor.turns import Turns
from fleetcast.daemons.distributor.vouching import Vouching
from fleetcast.events import names
from fleetcast.events.content import Content, Kind
from fleetcast.events.envelope import Event
from fleetcast.events.errors import EventInvalid
from fleetcast.events.lifecycle import Phase
from fleetcast.events.payloads import ArtifactAvailable, VersionActivated
from fleetcast.events.state import InstalledVersion, SlotEntry, SlotState
from fleetcast.events.wants import wants
from fleetcast.registry.slots import Line
from fleetcast.transport.errors import BadData, StoreError
from fleetcast.transport.store import SlotName

SLOT_NAMES: tuple[SlotName, ...] = get_args(SlotName)
log = structlog.get_logger("fleetcast.distributor.reconcile")


class Reconciler:
    """Owner of the offers that this node has heard of."""

    def __init__(
        self,
        parts: Parts,
        transfers: Transfers,
        shelf: Shelf,
        orders: SlotOrders,
        turns: Turns,
        serving: Serving,
        rollouts: RolloutBook,
    ) -> None:
        self._parts = parts
        self._serving = serving
        self._vouching = Vouching(parts.keyring, parts.store, shelf)
        self._transfers = transfers
        self._shelf = shelf
        self._orders = orders
        self._turns = turns
        self._rollouts = rollouts
        self._decisions: dict[Line, tuple[int, str, bool]] = {}
        self._repairs: dict[Line, tuple[Goal, ...]] = {}
        self._offers: dict[Line, tuple[Offer, ...]] = {}
        self._by_reference: dict[tuple[Kind, str, str], tuple[Event, int]] = {}
        self._offers_known = asyncio.Event()
        self._distributions_known = asyncio.Event()
        self._rollouts_known = asyncio.Event()
        self._wake = asyncio.Event()
        orders.on_order = self.wake
        serving.duty.on_change = self.wake
        serving.soundness.on_proven = self.wake

    def wake(self) -> None:
        """Compare again soon."""
        self._wake.set()

    def keys_changed(self) -> None:
        """Another key ring is in force: look again at what was refused."""
        self._transfers.forgive_manifests()
        self._vouching.forget()
        self._parts.board.changed.set()
        self.wake()

    def repair(self, line: Line, installed: InstalledVersion) -> None:
        """Bring a damaged version back, whether or not a slot names it."""
        goal = Goal(installed.version, installed.artifact, Urgency.PRODUCTION)
        self._repairs[line] = (*self._repairs.get(line, ()), goal)
        self.wake()

    def lines_naming(self, artifact: str) -> tuple[Line, ...]:
        """The models and lanes of which nodes shall hold the artifact now, by slot or by offer."""
        named = {line: self._goals(line) for line in self._lines()}
        return tuple(line for line, found in named.items() if any(g.artifact == artifact for g in found))

    @property
    def models(self) -> frozenset[str]:
        """The models that this node wants and something is known of."""
        wanted = (name for kind, name in self._lines() if kind is Kind.MODEL)
        return frozenset(name for name in wanted if wants(self._parts.wants, Kind.MODEL, name))

    def _lines(self) -> dict[Line, object]:
        """The models and lanes that something is known of, in a steady order."""
        return {**dict(self._orders.all), **self._rollouts.lines, **self._offers, **self._repairs}

    def _goals(self, line: Line) -> tuple[Goal, ...]:
        found = goals(self._orders.get(line), self._offers.get(line, ()), self._parts.node, self._rollouts.get(line))
        away = self._parts.archive.is_away
        return tuple(g for g in found if g.urgency <= Urgency.CANARY or not away(line, g.version))

    async def watch_distributions(self) -> None:
        """Follow orders to bring versions to some nodes, until cancelled."""
        async for state in self._parts.registry.watch_distributions():
            if isinstance(state, InSync):
                self._distributions_known.set()
                continue
            self._parts.distributions.take(state)
            self.wake()

    async def watch_rollouts(self) -> None:
        """Follow the rollouts of models that this node wants, until cancelled."""
        async for state in self._parts.registry.watch_rollouts():
            if isinstance(state, InSync):
                self._rollouts_known.set()
            elif wants(self._parts.wants, Kind.MODEL, state.model):
                self._rollouts.take(state)
                self.wake()

    async def watch_offers(self) -> None:
        """Follow `artifact.available` until cancelled."""
        async for entry in self._parts.bus.watch("FC_EVENTS", (names.find("artifact.available").subject("*"),)):
            if isinstance(entry, InSync):
                self._offers_known.set()
                continue
            self._take_offer(entry)

    def _take_offer(self, entry: Entry) -> None:
        try:
            event = entry.event()
        except EventInvalid as invalid:
            log.warning("offer.invalid", subject=entry.subject, reason=invalid.reason)
            return
        payload = event.payload
        if not isinstance(payload, ArtifactAvailable):
            return
        statement = payload.envelope.statement
        line = (Kind.DATASET if statement.kind == "dataset" else Kind.MODEL, statement.model)
        if not wants(self._parts.wants, *line):
            return
        tracing.remember(payload.cause, event.extensions.get(tracing.TRACEPARENT, ""))
        if payload.content_ref is not None:
            # Reading the bucket here would hold up every offer behind this one.
            self._by_reference[*line, statement.version] = (event, entry.sequence)
        else:
            self._remember(event, entry.sequence)
        self.wake()

    def _remember(self, event: Event, sequence: int, content: Content | None = None) -> None:
        assert isinstance(event.payload, ArtifactAvailable)
        offer = offer_from_event(event.payload, correlation=event.correlationid, sequence=sequence, content=content)
        line = (offer.kind, offer.name)
        self._offers[line] = remembered(self._offers.get(line, ()), offer)

    async def _read_references(self) -> None:
        """Turn offers whose content lies in the object bucket into offers; a bus that is away leaves them for later."""
        for key, (event, sequence) in list(self._by_reference.items()):
            assert isinstance(event.payload, ArtifactAvailable)
            assert event.payload.content_ref is not None
            try:
                self._remember(event, sequence, await get_content(self._parts.bus, event.payload.content_ref))
            except BadData as refused:
                log.warning("offer.invalid", model=key[1], version=key[2], reason=str(refused))
            if self._by_reference.get(key) == (event, sequence):
                del self._by_reference[key]

    async def run(self) -> None:
        """Compare and act until cancelled."""
        await self._orders.known.wait()
        await self._offers_known.wait()
        await self._distributions_known.wait()
        await self._rollouts_known.wait()
        await self._serving.duty.known.wait()
        resync_seconds = self._parts.settings.distributor.resync_seconds
        while True:
            self._wake.clear()
            try:
                await self.reconcile()
            except BusError as away:
                log.warning("reconcile.waiting", reason=str(away))
            waiting = {
                asyncio.ensure_future(self._wake.wait()),
                asyncio.ensure_future(self._transfers.installed.wait()),
            }
            try:
                await asyncio.wait(
                    waiting,
                    timeout=LOOK_SECONDS if self._turns.somebody_waits else resync_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                for task in waiting:
                    task.cancel()
            self._transfers.installed.clear()

    async def reconcile(self) -> None:
        """One comparison: every pointer that can move, which needs no bus, then transfers for what is missing."""
        for line, slot in self._orders.all:
            if wants(self._parts.wants, *line):
                await self._activate(line, slot)
        await self._read_references()
        self._transfers.pursue(await self._wanted())

    async def _wanted(self) -> Wanted:
        wanted: Wanted = {}
        self._turns.begin()
        for line in self._lines():
            if not wants(self._parts.wants, *line):
                continue
            self._note_decision(line)
            asked = (*self._repairs.get(line, ()), *self._goals(line))
            missing = [g for g in asked if not self._shelf.holds(line, g.version, g.artifact)]
            self._repairs[line] = tuple(g for g in self._repairs.get(line, ()) if g in missing)
            for goal in due(missing):
                if not self._may_start(line, goal):
                    continue
                offer = await self._offer_for(line, goal)
                if offer is not None:
                    wanted.setdefault(goal.artifact, (goal.urgency, offer))
        named = self._parts.distributions.goals(datetime.now(UTC))
        here = [(line, goal) for line, goal in named if not self._parts.archive.is_away(line, goal.version)]
        for line, goal in (*here, *self._parts.archive.goals()):
            # Whoever asked for it named the nodes: their own wants do not matter.
            if not self._shelf.holds(line, goal.version, goal.artifact):
                offer = await self._offer_for(line, goal)
                if offer is not None:
                    wanted.setdefault(goal.artifact, (goal.urgency, offer))
        return wanted

    def _note_decision(self, line: Line) -> None:
        """Whoever decides anew about a version asks for it anew: what was refused before may be had by now."""
        slot, rollout = self._orders.get(line), self._rollouts.get(line)
        coming = rollout if sought(rollout) is not None else None
        halted = coming is not None and coming.phase is Phase.HALTED
        decision = (slot.generation if slot else 0, coming.rollout if coming else "", halted)
        if self._decisions.get(line) == decision:
            return
        self._decisions[line] = decision
        causes = {state.cause.event for state in (slot, coming) if state is not None}
        for goal in self._goals(line):
            if goal.urgency <= Urgency.CANARY:
                self._transfers.ask_again(goal.artifact, causes)

    def _may_start(self, line: Line, goal: Goal) -> bool:
        """Whether it is this node's turn; what has begun goes on, and a repair waits for nobody."""
        if goal in self._repairs.get(line, ()) or self._transfers.offer_of(goal.artifact) is not None:
            return True
        return self._turns.may_start(*line, goal.artifact)

    async def _offer_for(self, line: Line, goal: Goal) -> Offer | None:
        """How to get *goal*; None when nobody can say what it is made of."""
        kind, name = line
        for offer in self._offers.get(line, ()):
            if offer.version == goal.version and offer.artifact == goal.artifact:
                return offer
        state = await self._parts.registry.version(name, goal.version, kind)
        if state is None or state.artifact != goal.artifact:
            log.error("goal.unknown", model=name, version=goal.version, artifact=goal.artifact)
            return None
        try:
            return await offer_of(self._parts.bus, state)
        except BadData as refused:
            log.warning("goal.unknown", model=name, version=goal.version, artifact=goal.artifact, reason=str(refused))
            return None

    async def _activate(self, line: Line, slot: SlotState) -> None:
        """Move the pointers to what *slot* orders, as far as that is installed and sound; production has to be."""
        on_canary, drained = slot.is_canary_node(self._parts.node), self._serving.duty.drained
        held = {name for name in SLOT_NAMES if self._shelf.has_entry(line, getattr(slot, name))}
        before = self._shelf.pointers(line)
        if slot.production is not None and "production" not in held:
            return
        if before is not None and shows(before, slot, held, on_canary=on_canary, drained=drained):
            self._serving.hooks.serve(line, before, (), self._sayings(before.slot, in_force(before)))
            return
        new = [getattr(slot, name) for name in coming(before, slot, held, on_canary=on_canary)]
        if any([await self._vouching.is_revoked(line, entry) for entry in new]):
            return
        if not all([await self._serving.soundness.of(line, entry) for entry in new]):
            return
        try:
            done = await asyncio.to_thread(self._parts.store.activate, slot, on_canary=on_canary, drained=drained)
        except StoreError as fault:
            log.warning("slot.activation_failed", model=slot.model, generation=slot.generation, reason=str(fault))
            return
        await self._shelf.refresh(line)
        names = activated(before, done.applied)
        for name in names:
            self._log_activated(slot, name)
        self._serving.hooks.serve(line, done.applied, self._sayings(slot, names))

    def _log_activated(self, slot: SlotState, name: InForce) -> None:
        log.info(
            "version.activated",
            model=slot.model,
            version=_in_slot(slot, name).version,
            generation=slot.generation,
            slot=name,
            previous=slot.previous.version if slot.previous else None,
            correlation_id=slot.cause.correlation,
        )

    def _sayings(self, slot: SlotState, names: Sequence[InForce]) -> list[Saying]:
        return [functools.partial(self._say_activated, slot, name) for name in names]

    def _say_activated(self, slot: SlotState, name: InForce, hook: str | None) -> None:
        entry = _in_slot(slot, name)
        payload = VersionActivated(
            model=slot.model,
            version=entry.version,
            artifact=entry.artifact,
            node=self._parts.node,
            generation=slot.generation,
            slot=name,
            hook=hook,
        )
        cause = Follows(slot.cause.event, slot.cause.correlation)
        # Production keeps the key that it had before there were canaries.
        key = f"{slot.kind}/{slot.generation}" if name == "production" else f"{slot.kind}/{slot.generation}/{name}"
        self._parts.say(payload, cause=cause, discriminator=key)


def _in_slot(slot: SlotState, name: InForce) -> SlotEntry:
    entry = slot.canary if name == "canary" else slot.production
    assert entry is not None, "what is in force is in a slot"
    return entry
