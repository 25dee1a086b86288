"""What became of every rung of one transfer, as its status shows it. Pure; times are given, never taken."""

from collections.abc import Iterable

from fleetcast.events.state import RungStatus
from fleetcast.transport.ladder import Ladder

WAITING, RUNNING, DONE, FAILED, STALLED, SKIPPED = "waiting", "running", "done", "failed", "stalled", "skipped"


BEGUN = frozenset({RUNNING, DONE, FAILED, STALLED})
"""States of rungs that have run."""


class RungBook:
    """The rungs in the order in which they are climbed; a rung that is taken again adds to its numbers."""

    def __init__(self) -> None:
        self._rungs: dict[str, RungStatus] = {}
        self._entered_at = 0.0
        self._received_before = 0
        self._seconds_before = 0.0

    @property
    def rungs(self) -> tuple[RungStatus, ...]:
        """All of them."""
        return tuple(self._rungs.values())

    @property
    def used(self) -> tuple[str, ...]:
        """Transports that brought bytes, in the order of the ladder."""
        return tuple(r.transport for r in self._rungs.values() if r.received_bytes)

    def plan(self, ladder: Ladder) -> None:
        """Take the order of *ladder*; what rungs have done stays."""
        names, known = [r.transport for r in ladder.rungs], self._rungs
        self._rungs = {name: known.get(name) or RungStatus(transport=name, state=WAITING) for name in names}
        for rung in ladder.rungs:
            state = self._rungs[rung.transport].state
            if rung.skipped and state in {WAITING, SKIPPED}:
                self._set(rung.transport, state=SKIPPED, reason=rung.skipped)
            elif not rung.skipped and state == SKIPPED:
                self._set(rung.transport, state=WAITING, reason="")

    def enter(self, transport: str, at: float, reason: str = "") -> None:
        """A rung begins to run, because of *reason*."""
        rung = self._rungs.setdefault(transport, RungStatus(transport=transport, state=WAITING))
        self._entered_at, self._received_before, self._seconds_before = at, rung.received_bytes, rung.seconds
        self._set(transport, state=RUNNING, reason=reason)

    def received(self, transport: str, count: int, at: float) -> None:
        """The running rung has received *count* bytes since it was entered."""
        seconds = round(self._seconds_before + at - self._entered_at, 3)
        self._set(transport, received_bytes=self._received_before + count, seconds=seconds)

    def leave(self, transport: str, state: str, reason: str, at: float) -> None:
        """The running rung ends."""
        seconds = round(self._seconds_before + at - self._entered_at, 3)
        self._set(transport, state=state, reason=reason, seconds=seconds)

    def _set(self, transport: str, **changes: object) -> None:
        self._rungs[transport] = self._rungs[transport].model_copy(update=changes)


def named(transports: Iterable[str], otherwise: str) -> str:
    """How facts name the transports that brought bytes: `bittorrent+aria2`."""
    return "+".join(transports) or otherwise
