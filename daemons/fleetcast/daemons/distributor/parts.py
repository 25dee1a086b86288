"""The wired parts of one distributor, and how it speaks."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import structlog

from fleetcast.bus import Bus
from fleetcast.config.settings import Settings
from fleetcast.daemons.distributor.allowance import Allowance
from fleetcast.daemons.distributor.archival import ArchiveBook
from fleetcast.daemons.distributor.board import Board
from fleetcast.daemons.distributor.distributions import DistributionBook
from fleetcast.daemons.distributor.keyring import Keyring
from fleetcast.daemons.distributor.rules import Offer
from fleetcast.daemons.distributor.swarm import SwarmBook
from fleetcast.daemons.distributor.voice import Voice
from fleetcast.events.envelope import Antecedent, Event, new_event
from fleetcast.events.payloads import Endpoints, EventRejected, Payload, Wants
from fleetcast.registry import OriginRegistry
from fleetcast.registry.slots import Line
from fleetcast.transport.bittorrent import BittorrentTransport
from fleetcast.transport.protocol import Availability, Ban, Transport
from fleetcast.transport.store import Pins, Store

log = structlog.get_logger("fleetcast.distributor")


def now() -> str:
    """This moment as RFC 3339 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Follows:
    """The event that something follows from, when only its ids are known (`envelope.Antecedent`)."""

    id: str
    correlationid: str


@dataclass(kw_only=True)
class Parts:
    """What the modules of the distributor work with; made once by `daemon`."""

    node: str
    settings: Settings
    bus: Bus
    registry: OriginRegistry
    store: Store
    bittorrent: BittorrentTransport
    transports: Mapping[str, Transport]
    """Every way of bringing bytes here, by name; BitTorrent is one of them."""
    voice: Voice
    endpoints: Endpoints
    board: Board
    swarm: SwarmBook
    distributions: DistributionBook
    archive: ArchiveBook
    hashing: ThreadPoolExecutor
    """Threads of low priority for hashing that somebody waits for."""
    idle: ThreadPoolExecutor
    """One thread for hashing that nobody waits for; it leaves the disk to everybody else."""
    lost_seeds: asyncio.Queue[str]
    bans: asyncio.Queue[tuple[str, Ban]]
    allowance: Allowance
    keyring: Keyring = field(default_factory=Keyring)
    """Whose word about versions counts here."""
    ordered: Callable[[], Pins] = Pins
    """What stays here because of slot orders; said by their owner."""
    carries: Callable[[Line], bool] = lambda _line: True
    """Whether a model or lane matters on this node; said by the owner of slot orders."""
    offered: set[Line] = field(default_factory=set)
    """The models and lanes that this node has offered something of to the swarm."""
    started_at: str = field(default_factory=now)
    metrics_url: str | None = None
    """Where the daemon's metrics are served; said by whoever serves them."""
    _sending: set[asyncio.Task[bool]] = field(default_factory=set)

    @property
    def wants(self) -> Wants:
        node = self.settings.node
        return Wants(models=node.models, lanes=node.lanes, labels=node.labels)

    @property
    def pins(self) -> Pins:
        """What stays on this node besides what its pointers show: what slot orders name that could not be obeyed yet,
        transfers under way, what was distributed to it, and what no archive has yet."""
        distributed = self.distributions.pins(datetime.now(UTC))
        fetched = frozenset(t.artifact for t in self.board.active)
        archival = self.archive.pins
        versions = distributed.versions | self.ordered().versions | archival.versions
        return replace(
            distributed,
            versions=versions,
            artifacts=distributed.artifacts | fetched,
            archived=archival.archived,
        )

    @property
    def source(self) -> str:
        """CloudEvents source of what this daemon says."""
        return f"/fleet/{self.node}/distributor"

    @property
    def available(self) -> Mapping[str, Availability]:
        """Which transports work on this node, and why the others do not."""
        return {name: transport.available() for name, transport in self.transports.items()}

    def send_soon(self, subject: str, data: bytes) -> None:
        """Send a message that nobody waits for and that may be lost."""
        task = asyncio.get_running_loop().create_task(self.bus.send(subject, data), name=f"send:{subject}")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def say_first(self, payload: Payload) -> None:
        """Publish what follows from no event."""
        self.voice.say(new_event(payload, source=self.source))

    def say(self, payload: Payload, *, cause: Antecedent, discriminator: str = "") -> None:
        """Publish what follows from an event."""
        discriminator = f"{self.node}/{discriminator}"
        self.voice.say(new_event(payload, source=self.source, cause=cause, discriminator=discriminator))

    def say_of(self, offer: Offer, payload: Payload, *, discriminator: str) -> None:
        """Publish what follows from an offer."""
        self.say(payload, cause=Follows(offer.cause, offer.correlation), discriminator=discriminator)

    async def reject(self, event: Event, reason: str, **more: str | None) -> None:
        """Say that an event was refused, why, and what to do."""
        next_step = more.pop("next_step", None) or "correct the event and publish it again"
        log.warning("event.rejected", rejected=event.id, type=event.type.name, reason=reason, **_known(more))
        payload = EventRejected(
            event=event.id, subject=event.subject, reason=reason, next_step=next_step, node=self.node, **more
        )
        # Said before the event is ended, so that a crash in between refuses it again rather than in silence.
        await self.voice.now(new_event(payload, source=self.source, cause=event, key=event.key))


def _known(values: Mapping[str, str | None]) -> dict[str, str]:
    return {k: v for k, v in values.items() if v is not None}
