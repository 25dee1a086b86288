"""Inspection: proves again what is installed, names what differs, and starts its repair from peers."""

import asyncio
import time

import structlog
from pydantic import ValidationError

from fleetcast.bus import ServiceError
from fleetcast.daemons.distributor.neighbours import Neighbours
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.reconcile import Reconciler
from fleetcast.daemons.distributor.report import FileVerdict, InspectionReport, InspectionRequest, VersionName
from fleetcast.daemons.distributor.shelf import Shelf
from fleetcast.daemons.distributor.transfers import Transfers
from fleetcast.events.content import Kind
from fleetcast.events.payloads import IntegrityFailed
from fleetcast.events.state import InstalledVersion
from fleetcast.registry.slots import Line

log = structlog.get_logger("fleetcast.distributor.inspection")


class Inspector:
    """Answers `fc.svc.distributor.verify`."""

    def __init__(
        self, parts: Parts, neighbours: Neighbours, shelf: Shelf, transfers: Transfers, reconciler: Reconciler
    ) -> None:
        self._parts = parts
        self._neighbours = neighbours
        self._shelf = shelf
        self._transfers = transfers
        self._reconciler = reconciler
        self._one_at_a_time = asyncio.Lock()
        self._proving: dict[str, asyncio.Lock] = {}

    async def answer(self, body: bytes) -> bytes:
        """Handle a request of the service.

        Raises:
            ServiceError: the request is not one.
        """
        try:
            request = InspectionRequest.model_validate_json(body or b"{}")
        except ValidationError as invalid:
            raise ServiceError(400, f"not a verify request: {invalid.errors()[0]['msg']}") from invalid
        if request.nodes is not None and self._parts.node not in request.nodes:
            return InspectionReport(node=self._parts.node).model_dump_json().encode()
        async with self._one_at_a_time:
            report = await self.inspect(request)
        return report.model_dump_json().encode()

    async def follow_lost_seeds(self) -> None:
        """Inspect what the swarm found it cannot read any more, until cancelled."""
        while True:
            artifact = await self._parts.lost_seeds.get()
            for _, name, installed in self._shelf.versions():
                if installed.artifact == artifact:
                    async with self._one_at_a_time:
                        await self.inspect(InspectionRequest(model=name, version=installed.version))

    async def inspect(self, request: InspectionRequest) -> InspectionReport:
        """Prove what *request* names; repair what differs."""
        began = time.monotonic()
        await self._shelf.refresh()
        checked: list[FileVerdict] = []
        damaged: list[VersionName] = []
        for kind, name, installed in self._shelf.versions():
            if request.model not in {None, name} or request.version not in {None, installed.version}:
                continue
            verdicts = await self._examine(kind, name, installed)
            checked += verdicts
            if any(not v.ok for v in verdicts):
                damaged.append(VersionName(model=name, version=installed.version))
        return InspectionReport(
            node=self._parts.node,
            checked=tuple(checked),
            repairing=tuple(damaged),
            seconds=round(time.monotonic() - began, 3),
        )

    async def is_sound(self, line: Line, version: str) -> bool:
        """Prove a version that is about to be served, whatever else is being inspected; repair it where it differs."""
        for kind, name, installed in self._shelf.versions():
            if (kind, name) == line and installed.version == version:
                verdicts = await self._examine(kind, name, installed)
                return bool(verdicts) and all(v.ok for v in verdicts)
        return False

    async def _examine(self, kind: Kind, name: str, installed: InstalledVersion) -> list[FileVerdict]:
        """Prove one version and repair what differs; nothing, when somebody has just taken it away for that."""
        async with self._proving.setdefault(installed.artifact, asyncio.Lock()):
            if not self._shelf.holds((kind, name), installed.version, installed.artifact):
                return []
            verdicts = await self._prove(kind, name, installed)
            if wrong := [v for v in verdicts if not v.ok]:
                await self._repair(kind, name, installed, wrong)
            return verdicts

    async def _prove(self, kind: Kind, name: str, installed: InstalledVersion) -> list[FileVerdict]:
        store = self._parts.store
        record = await asyncio.to_thread(store.read_record, installed.artifact)
        folder = store.version_folder(kind, name, installed.version)
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._parts.hashing, store.prove, name, installed.version, kind)
        wrong = {m.path: m for m in found}
        return [
            FileVerdict(
                kind=kind,
                model=name,
                version=installed.version,
                path=str(folder / file.path),
                file=file.path,
                ok=file.path not in wrong,
                expected=file.sha256,
                actual=wrong[file.path].actual if file.path in wrong else file.sha256,
                bytes=file.size,
            )
            for file in record.content.files
        ]

    async def _repair(self, kind: Kind, name: str, installed: InstalledVersion, wrong: list[FileVerdict]) -> None:
        """Take the damaged bytes away and let the goals bring them back from peers."""
        parts = self._parts
        for verdict in wrong:
            log.error(
                "integrity.failed", model=name, version=installed.version, path=verdict.path, actual=verdict.actual
            )
        await parts.bittorrent.unseed(installed.artifact)
        await self._neighbours.leave(installed.artifact)
        record = await asyncio.to_thread(parts.store.read_record, installed.artifact)
        await asyncio.to_thread(parts.store.withdraw, record.content, [v.file for v in wrong])
        await self._shelf.refresh()
        self._transfers.give_another_chance(installed.artifact)
        self._reconciler.repair((kind, name), installed)
        for verdict in wrong:
            fact = IntegrityFailed(
                node=parts.node,
                model=name,
                version=installed.version,
                artifact=installed.artifact,
                path=verdict.path,
                expected=verdict.expected,
                actual=verdict.actual or "unreadable",
            )
            parts.say_first(fact)
