"""The archivist of a node: versions that are archived leave it for the archive, and come back from there.

Level-triggered, as the reconciler: it compares what the registry says with what is here, at start, on news, and every
few seconds. Every step may be repeated, and none takes bytes away before they have another proven place.
"""

import asyncio
from collections.abc import Sequence

import structlog

from fleetcast.bus import Entry, InSync
from fleetcast.bus.errors import BusError
from fleetcast.client.ulid import new_ulid
from fleetcast.daemons.distributor.acquire import Acquisition
from fleetcast.daemons.distributor.archival import Key, Step, next_step
from fleetcast.daemons.distributor.contents import offer_of
from fleetcast.daemons.distributor.parts import Follows, Parts
from fleetcast.daemons.distributor.reconcile import Reconciler
from fleetcast.daemons.distributor.removal import Remover
from fleetcast.daemons.distributor.shelf import Shelf
from fleetcast.events import names
from fleetcast.events.content import Kind
from fleetcast.events.decisions import ArchiveChanged
from fleetcast.events.envelope import new_event
from fleetcast.events.errors import EventInvalid
from fleetcast.events.lifecycle import ArchiveOrder, EntryState
from fleetcast.events.payloads import Checks, IntegrityFailed, Origin
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import ArchiveKept, Returned
from fleetcast.registry.entries import EntriesSince
from fleetcast.registry.errors import RegistryError
from fleetcast.registry.slots import Line
from fleetcast.transport.errors import TransportError, VersionHeld
from fleetcast.transport.store import ArchivedItem, Mismatch

log = structlog.get_logger("fleetcast.distributor.archive")


