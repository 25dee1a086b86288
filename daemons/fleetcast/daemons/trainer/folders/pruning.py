"""Prunes the folders of this node's runs now and then, and when it is asked to."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence, Set
from datetime import UTC, datetime

import structlog

from fleetcast.bus.errors import BusError
from fleetcast.daemons.runtime.requests import read_request, refusals
from fleetcast.daemons.trainer.checkpoints.keeper import Checkpoints
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.folders import removal, rules
from fleetcast.daemons.trainer.folders.commands import FoldersReport, FoldersRequest, RunFolder
from fleetcast.daemons.trainer.folders.rules import Policy, Situation, Verdict
from fleetcast.daemons.trainer.starting import Place
from fleetcast.events.training import TrainingRunState
from fleetcast.registry.errors import RecordDamaged

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

LOOK_SECONDS = 300.0
"""Between looks: what they find has waited for days, and a look reads the folders' names and sizes."""

IsBusy = Callable[[str], Awaitable[bool]]
"""Whether something of a run still runs on this node, or is seen to."""


class Pruner:
    """Removes what the settings let go."""

    def __init__(
        self,
        place: Place,
        store: RunStore,
        checkpoints: Checkpoints,
        *,
        policy: Policy,
        now: Callable[[], datetime],
        is_busy: IsBusy,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """Make one; *now*: the server's time."""
        self._place = place
        self._store = store
        self._checkpoints = checkpoints
        self._policy = policy
        self._now = now
        self._is_busy = is_busy
        self._look_seconds = look_seconds
        self._one_at_a_time = asyncio.Lock()
        self._named: set[str] = set()

    async def run(self) -> None:
        """Prune until cancelled."""
        while True:
            try:
                await asyncio.to_thread(removal.finish, self._place.runs)
                await self.prune()
            except (BusError, RecordDamaged, OSError) as e:
                # Without the records nothing may go.
                log.warning("run.folders_waiting", reason=str(e))
            await asyncio.sleep(self._look_seconds)

    async def answer(self, body: bytes) -> bytes:
        """Handle a request of the service.

        Raises:
            ServiceError: 400: it is none; 500: what is stored cannot be read; 503: not now, ask again.
        """
        asked = read_request(FoldersRequest.model_validate_json, body or b"{}")
        with refusals():
            said = await self.prune(dry_run=asked.dry_run, why=": ".join(filter(None, (asked.actor, asked.reason))))
        return said.model_dump_json().encode()

    async def prune(self, *, dry_run: bool = False, why: str = "") -> FoldersReport:
        """Remove what may go.

        Args:
            dry_run: only say what that is.
            why: who asked for it and why; empty: nobody did.

        Raises:
            BusError: the bus does not answer.
            RecordDamaged: what is stored of a run cannot be read.
            OSError: the folders cannot be listed.
        """
        async with self._one_at_a_time:
            judged = await self.judge()
            removed = [each for each in judged if each.goes and (dry_run or await self._remove(each, why))]
            return FoldersReport(
                node=self._place.node,
                dry_run=dry_run,
                removed=tuple(_said(each) for each in removed),
                kept=tuple(_said(each) for each in judged if each not in removed),
            )

    async def judge(self) -> tuple[Verdict, ...]:
        """A verdict on every folder; errors as `prune`."""
        folders = await asyncio.to_thread(lambda: [removal.measured(p) for p in removal.found(self._place.runs)])
        runs = {}
        for folder in folders:
            if (kept := await self._store.find(folder.run)) is not None:
                runs[folder.run] = kept.run
        # Last: what begins meanwhile is seen.
        busy = {folder.run for folder in folders if await self._is_busy(folder.run)}
        return self._judged(folders, runs, busy)

    def _judged(
        self, folders: Sequence[rules.Folder], runs: dict[str, TrainingRunState], busy: Set[str]
    ) -> tuple[Verdict, ...]:
        of = Situation(self._place.node, runs, busy, now=self._now(), here=datetime.now(UTC))
        judged = rules.judge(folders, of, self._policy)
        for each in judged:
            if not each.recorded and each.folder.run not in self._named:
                self._named.add(each.folder.run)
                log.warning("run.folder_without_record", path=str(each.folder.path), bytes=each.folder.bytes)
        return judged

    async def _remove(self, verdict: Verdict, why: str) -> bool:
        folder = verdict.folder
        try:
            if verdict.recorded and not await self._checkpoints.forget(folder.run, folder.path):
                return False
            await asyncio.to_thread(removal.remove, folder.path)
        except (BusError, RecordDamaged, OSError) as fault:
            log.warning("run.folder_not_removed", run=folder.run, path=str(folder.path), reason=str(fault))
            # Once it is set aside it is gone for everybody; what is left is deleted at the next look.
            return not await asyncio.to_thread(folder.path.exists)
        reason = "; ".join(filter(None, (verdict.why, why)))
        log.info("run.folder_removed", run=folder.run, bytes=folder.bytes, reason=reason)
        return True


def _said(verdict: Verdict) -> RunFolder:
    return RunFolder(run=verdict.folder.run, bytes=verdict.folder.bytes, why=verdict.why)
