"""The health of what stores the truth: the streams and their copies, the read model, and the room that they have."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError, NotFound
from fleetcast.bus.streams import AUDIT, EVENTS, REGISTRY, REMEDY, TRAINING, WORK
from fleetcast.events.state import NodeStatus
from fleetcast.registry.errors import RegistryError
from fleetcast.registry.picture.amounts import size
from fleetcast.registry.querying import query

STREAMS: Final = (REGISTRY, REMEDY, TRAINING, EVENTS, AUDIT, WORK)
KEPT_WHOLE: Final = frozenset({REGISTRY, REMEDY, TRAINING, AUDIT, WORK})
"""What is full here loses something or refuses it; events leave by age anyway."""
FULL_RATIO: Final = 0.8
LEAST_ROOM_BYTES: Final = 2**29
"""Half of what transfers leave free by default (`store.reserve_bytes`): something else fills the disk."""
COPY_LAG: Final = 1000
"""Messages that a copy of a stream may be behind, before somebody should look."""
SOURCE_SILENT_SECONDS: Final = 30.0
ASK_SECONDS: Final = 3.0
_NANOSECONDS: Final = 10**9


@dataclass(frozen=True, slots=True)
class Copy:
    """A further copy of a stream on another server; `lag`: messages that it is behind."""

    server: str
    current: bool
    offline: bool
    lag: int


@dataclass(frozen=True, slots=True)
class Stored:
    """One stream.

    Attributes:
        copies: that it is to have, itself included; others: those beside the leader.
        leader: server that has it; empty: a server without a cluster, or nobody.
        led: whether somebody leads it.
        source_lag: messages of other streams that it has not copied yet.
        source_silent_seconds: since anything was heard from the one of them that is silent for longest.
        limit: bytes that it may have; None: as many as there are.
    """

    name: str
    messages: int
    sequence: int
    bytes: int
    limit: int | None
    copies: int
    leader: str
    led: bool
    others: tuple[Copy, ...] = ()
    source_lag: int = 0
    source_silent_seconds: float = 0.0

    @property
    def full_ratio(self) -> float:
        """How full it is, 0 to 1."""
        return self.bytes / self.limit if self.limit else 0.0

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with it, one sentence each."""
        said = [] if self.led else [f"stream {self.name} has no leader"]
        for copy in self.others:
            if copy.offline:
                said.append(f"stream {self.name}: its copy on {copy.server} is offline")
            elif not copy.current or copy.lag > COPY_LAG:
                said.append(f"stream {self.name}: its copy on {copy.server} is {copy.lag} messages behind")
        if len(self.others) + 1 < self.copies:
            said.append(f"stream {self.name} has {len(self.others) + 1} of {self.copies} copies")
        if self.source_lag and self.source_silent_seconds > SOURCE_SILENT_SECONDS:
            said.append(f"stream {self.name} has not copied {self.source_lag} messages of its sources")
        if self.name in KEPT_WHOLE and self.limit and self.full_ratio >= FULL_RATIO:
            said.append(f"stream {self.name} is {self.full_ratio:.0%} full ({size(self.bytes)} of {size(self.limit)})")
        return tuple(said)


@dataclass(frozen=True, slots=True)
class ReadModel:
    """The tables that lists are read from: true as of a sequence of FC_REGISTRY, `behind` of which are missing."""

    as_of_seq: int
    behind: int