class Archivist:
    """Owner of the archive of this node."""

    def __init__(
        self, parts: Parts, shelf: Shelf, acquisition: Acquisition, remover: Remover, reconciler: Reconciler
    ) -> None:
        self._parts = parts
        self._shelf = shelf
        self._acquisition = acquisition
        self._remover = remover
        self._reconciler = reconciler
        self._since = EntriesSince(parts.bus)
        self._client = RegistryClient(parts.bus, actor=parts.source)
        self._items: dict[str, ArchivedItem] = {}
        self._retired: set[str] = set()
        self._named: set[str] = set()
        self._wake = asyncio.Event()

    async def watch(self) -> None:
        """Follow the news of archives until cancelled."""
        async for entry in self._parts.bus.watch("FC_EVENTS", (names.find("archive.changed").subject("*"),)):
            if not isinstance(entry, InSync):
                self._hear(entry)

    def _hear(self, entry: Entry) -> None:
        try:
            payload = entry.event().payload
        except EventInvalid as invalid:
            log.warning("archive.news_invalid", subject=entry.subject, reason=invalid.reason)
            return
        if isinstance(payload, ArchiveChanged):
            if payload.node == self._parts.node:
                self._named.add(payload.model)
            self._wake.set()

    async def run(self) -> None:
        """Compare and act until cancelled."""
        await self._list()
        while True:
            self._wake.clear()
            try:
                await self.look()
            except BusError as away:
                log.debug("archive.waiting", reason=str(away))
            except (TransportError, RegistryError) as fault:
                log.warning("archive.waiting", reason=str(fault))
            try:
                async with asyncio.timeout(self._parts.settings.distributor.resync_seconds):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """One comparison, and a step for each version that needs one.

        Raises:
            BusError: the bus does not answer.
        """
        book = self._parts.archive
        changed = book.take(await self._since.read(self._models()), self._listed_keys())
        if changed:
            self._reconciler.wake()
        for entry in book.entries:
            for item in self._superseded(entry):
                await self._clear(item)
            step = self._step(entry)
            if step is None or step is Step.FETCH:
                continue
            structlog.contextvars.bind_contextvars(model=entry.model, archived_version=entry.version)
            try:
                await self._take(step, entry)
            except VersionHeld as held:
                log.debug("archive.waiting", step=step.value, reason=str(held))
            except (TransportError, RegistryError) as fault:
                log.warning("archive.again", step=step.value, reason=str(fault))
            finally:
                structlog.contextvars.unbind_contextvars("model", "archived_version")

    def _models(self) -> frozenset[str]:
        """The models that are followed: what is here, what is wanted, and what this node was named to keep."""
        here = frozenset(name for kind, name in self._shelf.lines if kind is Kind.MODEL)
        listed = frozenset(item.model for item in self._items.values())
        return here | listed | self._named | self._parts.archive.models | self._reconciler.models

    def _listed_keys(self) -> list[Key]:
        return [(item.model, item.version) for item in self._items.values()]

    def _step(self, entry: EntryState) -> Step | None:
        item, order = self._item_of(entry), entry.archive
        held = self._shelf.holds(_line(entry), entry.version, entry.artifact)
        # A version that was restored and archived again at once is listed with what was said the first time.
        outdated = item is not None and order is not None and item.n != order.n and held
        return next_step(
            entry,
            self._parts.node,
            listed=item is not None and not outdated,
            held=held,
            retired=order is not None and order.folder in self._retired,
        )

    def _item_of(self, entry: EntryState) -> ArchivedItem | None:
        """The version as the archive here lists it."""
        if entry.archive is not None:
            return self._items.get(entry.archive.folder)
        found = (i for i in self._items.values() if (i.model, i.version) == (entry.model, entry.version))
        return next(found, None)

    def _superseded(self, entry: EntryState) -> list[ArchivedItem]:
        """What the archive here lists of a version that is kept in another place by now."""
        order = entry.archive
        if order is None or order.kept_at is None:
            return []
        if order.node == self._parts.node and order.folder not in self._items:
            return []
        key = (entry.model, entry.version)
        return [i for i in self._items.values() if (i.model, i.version) == key and i.folder != order.folder]

    async def _take(self, step: Step, entry: EntryState) -> None:
        if step is Step.FORGET:
            await self._forget(entry)
        elif step is Step.RETURN:
            await self._return(entry)
        elif step is Step.KEEP:
            await self._keep(entry, _order(entry))
        elif step is Step.TELL:
            await self._tell(entry, _order(entry))
        else:
            await self._retire(_order(entry))

    # -- into the archive

    async def _keep(self, entry: EntryState, order: ArchiveOrder) -> None:
        """Let the archive hold it, once every byte was read again: damage must not go there."""
        store = self._parts.store
        content = (await asyncio.to_thread(store.read_record, entry.artifact)).content
        loop = asyncio.get_running_loop()
        wrong = await loop.run_in_executor(self._parts.idle, store.verify, content)
        if wrong:
            self._say_damaged(entry, wrong)
            await asyncio.to_thread(store.withdraw, content, [m.path for m in wrong])
            await self._shelf.refresh(_line(entry))
            return
        item = ArchivedItem(
            model=entry.model,
            version=entry.version,
            artifact=entry.artifact,
            content=content,
            folder=order.folder,
            stage=order.stage,
            rule=order.rule,
            reason=order.reason,
            by=order.by,
            at=order.at,
            n=order.n,
            facts=entry.facts.model_dump(mode="json", exclude_none=True),
        )
        await asyncio.to_thread(store.archive.keep, item)
        self._retired.discard(order.folder)
        await self._list()
        log.info("version.archived", version=entry.version, folder=order.folder, bytes=content.size)
        await self._tell(entry, order)

    async def _tell(self, entry: EntryState, order: ArchiveOrder) -> None:
        command = ArchiveKept(model=entry.model, version=entry.version, node=self._parts.node)
        await self._client.transition(command, request=f"archive_kept/{entry.version}/{order.n}")
        self._wake.set()

    async def _retire(self, order: ArchiveOrder) -> None:
        """The archive has it, and the registry knows: nothing else here need have it."""
        await self._remover.retire(order.folder, f"archived: {order.reason}")
        self._retired.add(order.folder)

    # -- back from it

    async def _return(self, entry: EntryState) -> None:
        """Prove every byte of the archive again; put the version back, or say why not and change nothing."""
        item, order = self._item_of(entry), entry.archive
        fault = await self._prove(entry, item)
        if fault is None:
            if item is not None:
                await asyncio.to_thread(self._parts.store.archive.give_back, item)
                self._retired.discard(item.folder)
            await self._install(entry)
        if order is not None and order.restore is not None:
            command = Returned(model=entry.model, version=entry.version, node=self._parts.node, fault=fault)
            await self._client.transition(command, request=f"returned/{entry.version}/{order.restore.n}")
        log.info("version.restored" if fault is None else "restore.refused", version=entry.version, reason=fault)
        self._wake.set()

    async def _prove(self, entry: EntryState, item: ArchivedItem | None) -> str | None:
        """Why a version cannot come back; None: every byte is right."""
        store, loop = self._parts.store, asyncio.get_running_loop()
        if item is not None:
            wrong = await loop.run_in_executor(self._parts.hashing, store.archive.prove, item)
            place = f"{item.folder}/"
        elif self._shelf.holds(_line(entry), entry.version, entry.artifact):
            # The archive had not got it yet when it was asked back.
            record = await asyncio.to_thread(store.read_record, entry.artifact)
            wrong = await loop.run_in_executor(self._parts.hashing, store.verify, record.content)
            place = ""
        else:
            return f"the archive of {self._parts.node} does not list it, and it is not installed there"
        self._say_damaged(entry, wrong)
        said = [f"{place}{m.path} is damaged: SHA-256 {m.actual[:16]}, not {m.expected[:16]}" for m in wrong]
        return "; ".join(said[:5]) or None

    async def _install(self, entry: EntryState) -> None:
        """Install what is in the store again, and offer it as its origin did."""
        parts = self._parts
        state = await parts.registry.version(entry.model, entry.version)
        if state is None or state.artifact != entry.artifact:
            raise RegistryError(f"{entry.model}@{entry.version} is not reserved for {entry.artifact}")
        offer = await offer_of(parts.bus, state)
        verdict = (await self._acquisition.prove_stored(offer.content)).verdict
        await self._acquisition.keep_own(offer, verdict, install=False)
        if not self._shelf.holds(_line(entry), entry.version, entry.artifact):
            checks = Checks(size="ok", sha256="confirmed", format=verdict)
            await self._acquisition.install(
                offer, transport="archive", seconds=0.0, checks=checks, transfer=f"archive/{new_ulid()}"
            )
        payload = offer.announcement(Origin(node=parts.node, endpoints=parts.endpoints), cause=offer.cause)
        number = entry.archive.restore.n if entry.archive and entry.archive.restore else 0
        await parts.bus.publish(
            new_event(
                payload,
                source=parts.source,
                cause=Follows(offer.cause, offer.correlation),
                discriminator=f"restored/{entry.version}/{number}",
            )
        )

    async def _forget(self, entry: EntryState) -> None:
        """It is installed, and no archive need have it."""
        item = self._item_of(entry)
        assert item is not None
        await self._clear(item)
        self._parts.archive.drop((entry.model, entry.version))

    async def _clear(self, item: ArchivedItem) -> None:
        await asyncio.to_thread(self._parts.store.archive.forget, item.folder)
        await self._list()

    # -- what there is

    async def _list(self) -> None:
        listed = await asyncio.to_thread(self._parts.store.archive.items)
        self._items = {item.folder: item for item in listed}
        self._parts.archive.listed = frozenset(self._items)

    def _say_damaged(self, entry: EntryState, wrong: Sequence[Mismatch]) -> None:
        for mismatch in wrong:
            log.error("integrity.failed", version=entry.version, path=mismatch.path, actual=mismatch.actual)
            fact = IntegrityFailed(
                node=self._parts.node,
                model=entry.model,
                version=entry.version,
                artifact=entry.artifact,
                path=mismatch.path,
                expected=mismatch.expected,
                actual=mismatch.actual,
            )
            self._parts.say_first(fact)


def _line(entry: EntryState) -> Line:
    return (Kind.MODEL, entry.model)


def _order(entry: EntryState) -> ArchiveOrder:
    assert entry.archive is not None, "only what is archived has such a step"
    return entry.archive
