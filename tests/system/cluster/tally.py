"""What became of events: pure counting over what publishers were told, what the streams hold, and what was done."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tally:
    """The ids of events, when everything has come to rest.

    Attributes:
        acknowledged: those that a publisher was told are stored.
        stored: those in the stream, as often as each is there.
        effects: the events whose effect is in the stream, as often as it is there.
    """

    acknowledged: frozenset[str]
    stored: Counter[str]
    effects: Counter[str]

    @property
    def lost(self) -> frozenset[str]:
        """Acknowledged, and not in the stream."""
        return self.acknowledged - self.stored.keys()

    @property
    def unhandled(self) -> frozenset[str]:
        """In the stream, and without their effect."""
        return frozenset(self.stored) - self.effects.keys()

    @property
    def doubled(self) -> frozenset[str]:
        """Stored twice, or with an effect that happened twice."""
        return frozenset(each for counted in (self.stored, self.effects) for each, n in counted.items() if n > 1)

    @property
    def figures(self) -> dict[str, int]:
        """All of it as numbers."""
        return {
            "acked": len(self.acknowledged),
            "stored": len(self.stored),
            "acked_lost": len(self.lost),
            "unhandled": len(self.unhandled),
            "doubled": len(self.doubled),
        }


def tally(acknowledged: Iterable[str], stored: Collection[str], effects: Collection[str]) -> Tally:
    """Count."""
    return Tally(frozenset(acknowledged), Counter(stored), Counter(effects))