@dataclass(frozen=True, slots=True)
class Truth:
    """All of it, as of one look.

    Attributes:
        storage_bytes, storage_limit: of JetStream for this account; None: no limit.
        read_model: None: no registry daemon answered.
    """

    streams: tuple[Stored, ...] = ()
    storage_bytes: int = 0
    storage_limit: int | None = None
    read_model: ReadModel | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, one sentence each."""
        said = [each for stream in self.streams for each in stream.problems]
        if self.storage_limit and self.storage_bytes >= FULL_RATIO * self.storage_limit:
            said.append(f"JetStream has {size(self.storage_bytes)} of {size(self.storage_limit)} that it may have")
        if self.read_model is not None and self.read_model.behind > COPY_LAG:
            said.append(f"the read model is {self.read_model.behind} changes behind")
        return tuple(said)

    def sentence(self, rooms: Sequence[tuple[str, int]]) -> str:
        """All of it in one line; *rooms*: free bytes by node."""
        copies = sorted({stream.copies for stream in self.streams}) or [0]
        times = f"{copies[0]} to {copies[-1]} copies" if len(copies) > 1 else f"{copies[0]} of each"
        behind = max((c.lag for s in self.streams for c in s.others), default=0)
        lag = sum(stream.source_lag for stream in self.streams)
        parts = [
            f"{len(self.streams)} streams ({times}, {behind} behind, {lag} to copy)",
            f"{size(self.storage_bytes)}",
        ]
        if self.read_model is not None:
            parts.append(f"read model as of {self.read_model.as_of_seq}, {self.read_model.behind} behind")
        else:
            parts.append("no read model")
        if rooms:
            node, free = min(rooms, key=lambda room: room[1])
            parts.append(f"least room: {size(free)} on {node}")
        return f"truth: {', '.join(parts)}"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "streams": [_document(stream) for stream in self.streams],
            "storage_bytes": self.storage_bytes,
            "storage_limit_bytes": self.storage_limit,
            "read_model": None
            if self.read_model is None
            else {"as_of_seq": self.read_model.as_of_seq, "behind": self.read_model.behind},
        }


def _document(stream: Stored) -> dict[str, Any]:
    return {
        "name": stream.name,
        "messages": stream.messages,
        "last_seq": stream.sequence,
        "bytes": stream.bytes,
        "limit_bytes": stream.limit,
        "replicas": stream.copies,
        "leader": stream.leader or None,
        "copies": [
            {"server": c.server, "current": c.current, "offline": c.offline, "lag": c.lag} for c in stream.others
        ],
        "source_lag": stream.source_lag,
    }


async def look(bus: Bus, *, read_model: bool = True) -> Truth:
    """Ask the server and a registry daemon; what does not answer in time is left out.

    Args:
        read_model: whether a registry daemon is asked: where none runs, that takes its time.
    """
    asked = [ask_stream(bus, name) for name in STREAMS]
    found, account, model = await asyncio.gather(
        asyncio.gather(*asked), ask_account(bus), _read_model(bus) if read_model else _nothing()
    )
    used, limit = account
    return Truth(tuple(each for each in found if each is not None), used, limit, model)


async def _nothing() -> None:
    return None


async def ask_stream(bus: Bus, name: str) -> Stored | None:
    """A stream as it is now; None: there is none; without a leader where nobody answers for it in time."""
    try:
        return stream_of(await bus.js.api(f"STREAM.INFO.{name}", timeout_seconds=ASK_SECONDS))
    except NotFound:
        return None
    except BusError:
        return Stored(name, 0, 0, 0, None, 1, "", led=False)


def stream_of(answer: Mapping[str, Any]) -> Stored:
    """A stream as the server describes it (JetStream API, `io.nats.jetstream.api.v1.stream_info_response`)."""
    config, state, cluster = answer["config"], answer["state"], answer.get("cluster") or {}
    sources = answer.get("sources") or ()
    limit = int(config.get("max_bytes", -1))
    return Stored(
        name=str(config["name"]),
        messages=int(state["messages"]),
        sequence=int(state["last_seq"]),
        bytes=int(state["bytes"]),
        limit=limit if limit > 0 else None,
        copies=int(config.get("num_replicas", 1)),
        leader=str(cluster.get("leader") or ""),
        led=bool(cluster.get("leader")) or not cluster,
        others=tuple(
            Copy(str(c.get("name", "?")), bool(c.get("current")), bool(c.get("offline")), int(c.get("lag", 0)))
            for c in cluster.get("replicas") or ()
        ),
        source_lag=sum(int(source.get("lag", 0)) for source in sources),
        # -1: it was never heard from, which is so until something is said there.
        source_silent_seconds=max((max(int(s.get("active", 0)), 0) / _NANOSECONDS for s in sources), default=0.0),
    )


async def ask_account(bus: Bus) -> tuple[int, int | None]:
    """Bytes that JetStream stores for us, and how many it may; None: no limit, or nobody answers."""
    try:
        answer = await bus.js.api("INFO", timeout_seconds=ASK_SECONDS)
    except BusError:
        return 0, None
    limit = int((answer.get("limits") or {}).get("max_storage", -1))
    return int(answer.get("storage", 0)), limit if limit > 0 else None


async def _read_model(bus: Bus) -> ReadModel | None:
    try:
        answer = await query(bus, "runs", {"limit": 1}, deadline_seconds=ASK_SECONDS)
    except (RegistryError, BusError):
        return None
    return ReadModel(answer.as_of_seq, answer.behind)


def short_of_room(found: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    """Nodes with hardly any room left, one sentence each; *found*: as `rooms` gives it."""
    return tuple(f"node {node} has {size(free)} free on its disk" for node, free in found if free < LEAST_ROOM_BYTES)


def rooms(statuses: Iterable[NodeStatus]) -> list[tuple[str, int]]:
    """Bytes free by node, where a daemon says it."""
    found: dict[str, int] = {}
    for status in statuses:
        if status.disk_free is not None:
            found[status.node] = min(status.disk_free, found.get(status.node, status.disk_free))
    return sorted(found.items())
