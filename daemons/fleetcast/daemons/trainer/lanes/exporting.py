"""A lane's export command: it writes the data set, or announces one itself; what it wrote is announced here. Which node
runs it is decided in the lane's ledger: whoever writes that it was begun, runs it."""

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import structlog

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError
from fleetcast.client.ulid import new_ulid
from fleetcast.config.environment import for_job
from fleetcast.config.settings import Settings
from fleetcast.daemons.distributor.hooks import process
from fleetcast.daemons.distributor.samples import samples_of
from fleetcast.daemons.trainer.lanes.definition import Export, LaneDefinition
from fleetcast.daemons.trainer.lanes.store import LaneStore
from fleetcast.daemons.trainer.lanes.template import filled
from fleetcast.events.content import Format
from fleetcast.events.envelope import new_event
from fleetcast.events.payloads import ExportCompleted
from fleetcast.events.state import Cause
from fleetcast.registry.errors import RecordDamaged
from fleetcast.transport.checks import Verdict, check_format
from fleetcast.transport.errors import StoreError

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

AT_ONCE: Final = 2
"""Export commands of one node at once: they read a lot and compute little."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of an export command.

    Attributes:
        problem: why there is no data set; empty: there is one, or the command announced it itself.
        samples: in the file; None: it wrote none.
    """

    problem: str = ""
    samples: int | None = None


class Exporter:
    """Runs the export commands of lanes on this node.

    Attributes:
        under_way: lanes whose command was asked for and has not ended.
    """

    def __init__(self, bus: Bus, store: LaneStore, settings: Settings) -> None:
        self._bus = bus
        self._store = store
        self._settings = settings
        self.under_way: set[str] = set()
        self._asked: asyncio.Queue[LaneDefinition] = asyncio.Queue()

    def begin(self, definition: LaneDefinition) -> None:
        """Have a lane's command run, if this node may run it and is not doing so."""
        if definition.name not in self.under_way and self._may(definition.export):
            self.under_way.add(definition.name)
            self._asked.put_nowait(definition)

    async def run(self) -> None:
        """Run what is asked for until cancelled; a command that is under way ends with it."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(AT_ONCE):
                tasks.create_task(self._work(), name=f"exports-{number}")

    async def _work(self) -> None:
        while True:
            definition = await self._asked.get()
            try:
                await self._one(definition)
            except (BusError, RecordDamaged, OSError, ValueError) as e:
                log.warning("export.failed", lane=definition.name, reason=" ".join(str(e).split()))
            finally:
                self.under_way.discard(definition.name)

    def _may(self, export: Export | None) -> bool:
        labels = self._settings.node.labels
        return export is not None and all(
            name in labels and fnmatchcase(labels[name], pattern) for name, pattern in export.labels.items()
        )

    async def _one(self, definition: LaneDefinition) -> None:
        request = new_ulid()
        cause = Cause(event=request, sequence=0, by=f"/fleet/{self._bus.node}/trainer", correlation=request)
        if not await self._store.begin_export(definition, cause):
            return
        exported = await self._carry_out(definition)
        if exported.problem:
            log.warning("export.failed", lane=definition.name, reason=exported.problem)
        else:
            log.info("export.done", lane=definition.name, samples=exported.samples)

    async def _carry_out(self, definition: LaneDefinition) -> Exported:
        export = definition.export
        assert export is not None
        folder = self._folder(export)
        if folder is None:
            return Exported("there is nowhere to publish from: set store.publish_roots, or export.folder of the lane")
        spare = folder / f".{definition.name}.{new_ulid().lower()}.npz"
        await asyncio.to_thread(_sweep, folder, definition.name, export.time_limit_seconds)
        try:
            ended = await process.run(
                filled(export.command, self._values(definition, spare)),
                self._environment(definition, spare),
                timeout_seconds=export.time_limit_seconds,
                cwd=str(self._settings.store.data / (export.cwd or definition.cwd or folder)),
            )
            if ended.error is not None:
                return Exported(ended.error)
            return await self._announced(definition, spare, folder / f"{definition.name}.npz")
        finally:
            await asyncio.to_thread(spare.unlink, missing_ok=True)

    def _folder(self, export: Export) -> Path | None:
        roots = self._settings.store.publish_roots
        return Path(export.folder) if export.folder is not None else roots[0] if roots else None

    def _values(self, definition: LaneDefinition, path: Path) -> Mapping[str, object]:
        return {
            "lane": definition.name,
            "model": definition.model,
            "path": path,
            "node": self._bus.node,
        }

    def _environment(self, definition: LaneDefinition, path: Path) -> Mapping[str, str]:
        says = {
            "FLEETCAST_LANE": definition.name,
            "FLEETCAST_EXPORT_PATH": str(path),
            # By these the client finds the spool, for a command that announces its data set itself.
            "FLEETCAST_NODE_ID": self._bus.node,
            "FLEETCAST_STORE_DATA": str(self._settings.store.data),
        }
        return {**for_job(os.environ), **definition.env, **says}

    async def _announced(self, definition: LaneDefinition, spare: Path, path: Path) -> Exported:
        """Announce what the command wrote. New are the samples that the lane's newest data set did not have."""
        if not await asyncio.to_thread(spare.exists):
            return Exported()
        try:
            report = await check_format(spare, Format.NPZ, self._settings.verify)
        except StoreError as e:
            return Exported(str(e))
        seen = samples_of(report.facts)
        if report.verdict is Verdict.REFUSED or seen is None or seen.count == 0:
            return Exported(f"it wrote no loadable export: {report.detail or 'it holds no sample'}")
        await asyncio.to_thread(spare.replace, path)
        state = await self._store.find(definition.name)
        before = state.latest.total if state is not None and state.latest is not None else 0
        payload = ExportCompleted(
            lane=definition.name,
            path=str(path),
            node=self._bus.node,
            samples_new=max(seen.count - before, 0),
            samples_total=seen.count,
        )
        await self._bus.publish(new_event(payload, source=f"/fleet/{self._bus.node}/trainer"))
        return Exported(samples=seen.count)


def _sweep(folder: Path, lane: str, time_limit_seconds: float) -> None:
    """Delete what commands wrote whose trainer was killed: nothing that is older than a command may be is announced."""
    oldest = time.time() - 2 * time_limit_seconds
    for left in folder.glob(f".{lane}.*.npz"):
        with suppress(OSError):
            if left.stat().st_mtime < oldest:
                left.unlink()
