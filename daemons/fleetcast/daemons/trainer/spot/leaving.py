"""A node that is about to be taken away: notices are told once, no new run is taken, and the runs that are here are
saved, stopped and given back before the deadline.

The metadata service is asked by this daemon; what is told comes back as an event, like the notice that a person types
or a drill sends, and each is acted on once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

import structlog

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError
from fleetcast.bus.streams import EVENTS
from fleetcast.daemons.trainer.spot import rules
from fleetcast.daemons.trainer.spot.asking import NoAnswer
from fleetcast.daemons.trainer.spot.notices import Adapter, Notice
from fleetcast.daemons.trainer.spot.rules import Leave, RunHere
from fleetcast.events import names
from fleetcast.events.envelope import EventInvalid, new_event
from fleetcast.events.ids import derived_id
from fleetcast.events.training import ReclaimNotice
from fleetcast.registry.commands import stamp
from fleetcast.registry.errors import RecordDamaged

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer.spot")

POLL_SECONDS: Final = 2.0
"""Between questions: of the shortest notice, thirty seconds, it costs two; a question costs a millisecond."""
LOOK_SECONDS: Final = 0.5
STILL_HERE: Final = timedelta(seconds=60)
"""A machine that is here so long after its deadline was not taken away."""
LOOK_BACK: Final = timedelta(hours=1)
"""A daemon that is started anew looks so far back for notices whose deadline is still to come."""
BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class Hands(Protocol):
    """Whoever has this node's runs in hand."""

    def here(self) -> Sequence[RunHere]:
        """The runs that this node owns now."""
        ...

    async def leave(self, leave: Leave, deadline: datetime) -> bool:
        """Stop a run in time and give it back, so that another node goes on with it; whether it saved for that."""
        ...


class Leaving:
    """Owner of whether this node is being left.

    Attributes:
        notices, saves: notices that runs here got since the daemon began, and saves that came of them in time.
    """

    def __init__(
        self,
        bus: Bus,
        hands: Hands,
        *,
        node: str,
        now: Callable[[], datetime],
        adapter: Adapter | None = None,
        poll_seconds: float = POLL_SECONDS,
        changed: Callable[[], None] = lambda: None,
        counted: Callable[[str, bool], Awaitable[None]] | None = None,
    ) -> None:
        """Make one.

        Args:
            changed: called when `deadline` changes.
            counted: called with every run that was left, and whether it saved.
        """
        self.notices = self.saves = 0
        self._bus = bus
        self._hands = hands
        self._node = node
        self._now = now
        self._adapter = adapter
        self._poll_seconds = poll_seconds
        self._changed = changed
        self._counted = counted
        self._told: set[tuple[str, str]] = set()
        self._acted: set[tuple[str, str, str]] = set()
        self._standing: list[datetime] = []

    @property
    def deadline(self) -> datetime | None:
        """When this machine goes, if that is soon; None: as far as is known it stays. Until then it takes no runs."""
        now = self._now()
        near = (at for at in self._standing if rules.is_near(at, now) and at > now - STILL_HERE)
        return min(near, default=None)

    async def run(self) -> None:
        """Ask and act until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self._adapter is not None:
                tasks.create_task(self._poll(self._adapter, tasks), name="spot notices")
            await self._listen(tasks)

    async def _poll(self, adapter: Adapter, tasks: asyncio.TaskGroup) -> None:
        away = False
        boot = await asyncio.to_thread(_boot)
        while True:
            try:
                for notice in await adapter.look():
                    await self._tell(notice, boot, tasks)
                away = False
            except NoAnswer as none:
                if not away:
                    log.warning("spot.no_metadata", cloud=adapter.name, reason=str(none))
                away = True
            await asyncio.sleep(self._poll_seconds)

    async def _tell(self, notice: Notice, boot: str, tasks: asyncio.TaskGroup) -> None:
        """Say it to the fleet, once, and act on it at once: the bus may be what is away."""
        if notice.key in self._told:
            return
        self._told.add(notice.key)
        payload = ReclaimNotice(
            node=self._node,
            deadline=stamp(notice.deadline),
            source=notice.source,
            certain=notice.certain,
            detail=notice.detail,
        )
        event_id = derived_id(f"{boot}/{notice.source}/{notice.detail}", "node.reclaim.notice", self._node)
        event = new_event(payload, source=f"/fleet/{self._node}/trainer", event_id=event_id)
        self._take(payload, tasks)
        try:
            await self._bus.publish(event, deadline_seconds=10.0)
        except BusError as away:
            log.warning("spot.not_told", source=notice.source, reason=str(away))

    async def _listen(self, tasks: asyncio.TaskGroup) -> None:
        subject = names.find("node.reclaim.notice").subject(self._node)
        since = self._now() - LOOK_BACK
        async for entry in self._bus.tail(EVENTS, (subject,), start_time=since, follow=True):
            try:
                payload = entry.event().payload
            except EventInvalid:
                continue  # the intake refuses it, and says so
            if isinstance(payload, ReclaimNotice):
                self._take(payload, tasks)

    def _take(self, notice: ReclaimNotice, tasks: asyncio.TaskGroup) -> None:
        """Begin to act on a notice; once, however it came here."""
        key = (notice.source, notice.detail, notice.deadline)
        deadline = datetime.fromisoformat(notice.deadline)
        if key in self._acted or deadline < self._now() - STILL_HERE:
            return
        self._acted.add(key)
        tasks.create_task(self._act(notice, deadline), name=f"leaving: {notice.source}")

    async def _act(self, notice: ReclaimNotice, deadline: datetime) -> None:
        self._standing.append(deadline)
        left = (deadline - self._now()).total_seconds()
        log.warning("node.reclaimed", source=notice.source, seconds_left=round(left, 1), certain=notice.certain)
        await asyncio.sleep(max(0.0, left - rules.NEAR.total_seconds()))
        self._changed()
        if notice.certain:
            await self._leave(deadline)

    async def _leave(self, deadline: datetime) -> None:
        """Let every run go, also one whose claim was under way when the notice came."""
        asked: set[str] = set()
        async with asyncio.TaskGroup() as tasks:
            while True:
                present = [run for run in self._hands.here() if run.run not in asked]
                asked |= {run.run for run in present}
                for leave in rules.plan(present, deadline, self._now()):
                    tasks.create_task(self._leave_one(leave, deadline), name=f"leaving: {leave.run}")
                if self._now() >= deadline:
                    return
                await asyncio.sleep(LOOK_SECONDS)

    async def _leave_one(self, leave: Leave, deadline: datetime) -> None:
        log.info("run.leaving", run=leave.run, save=leave.save, reason=leave.why)
        self.notices += 1
        saved = await self._hands.leave(leave, deadline)
        self.saves += saved
        log.info("run.left", run=leave.run, saved=saved)
        if self._counted is not None:
            try:
                await self._counted(leave.run, saved)
            except (BusError, RecordDamaged, KeyError) as problem:
                log.warning("spot.not_counted", run=leave.run, reason=str(problem))


def _boot() -> str:
    try:
        return BOOT.read_text().strip()
    except OSError:
        return "unknown"
