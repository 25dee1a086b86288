"""The origin: takes a file or a folder that an event names on this node, gives it its identity, and offers it to the
fleet."""

import asyncio
import time
from dataclasses import dataclass

import structlog

from fleetcast.bus import Delivery, Reject
from fleetcast.daemons.distributor.acquire import Acquisition
from fleetcast.daemons.distributor.bundles import MetadataDesk
from fleetcast.daemons.distributor.contents import content_of, offer_of, put_content, put_metainfo
from fleetcast.daemons.distributor.parts import Parts, now
from fleetcast.daemons.distributor.proofs import Proof
from fleetcast.daemons.distributor.rules import Offer, data_set_version, offer_from_state
from fleetcast.daemons.distributor.samples import contradiction, impossible_counts, samples_of
from fleetcast.events import names
from fleetcast.events.content import Content, Format, Kind
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.lifecycle import StageName
from fleetcast.events.payloads import (
    DistributionRequested,
    ExportCompleted,
    ManifestEnvelope,
    ModelPromoted,
    ModelSubmitted,
    Origin,
)
from fleetcast.events.state import Cause, DistributionState, SlotEntry, VersionState
from fleetcast.registry import DescriptionInvalid, VersionTaken
from fleetcast.registry.description import described
from fleetcast.registry.fencing import Fence, Stale
from fleetcast.transport import manifest, metainfo
from fleetcast.transport.errors import BadData, ContentRefused, FormatRefused
from fleetcast.transport.store import Ingested, is_folder

log = structlog.get_logger("fleetcast.distributor.origin")


@dataclass(frozen=True, slots=True)
class Submission:
    """What an event asks an origin to take."""

    kind: Kind
    name: str
    version: str | None
    path: str
    asks_to_serve: bool
    to: tuple[str, ...] = ()
    until: str | None = None
    run_id: str | None = None
    metrics: dict[str, object] | None = None
    metadata: dict[str, object] | None = None

    @property
    def stage(self) -> StageName:
        """The stage that it asks for."""
        return StageName(str((self.metadata or {}).get("stage") or StageName.PRODUCTION))


def submission(event: Event) -> Submission | None:
    """The submission in an event; None when the event is of another type."""
    payload = event.payload
    if isinstance(payload, ExportCompleted):
        return Submission(
            kind=Kind.DATASET,
            name=payload.lane,
            version=payload.dataset_id,
            path=payload.path,
            asks_to_serve=True,
            run_id=payload.run_id,
            metadata={"samples_new": payload.samples_new, "samples_total": payload.samples_total},
        )
    if isinstance(payload, DistributionRequested):
        return Submission(
            kind=Kind(payload.kind),
            name=payload.model,
            version=payload.version,
            path=payload.path,
            asks_to_serve=False,
            to=payload.to,
            until=payload.until,
            metadata=payload.metadata,
        )
    if isinstance(payload, ModelSubmitted):
        return Submission(
            kind=Kind.MODEL,
            name=payload.model,
            version=payload.version,
            path=payload.path,
            asks_to_serve=isinstance(payload, ModelPromoted),
            run_id=payload.run_id,
            metrics=payload.metrics,
            metadata=payload.metadata,
        )
    return None


SUBMISSIONS = ("model.promoted", "model.registered", "export.completed", "distribution.requested")


def submission_subjects() -> tuple[str, ...]:
    """Subjects of all events that submit a file or a folder, in both spellings."""
    return tuple(s for name in SUBMISSIONS for s in names.find(name).filters())


