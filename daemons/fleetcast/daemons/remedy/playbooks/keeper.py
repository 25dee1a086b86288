"""Who begins runs, and who takes over those of a daemon that is gone. Every begin and every take-over is a
compare-and-swap: of two daemons one wins, and the other one leaves it."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog
from pydantic import ValidationError

from fleetcast.bus import Bus, InSync
from fleetcast.bus.errors import BusError, BusUnavailable, Conflict
from fleetcast.bus.retry import CONFLICT
from fleetcast.bus.streams import NODES_BUCKET, REMEDY
from fleetcast.config.settings import Settings
from fleetcast.daemons.remedy.ledger import RemedyLedger, read
from fleetcast.daemons.remedy.playbooks import rules, turns
from fleetcast.daemons.remedy.playbooks.breaker import Breaker
from fleetcast.daemons.remedy.playbooks.definition import Playbook
from fleetcast.daemons.remedy.playbooks.loading import Playbooks
from fleetcast.daemons.remedy.playbooks.runner import Runner
from fleetcast.daemons.remedy.playbooks.steps import Step, Surroundings
from fleetcast.daemons.remedy.playbooks.steps.target import bad_version
from fleetcast.daemons.remedy.playbooks.store import Kept, RunStore, with_owner
from fleetcast.daemons.remedy.playbooks.turns import Ask, Conditions
from fleetcast.events.content import Kind
from fleetcast.events.incidents import ResourceType
from fleetcast.events.payloads import DaemonState
from fleetcast.events.remedies import RUN_ENDED, PlaybookRunState, ResourceRuns, RunPhase, resource_subject
from fleetcast.events.state import NodeStatus, SlotState
from fleetcast.registry.errors import RecordDamaged

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.remedy")

TRIES = 20
SILENT_BEATS = 3.0


@dataclass(slots=True)
class _Other:
    """A remedy daemon as its heartbeat shows it."""

    process: str
    stopped: bool
    heard_at: float


class Keeper:
    """Runs of this fleet, beside any number of other keepers."""

    def __init__(
        self,
        bus: Bus,
        ledger: RemedyLedger,
        settings: Settings,
        playbooks: Playbooks,
        steps: Mapping[str, Step],
        around: Surroundings,
    ) -> None:
        self.playbooks = playbooks
        self.steps = steps
        self.around = around
        self.known = asyncio.Event()
        """Set once all runs under way have been read."""
        self.store = RunStore(ledger, actor=around.actor)
        self._bus = bus
        self._settings = settings
        self._breaker = Breaker.of(settings.remedy)
        self._owner = f"{bus.node}/{os.getpid()}"
        self._resources: dict[str, ResourceRuns] = {}
        self._others: dict[str, _Other] = {}
        self._look_now = asyncio.Event()
        self.runner = Runner(self.store, steps, around, owner=self._owner, on_left=lambda _: self._look_now.set())

    @property
    def resources(self) -> tuple[ResourceRuns, ...]:
        """The runs about every resource, as far as they were heard of."""
        return tuple(self._resources.values())

    def sentence(self) -> str:
        """What is done now, for people."""
        count = len(self.runner.under_way)
        return f"{count} playbook{'' if count == 1 else 's'} under way" if count else "no playbook under way"

    async def run(self) -> None:
        """Look after runs until cancelled; those that are carried out here are left as they are written."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow(), name="playbooks-follow")
                tasks.create_task(self._hear(), name="playbooks-others")
                tasks.create_task(self._look(), name="playbooks-look")
        finally:
            await self.runner.stop()

    # -- a new run

    async def ask(self, ask: Ask) -> PlaybookRunState:
        """Make a run of what is asked, and begin it where it is its turn; the same request makes one run.

        Raises:
            KeyError: there is no such playbook.
            BusUnavailable: it could not be stored; asking again is safe.
            RecordDamaged: what is stored cannot be read.
        """
        playbook = self.playbooks.find(ask.playbook)
        if playbook is None:
            raise KeyError(ask.playbook)
        for attempt in range(1, TRIES + 1):
            try:
                return await self._open(ask, playbook)
            except Conflict:
                await asyncio.sleep(CONFLICT.delay(attempt))
        raise BusUnavailable(f"the runs about {ask.resource_id} change all the time")

    async def _open(self, ask: Ask, playbook: Playbook) -> PlaybookRunState:
        known, shelf, conditions = await asyncio.gather(
            self.store.find(ask.run),
            self.store.shelf(ask.resource_type, ask.resource_id),
            self._conditions(ask.resource_type, ask.resource_id),
        )
        if known is not None:
            return known.run
        running = shelf.books.resource.running
        busy = await self.store.find(running) if running is not None else None
        now = self.around.now()
        made = turns.made(_about(ask, playbook, conditions.slot), playbook, now)
        over = busy is None or busy.run.phase in RUN_ENDED
        run, books = turns.opened(
            made, shelf.books, None if over or busy is None else busy.run, conditions, self._owner, now
        )
        kept = await self.store.save(None, run, now, shelf=shelf, books=books, superseded=busy)
        log.info(
            "playbook.asked",
            run=run.run,
            playbook=run.playbook,
            resource=run.resource_id,
            model=run.model,
            version=run.version,
            phase=run.phase.value,
            detail=run.phase_detail or None,
            by=run.by,
            correlation_id=run.cause.correlation,
        )
        if run.phase in {RunPhase.RUNNING, RunPhase.APPROVAL}:
            self.runner.begin(kept)
        return kept.run

    async def _conditions(self, resource_type: ResourceType, resource_id: str) -> Conditions:
        slot: SlotState | None = None
        if resource_type is ResourceType.MODEL:
            slot = await self.around.book.slot(resource_id, Kind.MODEL)
        return Conditions(self._breaker, slot, self._settings.remedy.request_age_seconds)

    # -- runs that are there

    async def _follow(self) -> None:
        """The books about resources: what is carried out, wherever."""
        async for entry in self._bus.watch(REMEDY, (resource_subject("*"),)):
            if isinstance(entry, InSync):
                self.known.set()
            else:
                try:
                    self._resources[entry.subject] = read(ResourceRuns, entry)
                except RecordDamaged as e:
                    log.warning("record.unreadable", subject=entry.subject, reason=str(e))
            self._look_now.set()

    async def _hear(self) -> None:
        """The heartbeats of remedy daemons."""
        loop = asyncio.get_running_loop()
        async for entry in self._bus.watch(f"KV_{NODES_BUCKET}", (f"$KV.{NODES_BUCKET}.*.remedy",)):
            if isinstance(entry, InSync) or not entry.data:
                continue
            try:
                status = NodeStatus.model_validate_json(entry.data)
            except ValidationError:
                log.warning("heartbeat.unreadable", subject=entry.subject)
                continue
            process = f"{status.node}/{status.pid}"
            self._others[status.node] = _Other(process, status.state is DaemonState.STOPPED, loop.time())

    async def _look(self) -> None:
        """Take up what nobody carries out, now and then and whenever something changed."""
        await self.known.wait()
        began = asyncio.get_running_loop().time()
        while True:
            self._look_now.clear()
            for resource in list(self._resources.values()):
                if resource.running is not None and resource.running not in self.runner.under_way:
                    await self._consider(resource.running, began)
            try:
                async with asyncio.timeout(self._settings.remedy.look_seconds):
                    await self._look_now.wait()
            except TimeoutError:
                continue

    async def _consider(self, run: str, began: float) -> None:
        try:
            kept = await self.store.find(run)
            if kept is None or kept.run.phase in RUN_ENDED or run in self.runner.under_way:
                return
            if kept.run.phase is RunPhase.WAITING:
                await self._its_turn(kept)
            elif self._is_ours(kept.run.owner, began):
                await self._take(kept)
        except Conflict:
            log.debug("playbook.left", run=run, reason="another daemon was quicker")
        except (BusError, RecordDamaged) as e:
            log.warning("playbook.waiting", run=run, reason=str(e))

    async def _its_turn(self, kept: Kept) -> None:
        run = kept.run
        shelf, conditions = await asyncio.gather(
            self.store.shelf(run.resource_type, run.resource_id), self._conditions(run.resource_type, run.resource_id)
        )
        if shelf.books.resource.running != run.run:
            return
        now = self.around.now()
        begun, books = turns.turn(run, shelf.books, conditions, self._owner, now)
        stored = await self.store.save(kept, begun, now, shelf=shelf, books=books)
        if begun.phase not in RUN_ENDED:
            self.runner.begin(stored)

    async def _take(self, kept: Kept) -> None:
        now = self.around.now()
        log.warning("playbook.taken", run=kept.run.run, playbook=kept.run.playbook, of=kept.run.owner or "nobody")
        mine = with_owner(kept, rules.taken(kept.run, self._owner, now))
        if mine.phase not in RUN_ENDED:
            self.runner.begin(await self.store.save(kept, mine, now))
            return
        shelf = await self.store.shelf(mine.resource_type, mine.resource_id)
        await self.store.save(kept, mine, now, shelf=shelf, books=turns.left(mine, shelf.books))

    def _is_ours(self, owner: str, began: float) -> bool:
        """Whether a run is to be taken: nobody has it, or its owner is gone. A process of our own node's name that is
        not this one is gone; others have some heartbeats' time to be heard of."""
        node = owner.partition("/")[0]
        if owner in {"", self._owner} or node == self._bus.node:
            return True
        silent = SILENT_BEATS * self._settings.distributor.heartbeat_seconds
        other = self._others.get(node)
        now = asyncio.get_running_loop().time()
        if other is None:
            return now - began > silent
        return other.stopped or other.process != owner or now - other.heard_at > silent


def _about(ask: Ask, playbook: Playbook, slot: SlotState | None) -> Ask:
    """What is asked, with the version that is meant where what is served is to be changed and none was named: the one
    that is served now, and not the one that is served once it is the request's turn."""
    if ask.version is not None or not playbook.breaker or slot is None:
        return ask
    return replace(ask, version=bad_version(slot, None))
