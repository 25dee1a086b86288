"""The ladder of transports as rules over values: which way comes first and why, and where to go on when a way fails.

A rung is left for another only when that one has a complete source that answers, and is entered again without having
brought anything only after a pause that doubles: a transfer that nobody can serve waits, it does not run in circles
(ADR 0015).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from fleetcast.config.settings import LadderSettings
from fleetcast.transport.protocol import Availability, Source

SWARM_START_SECONDS: Final = 0.3
"""What a swarm must save before it pays: the time that its members need to find each other."""

ENDPOINTS: Final[Mapping[str, Callable[[Source], str | None]]] = MappingProxyType(
    {"bittorrent": lambda s: s.bt, "aria2": lambda s: s.http, "rsync": lambda s: s.rsync}
)
"""Where a source serves each transport, in the order of the ladder."""

PATIENT: Final = frozenset({"bittorrent"})
"""Transports that live on incomplete sources too, so that waiting for bytes that nobody has yet is part of them."""

_MEDIUM: Final = {"bittorrent": "BitTorrent", "aria2": "HTTP", "rsync": "rsync"}


@dataclass(frozen=True, slots=True)
class Rung:
    """One transport of a ladder.

    Attributes:
        skipped: why it cannot be used now, in one line; empty: it can.
        unavailable: it cannot be used on this node at all, whoever has the content.
    """

    transport: str
    skipped: str = ""
    unavailable: bool = False


@dataclass(frozen=True, slots=True)
class Ladder:
    """The rungs in their order, and why they have it, in one line for people."""

    rungs: tuple[Rung, ...]
    choice: str

    @property
    def usable(self) -> tuple[str, ...]:
        """Transports that can be used now."""
        return tuple(r.transport for r in self.rungs if not r.skipped)

    @property
    def first(self) -> str | None:
        """Where to begin; None: nowhere now."""
        return next(iter(self.usable), None)


def complete_sources(transport: str, sources: Iterable[Source]) -> tuple[Source, ...]:
    """Sources that hold everything and serve it by *transport*."""
    return tuple(s for s in sources if s.complete and ENDPOINTS[transport](s))


def choose(
    size: int,
    receivers: int | None,
    *,
    available: Mapping[str, Availability],
    sources: Iterable[Source],
    settings: LadderSettings,
) -> Ladder:
    """Order the transports for one transfer.

    Args:
        size: bytes of the content.
        receivers: nodes that want it and have not got it, this one included; None: not known.
        available: by transport; one that is not in it does not exist on this node.
        sources: who is known to have the content, or some of it.
    """
    known = tuple(sources)
    preferred, why = _preference(size, receivers, settings)
    order = (t for t in _order(preferred, settings) if t in available)
    rungs = tuple(Rung(t, _skipped(t, available, known), not available[t].ok) for t in order)
    return Ladder(rungs, _choice(rungs, preferred, why))


def _preference(size: int, receivers: int | None, settings: LadderSettings) -> tuple[str, str]:
    """The transport that suits, and why (research/distribution.md section 5)."""
    if settings.order:
        return settings.order[0], "[ladder] order says so"
    rate = settings.bandwidth_bytes_per_second
    if size < settings.aria2_from_bytes:
        return "bittorrent", f"{_size(size)} would take longer to start aria2c than to bring"
    if receivers == 1:
        return "aria2", "a single receiver gains nothing from a swarm"
    if receivers and rate:
        # The origin sends N copies alone, against one when the receivers pass pieces on.
        saved = (receivers - 1) * size / rate
        what = f"{saved:.1f} s for {receivers} receivers of {_size(size)} at {_size(rate)}/s"
        if saved > SWARM_START_SECONDS:
            return "bittorrent", f"a swarm saves {what}"
        return "aria2", f"a swarm would save only {what}"
    threshold = settings.bittorrent_from_bytes
    # Over links of unknown speed, what the origin would send alone is what counts: on slow ones HTTP takes as many
    # times as long as there are receivers, on quick ones a swarm loses a third of a second (ADR 0015).
    total = size * (receivers or 1)
    what = f"{_size(total)} for {receivers} receivers" if receivers else _size(size)
    if total >= threshold:
        return "bittorrent", f"{what} is {_size(threshold)} or more"
    return "aria2", f"{what} is less than {_size(threshold)}"


def _order(preferred: str, settings: LadderSettings) -> tuple[str, ...]:
    return settings.order or tuple(dict.fromkeys((preferred, *ENDPOINTS)))


def _skipped(transport: str, available: Mapping[str, Availability], sources: Sequence[Source]) -> str:
    if not available[transport].ok:
        return available[transport].reason or "not available on this node"
    if transport in PATIENT or complete_sources(transport, sources):
        return ""
    return f"no node that holds all of it serves {_MEDIUM[transport]}"


def _choice(rungs: Sequence[Rung], preferred: str, why: str) -> str:
    first = next((r.transport for r in rungs if not r.skipped), None)
    # A node that serves one thing less is no news, unless that is why the first rung is not the one that suits.
    told = [r for r in rungs if r.skipped and (r.unavailable or first is None or r.transport == preferred)]
    without = "; ".join(f"without {r.transport}: {r.skipped}" for r in told)
    if first is None:
        return f"no transport can be used now; {without or 'none is set up'}"
    joined = f"{first} first: {why}" if first == preferred else f"{first} first, although {why}"
    return f"{joined}; {without}" if without else joined


def _size(count: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} bytes"


class Fault(StrEnum):
    """Why a rung is left. STALLED: no byte came for too long. CRASHED: the process that carries it ended and may come
    back. FAILED: it gave up."""

    STALLED = "stalled"
    CRASHED = "crashed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Left:
    """How a rung was left. `brought`: bytes that were proven while it ran."""

    transport: str
    fault: Fault
    reason: str
    brought: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of a rung.

    Attributes:
        barren: runs in a row that brought nothing.
        rests_until: it is not chosen again before; seconds of the caller's clock.
        fault: how its last run ended, and in which words.
    """

    barren: int = 0
    rests_until: float = 0.0
    fault: Fault | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Climb:
    """The memory of one transfer: what became of every rung so far."""

    records: Mapping[str, Record] = field(default_factory=dict)

    def of(self, transport: str) -> Record:
        """What is remembered of *transport*."""
        return self.records.get(transport, Record())

    def after(self, left: Left, now: float, settings: LadderSettings) -> "Climb":
        """The memory once a rung was left; one that brought something may be taken again at once."""
        if left.brought:
            record = Record(0, now, left.fault, left.reason)
        else:
            barren = self.of(left.transport).barren + 1
            pause = min(settings.rest_cap_seconds, settings.rest_base_seconds * 2.0 ** min(barren - 1, 30))
            record = Record(barren, now + pause, left.fault, left.reason)
        return replace(self, records={**self.records, left.transport: record})