class OriginDesk:
    """Handles the events that name this node as the holder of a file. Every step may be repeated."""

    def __init__(self, parts: Parts, acquisition: Acquisition) -> None:
        self._parts = parts
        self._acquisition = acquisition
        self._fence = Fence(parts.bus)
        self._turns: dict[tuple[Kind, str], asyncio.Lock] = {}

    async def handle(self, event: Event, delivery: Delivery) -> None:
        """Take one submission. Those of one line take turns: what two events say at once must be known to be the same.

        Raises:
            Reject: the file or the version cannot be taken.
        """
        asked = submission(event)
        if asked is None or getattr(event.payload, "node", None) != self._parts.node:
            return
        async with self._turns.setdefault((asked.kind, asked.name), asyncio.Lock()):
            await self._take(event, asked, delivery)

    async def _take(self, event: Event, asked: Submission, delivery: Delivery) -> None:
        structlog.contextvars.bind_contextvars(correlation_id=event.correlationid, model=asked.name)
        began = time.monotonic()
        _refuse(await self._fence.check(event))
        try:
            described(asked.metrics, asked.metadata)
            offer = await self._offer(event, asked, delivery.sequence)
        except (BadData, VersionTaken, DescriptionInvalid) as refused:
            raise _refusal(refused) from refused
        if await self._is_repeat(event, asked, offer):
            log.info("export.repeated", version=offer.version, artifact=offer.artifact, first=offer.cause)
            return
        if asked.to:
            served = await self._distribute(event, asked, offer, delivery.sequence)
        else:
            await self._announce(event, offer)
            served = await self._order(event, asked, offer, delivery.sequence)
        log.info(
            "artifact.offered",
            version=offer.version,
            artifact=offer.artifact,
            bytes=offer.content.size,
            slot=served,
            seconds=round(time.monotonic() - began, 3),
        )

    async def _offer(self, event: Event, asked: Submission, sequence: int) -> Offer:
        known = await self._reserved_by(event, asked)
        if known is not None:
            return known
        parts = self._parts
        metadata = MetadataDesk(asked.name, asked.version or "")
        loop = asyncio.get_running_loop()
        ingested = await loop.run_in_executor(parts.hashing, self._ingest, asked, metadata)
        if ingested.left_out:
            log.warning("bundle.left_out", names=list(ingested.left_out[:20]), count=len(ingested.left_out))
        proof = await self._check(ingested)
        metadata.check_facts(proof.facts)
        _check_samples(event, ingested, proof)
        blob = metainfo.build(ingested.content, ingested.layers, ingested.piece_length)
        inline, reference = await put_metainfo(parts.bus, ingested.content.artifact, blob)
        content, content_ref = await put_content(parts.bus, ingested.content)
        version = asked.version or data_set_version(None, ingested.content.artifact)
        envelope = self._manifest(ingested.content, asked.name, version)
        state = VersionState(
            model=asked.name,
            version=version,
            artifact=ingested.content.artifact,
            content=content,
            content_ref=content_ref,
            kind=asked.kind,
            origin=Origin(node=parts.node, endpoints=parts.endpoints),
            metainfo_b64=inline,
            metainfo_ref=reference,
            cause=_cause(event, sequence),
            at=now(),
            run_id=asked.run_id,
            metrics=asked.metrics,
            metadata=asked.metadata,
            format_check=proof.verdict,
            envelope=envelope if envelope.signatures else None,
        )
        # The last that can still be refused: what is noted here is had, whoever claims the run later.
        _refuse(await self._fence.commit(event))
        reserved = await parts.registry.reserve_version(state, request=f"reserve/{event.id}", actor=event.source)
        offer = offer_from_state(reserved.state, ingested.content)
        await self._acquisition.keep_own(offer, proof.verdict, install=not asked.to)
        return offer

    def _manifest(self, content: Content, name: str, version: str) -> ManifestEnvelope:
        """What this node vouches for.

        Raises:
            ManifestRefused: not even this node would take it from others.
        """
        keyring = self._parts.keyring
        envelope = keyring.sign(manifest.state(content, name, version))
        keyring.check_own(envelope, content)
        return envelope

    def _ingest(self, asked: Submission, metadata: MetadataDesk) -> Ingested:
        store = self._parts.store
        if asked.kind is Kind.MODEL and is_folder(asked.path):
            return store.ingest_folder(asked.path, judge=metadata.judge)
        return store.ingest(asked.path, kind=asked.kind)

    async def _is_repeat(self, event: Event, asked: Submission, offer: Offer) -> bool:
        """Whether another event has brought this data set, which is the newest of its lane: a file that was found, and
        that its producer announces as well, is one export."""
        if not isinstance(event.payload, ExportCompleted) or offer.cause == event.id:
            return False
        newest = await self._parts.registry.slot(asked.name, Kind.DATASET)
        return newest is not None and newest.production is not None and newest.production.artifact == offer.artifact

    async def _reserved_by(self, event: Event, asked: Submission) -> Offer | None:
        """The offer that this very event led to before, if its bytes are still here: a redelivery repeats no work."""
        if asked.version is None:
            return None
        state = await self._parts.registry.version(asked.name, asked.version, asked.kind)
        if state is None or state.cause.event != event.id or state.origin.node != self._parts.node:
            return None
        if not await asyncio.to_thread(self._parts.store.has, await content_of(self._parts.bus, state)):
            return None
        offer = await offer_of(self._parts.bus, state)
        proof = await self._acquisition.prove_stored(offer.content)
        await self._acquisition.keep_own(offer, proof.verdict, install=not asked.to)
        return offer

    async def _check(self, ingested: Ingested) -> Proof:
        try:
            return await self._acquisition.prove_stored(ingested.content, whole=True)
        except FormatRefused as refused:
            raise ContentRefused(
                f"not a loadable {_what(ingested.content)}: {refused}",
                field="path",
                next_step="write the file again (to a new name, then rename it) and publish the event again",
            ) from refused

    async def _announce(self, event: Event, offer: Offer) -> None:
        payload = offer.announcement(Origin(node=self._parts.node, endpoints=self._parts.endpoints), cause=event.id)
        log.debug("artifact.announcing", version=offer.version, at_unix=time.time())
        await self._parts.bus.publish(new_event(payload, source=self._parts.source, cause=event))

    async def _distribute(self, event: Event, asked: Submission, offer: Offer, sequence: int) -> str:
        """Order it to the nodes that were named. It is not announced: every node that wants the model would come."""
        state = DistributionState(
            model=asked.name,
            kind=asked.kind,
            version=offer.version,
            artifact=offer.artifact,
            origin=self._parts.node,
            to=asked.to,
            until=asked.until,
            cause=_cause(event, sequence),
            at=now(),
        )
        await self._parts.registry.order_distribution(state, request=f"distribute/{event.id}", actor=event.source)
        return f"none, for {', '.join(asked.to)}"

    async def _order(self, event: Event, asked: Submission, offer: Offer, sequence: int) -> str:
        if not asked.asks_to_serve:
            return "not asked"
        if asked.kind is Kind.MODEL and await self._parts.registry.is_kept():
            return await self._ask_to_serve(event, asked, offer, sequence)
        outcome = await self._parts.registry.order_slot(
            asked.name,
            SlotEntry(version=offer.version, artifact=offer.artifact),
            kind=asked.kind,
            cause=_cause(event, sequence),
            request=f"order/{event.id}",
            actor=event.source,
        )
        if outcome.kind == "superseded" and outcome.state.production is not None:
            ahead = outcome.state.production
            await self._parts.reject(
                event,
                f"{asked.name}@{offer.version} was installed but is not served: a later promotion won",
                winner=f"{asked.name}@{ahead.version}, generation {outcome.state.generation}",
                next_step=f"to serve it all the same, publish model.promoted for {asked.name} {offer.version} again",
            )
        return f"{outcome.kind}, generation {outcome.state.generation}"

    async def _ask_to_serve(self, event: Event, asked: Submission, offer: Offer, sequence: int) -> str:
        """Whether it is served is for the registry to say, which tells everybody (`promotion.refused`)."""
        answer = await self._parts.registry.ask_to_serve(
            asked.name,
            offer.version,
            stage=asked.stage,
            cause=_cause(event, sequence),
            request=f"order/{event.id}",
            actor=event.source,
        )
        return f"{answer.outcome}: {answer.message}"


