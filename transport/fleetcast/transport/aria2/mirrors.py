"""The mirrors of one transfer: who is asked, who rests, who is banned. Pure; times are those of the loop, in seconds.

A mirror is asked for a probe first: a piece or a block whose digest or bytes are known. Only then is it given to aria2,
which itself would take any file of the right size for the right one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from urllib.parse import quote, urlsplit

from fleetcast.transport.metainfo import torrent_name
from fleetcast.transport.protocol import Source

FIRST_REST_SECONDS = 1.0
LONGEST_REST_SECONDS = 15.0
_SMOOTH_SECONDS = 2.0
"""The rate of a mirror is averaged over about so long."""


class State(StrEnum):
    """Where a mirror stands."""

    NEW = "new"
    PROBED = "probed"
    GOOD = "good"
    RESTING = "resting"
    BANNED = "banned"


@dataclass(slots=True, eq=False)
class Mirror:
    """A node that serves the artifact.

    Attributes:
        base: its base URL.
        answers: it accepted a connection the last time.
        rate: bytes per second, smoothed, while it was asked for any.
        spare: it rests because it is slow, and comes back when nobody else is left.
        slow_since: since when it is far behind the others.
        received: bytes that came from it, as far as that is known.
        wasted: those of them that were wrong.
    """

    node: str
    base: str
    state: State = State.NEW
    answers: bool = False
    reason: str = ""
    spare: bool = False
    rests: int = 0
    rest_until: float = 0.0
    rate: float = 0.0
    rated_at: float | None = None
    slow_since: float | None = None
    received: float = 0.0
    wasted: int = 0

    @property
    def host(self) -> str:
        """The host of its URL, which aria2 counts connections by."""
        return urlsplit(self.base).hostname or ""

    def url(self, artifact: str, path: str) -> str:
        """Where a file of an artifact is."""
        return f"{self.base}/a/{artifact}/{torrent_name(artifact)}/{quote(path)}"


@dataclass(slots=True)
class MirrorBook:
    """All mirrors of a transfer, in an order of this node's own: else all nodes would ask the same ones.

    Args:
        most: mirrors asked at once.
        slow_ratio: a mirror under this share of the best one's rate is slow.
        slow_seconds: for so long before it rests.
    """

    most: int
    slow_ratio: float
    slow_seconds: float
    random: Random = field(default_factory=Random)
    mirrors: list[Mirror] = field(default_factory=list)
    alone: bool = False
    """Ask one mirror at a time: wrong bytes came and nobody could be blamed."""

    def learn(self, sources: Iterable[Source]) -> None:
        """Take more sources; those that are not complete, or serve no HTTP, are not for this rung."""
        known = {mirror.base for mirror in self.mirrors}
        new = {s.http.rstrip("/"): s.node for s in sources if s.http and s.complete}
        mirrors = [Mirror(node, base) for base, node in new.items() if base not in known]
        self.random.shuffle(mirrors)
        self.mirrors += mirrors

    def _in(self, *states: State) -> list[Mirror]:
        return [mirror for mirror in self.mirrors if mirror.state in states]

    @property
    def good(self) -> list[Mirror]:
        """Those that aria2 may ask."""
        return self._in(State.GOOD)

    @property
    def alive(self) -> list[Mirror]:
        """Those that answered when they were asked last and are not banned."""
        return [m for m in self.mirrors if m.answers and m.state is not State.BANNED]

    @property
    def usable(self) -> list[Mirror]:
        """Those that are not banned."""
        return [mirror for mirror in self.mirrors if mirror.state is not State.BANNED]

    @property
    def banned(self) -> list[Mirror]:
        """Those that sent wrong bytes."""
        return self._in(State.BANNED)

    def due(self, now: float) -> list[Mirror]:
        """Those that shall be probed now; no more than are needed."""
        alone = not self.good
        rested = [m for m in self._in(State.RESTING) if m.rest_until <= now and (alone or not m.spare)]
        waiting = self._in(State.NEW) + rested
        return waiting[: max(0, self.most - len(self._in(State.GOOD, State.PROBED)))]

    def chosen(self) -> list[Mirror]:
        """Those that aria2 shall ask now."""
        return self.good[: 1 if self.alone else self.most]

    def expected(self) -> list[Mirror]:
        """Those that aria2 asks now, or may ask when they are probed."""
        return (self.good + self._in(State.PROBED, State.NEW))[: self.most]

    def begin_probe(self, mirror: Mirror) -> None:
        """It is being probed."""
        mirror.state = State.PROBED

    def forget_probe(self, mirror: Mirror) -> None:
        """Its probe was given up, without a verdict."""
        if mirror.state is State.PROBED:
            mirror.state = State.NEW

    def accept(self, mirror: Mirror) -> None:
        """It sent the right bytes."""
        if mirror.state is not State.BANNED:
            mirror.state, mirror.answers, mirror.reason, mirror.slow_since = State.GOOD, True, "", None

    def doubt(self, mirror: Mirror) -> None:
        """It must prove itself again."""
        if mirror.state is State.GOOD:
            mirror.state = State.NEW

    def rest(self, mirror: Mirror, now: float, reason: str, *, answers: bool, spare: bool = False) -> None:
        """Leave it alone for a while, twice as long each time."""
        if mirror.state is State.BANNED:
            return
        mirror.state, mirror.reason, mirror.answers, mirror.spare = State.RESTING, reason, answers, spare
        mirror.rest_until = now + min(FIRST_REST_SECONDS * 2**mirror.rests, LONGEST_REST_SECONDS)
        mirror.rests, mirror.slow_since = mirror.rests + 1, None

    def ban(self, mirror: Mirror, reason: str, wasted: int) -> None:
        """Never ask it again in this transfer."""
        mirror.state, mirror.reason = State.BANNED, reason
        mirror.wasted += wasted

    def rated(self, speeds: Mapping[Mirror, int], now: float) -> None:
        """Take the bytes per second of those that are asked for bytes now."""
        for mirror, speed in speeds.items():
            before = mirror.rated_at
            share = 1.0 if before is None else min(1.0, (now - before) / _SMOOTH_SECONDS)
            mirror.rate += share * (speed - mirror.rate)
            mirror.rated_at = now

    def slow(self, speeds: Mapping[Mirror, int], now: float) -> list[Mirror]:
        """Return those that are far behind the best for too long; never the last good one.

        The best counts with what it brought when it was asked last: at the end of a file only the slow ones are.
        """
        good = self.good
        for mirror in good:
            others = max((m.rate for m in good if m is not mirror), default=0.0)
            behind = mirror in speeds and speeds[mirror] < self.slow_ratio * others
            mirror.slow_since = (now if mirror.slow_since is None else mirror.slow_since) if behind else None
        late = [m for m in good if m.slow_since is not None and now - m.slow_since >= self.slow_seconds]
        return late if len(late) < len(good) else []


def connections_per_host(mirrors: Iterable[Mirror], per_source: int) -> int:
    """Return how many connections a host may get: some mirrors may share one, as in a demo."""
    hosts = Counter(mirror.host for mirror in mirrors)
    return per_source * max(hosts.values(), default=1)


def suspects(asked: Iterable[Mirror], speeds: Mapping[Mirror, int]) -> list[Mirror]:
    """Return who may have sent a wrong piece, the likeliest first: who sent most."""
    return sorted(asked, key=lambda mirror: -speeds.get(mirror, 0))


def named(mirrors: Iterable[Mirror]) -> str:
    """Return mirrors by the names of their nodes, with what is wrong with them, for people."""
    return ", ".join(f"{m.node} ({m.reason})" if m.reason else m.node for m in mirrors)
