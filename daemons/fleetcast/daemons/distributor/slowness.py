"""Why a transfer is slow, as far as its own node can tell: pure rules over what it measures.

A node does not know how fast the others are; it knows what it waits for itself. Whether it is slower than the rest of
the fleet is for whoever sees all of them (`cli/pace.py`); when nothing here explains it, its link is what remains.
"""

from dataclasses import dataclass
from enum import StrEnum

MIB = 2**20
QUIET_SECONDS = 3.0
"""Silence shorter than this is a pause: connections begin, and a swarm tries again, within it."""
DISK_QUEUE_BYTES = 16 * MIB
"""Bytes waiting to be written from which on the disk holds the network up; a disk that keeps up leaves a few. The swarm
brakes between 16 and 32 MiB."""
DISK_STALL_RATIO = 0.25
"""Share of the last ten seconds in which all work of the machine waited for its disk."""
BACKLOG_BYTES = 64 * MIB
BACKLOG_SECONDS = 5.0
"""Verification is behind when more has arrived unproven than this, and than arrives in this time: pieces in flight are
less."""
CAP_RATIO = 0.75
"""From this share of its cap on, the cap limits a transfer: limiters let a little less pass, and averages lag."""


class Held(StrEnum):
    """What holds a transfer up."""

    TURN = "waiting for its turn"
    SOURCES = "its sources"
    DISK = "its disk"
    LINK = "its link"
    VERIFICATION = "verification"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What a node measures of one of its transfers. Bytes, bytes per second, seconds.

    Attributes:
        state: `waiting`, `fetching` or `verifying`.
        running: transfers that run on this node, for one that waits.
        idle_seconds: since anything moved.
        verifying_seconds: since the last byte was here, while not every piece is proven.
        proves_on_the_way: its transport hands pieces over to be proven while the rest arrives.
        peers: sources connected now.
        known: other nodes known to have some of it.
        answering: those that have all of it and answered when they were asked last; None: nobody was asked since
            something moved.
        cap: what this node may receive; None: no cap.
        share: what its transport may receive of that; None: all of it.
        disk_queue: bytes that wait to be written; None: not measured.
        disk_stall: share of the last ten seconds in which all work waited for the disk; None: not measured.
    """

    state: str
    bytes_total: int
    bytes_done: int
    bytes_proven: int
    rate: float = 0.0
    running: int = 0
    idle_seconds: float = 0.0
    verifying_seconds: float = 0.0
    proves_on_the_way: bool = False
    peers: int = 0
    known: int = 0
    answering: int | None = None
    cap: int | None = None
    share: int | None = None
    disk_queue: int | None = None
    disk_stall: float | None = None


@dataclass(frozen=True, slots=True)
class Slow:
    """Why a transfer is slow."""

    held: Held
    detail: str

    def __str__(self) -> str:
        return f"{self.held}: {self.detail}"


def diagnose(v: Vitals) -> Slow | None:
    """What holds a transfer up; None: nothing that its node can see."""
    if v.state == "waiting":
        return Slow(Held.TURN, f"{v.running} transfers run at once here (distributor.parallel_transfers)")
    if v.state == "verifying" or (v.bytes_done >= v.bytes_total > v.bytes_proven):
        return _verifying(v)
    if v.state != "fetching":
        return None
    # Who moves as much as its cap allows is held by nothing else.
    return _without_sources(v) or _by_cap(v) or _by_disk(v) or _by_backlog(v) or _silent(v)


def _verifying(v: Vitals) -> Slow | None:
    if v.verifying_seconds < QUIET_SECONDS:
        return None
    proven = f"{_mib(v.bytes_proven)} of {_mib(v.bytes_total)} MiB proven"
    return Slow(Held.VERIFICATION, f"all bytes are here, {proven} {v.verifying_seconds:.0f} s after the last one")


def _without_sources(v: Vitals) -> Slow | None:
    if v.peers or v.idle_seconds < QUIET_SECONDS:
        return None
    if not v.known:
        lack = "no node is known to have it"
    elif v.answering == 0:
        lack = "no node that has all of it answers"
    else:
        lack = f"none of {v.known} that are known can be reached"
    return Slow(Held.SOURCES, f"{lack}, for {v.idle_seconds:.0f} s")


def _by_disk(v: Vitals) -> Slow | None:
    if v.disk_queue is not None and v.disk_queue >= DISK_QUEUE_BYTES:
        return Slow(Held.DISK, f"{_mib(v.disk_queue)} MiB wait to be written")
    if v.disk_stall is not None and v.disk_stall >= DISK_STALL_RATIO:
        return Slow(Held.DISK, f"all work waited for it {v.disk_stall:.0%} of the last 10 s")
    return None


def _by_backlog(v: Vitals) -> Slow | None:
    backlog = v.bytes_done - v.bytes_proven
    if not v.proves_on_the_way or backlog < max(BACKLOG_BYTES, BACKLOG_SECONDS * v.rate):
        return None
    return Slow(Held.VERIFICATION, f"{_mib(backlog)} MiB have arrived and are not proven yet")


def _by_cap(v: Vitals) -> Slow | None:
    if not v.cap or v.rate < CAP_RATIO * (v.share or v.cap):
        return None
    part = f", {v.share / MIB:.1f} of it for this transport now" if v.share and v.share < CAP_RATIO * v.cap else ""
    return Slow(Held.LINK, f"its own cap of {v.cap / MIB:.1f} MiB/s ([limits]){part}")


def _silent(v: Vitals) -> Slow | None:
    if v.idle_seconds < QUIET_SECONDS:
        return None
    connected = "the one that is connected has" if v.peers == 1 else f"the {v.peers} that are connected have"
    if v.answering == 0:
        lack = f"no node that has all of it answers, and {connected} nothing that is missing here"
        return Slow(Held.SOURCES, f"{lack}, for {v.idle_seconds:.0f} s")
    return Slow(Held.SOURCES, f"{connected} sent no byte for {v.idle_seconds:.0f} s")


def _mib(count: int) -> str:
    return f"{count / MIB:.0f}"
