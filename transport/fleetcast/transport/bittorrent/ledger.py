"""Who sent how much, over connections that come and go. Standard library only: the child imports this."""


class Ledger:
    """Adds up what each sender brought; a count that falls belongs to a new connection of the same sender."""

    def __init__(self) -> None:
        self._closed: dict[tuple[str, str], int] = {}
        self._open: dict[tuple[str, str], int] = {}

    def note(self, peers: tuple[tuple[str, str, int], ...]) -> None:
        """Take the totals of the open connections: address, peer tag, bytes."""
        for address, tag, total in peers:
            before = self._open.get((address, tag), 0)
            if total < before:
                self._closed[address, tag] = self._closed.get((address, tag), 0) + before
            self._open[address, tag] = total

    def close(self) -> None:
        """All connections have ended."""
        for who, total in self._open.items():
            self._closed[who] = self._closed.get(who, 0) + total
        self._open.clear()

    def totals(self) -> tuple[tuple[str, str, int], ...]:
        """Bytes by address and peer tag, of senders that sent any."""
        known = dict.fromkeys((*self._closed, *self._open))
        sums = ((who, self._open.get(who, 0) + self._closed.get(who, 0)) for who in known)
        return tuple((address, tag, total) for (address, tag), total in sums if total)