@dataclass(frozen=True, slots=True)
class GoOn:
    """Take *transport*, which may be the same, after a pause."""

    transport: str
    pause_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No rung is left: let the whole transfer fail, to be tried again later."""

    reason: str


def better(ladder: Ladder, climb: Climb, current: str, live: Mapping[str, int], now: float) -> str | None:
    """The rung to leave *current* for; None: staying is right.

    Args:
        live: by transport, complete sources that answer now.
    """
    for transport in ladder.usable:
        if transport != current and live.get(transport, 0) > 0 and climb.of(transport).rests_until <= now:
            return transport
    return None


def next_step(ladder: Ladder, climb: Climb, left: Left, live: Mapping[str, int], now: float) -> GoOn | GiveUp:
    """Where to go on after a rung was left; *climb* is the memory that includes it.

    Without a rung that has a live complete source: what stalled or crashed is taken again, since waiting for a source
    is no failure; what failed yields to a rung that can wait; when that failed too, the transfer does.
    """
    found = better(ladder, climb, left.transport, live, now)
    if found is not None:
        return GoOn(found)
    if left.transport in ladder.usable and left.fault is not Fault.FAILED:
        return GoOn(left.transport, _pause(climb, left.transport, now))
    for transport in ladder.usable:
        record = climb.of(transport)
        failed = record.fault is Fault.FAILED and record.barren
        if transport in PATIENT and transport != left.transport and not failed:
            return GoOn(transport, _pause(climb, transport, now))
    return GiveUp("; ".join(f"{t}: {r.reason}" for t, r in climb.records.items() if r.reason))


def _pause(climb: Climb, transport: str, now: float) -> float:
    return max(0.0, climb.of(transport).rests_until - now)