def _refuse(stale: Stale | None) -> None:
    """Refuse what a run's former owner says."""
    if stale is not None:
        raise Reject(stale.reason, field="claim", next_step=stale.next_step, winner=stale.winner)


def _what(content: Content) -> str:
    return "bundle" if content.kind is Kind.BUNDLE else f"{content.format} file"


def _check_samples(event: Event, ingested: Ingested, proof: Proof) -> None:
    """Hold what an export says against its file.

    Raises:
        ContentRefused: it cannot be.
    """
    export = event.payload
    if not isinstance(export, ExportCompleted):
        return
    wrong = impossible_counts(export.samples_new, export.samples_total)
    if wrong is None and ingested.content.format is Format.NPZ:
        wrong = contradiction(export.samples_total, samples_of(next(iter(proof.facts.values()), {})))
    if wrong is not None:
        raise ContentRefused(f"{export.path}: {wrong.reason}", field=wrong.field, next_step=wrong.next_step)


def _cause(event: Event, sequence: int) -> Cause:
    return Cause(event=event.id, sequence=sequence, by=event.source, correlation=event.correlationid)


def _refusal(refused: Exception) -> Reject:
    """What whoever published the event is told; the bus publishes it as `event.rejected`."""
    if isinstance(refused, VersionTaken):
        state = refused.winner
        return Reject(
            str(refused),
            field="version",
            next_step="versions are immutable: publish the new bytes under a new version",
            winner=f"{state.model}@{state.version} = {state.artifact} from {state.origin.node}",
        )
    log.warning("submission.refused", reason=str(refused))
    return Reject(
        str(refused), field=getattr(refused, "field", None), next_step=getattr(refused, "next_step", "") or ""
    )
