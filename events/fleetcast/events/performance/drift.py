"""What a model's inputs look like now, against what it was trained on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DriftInput:
    """One feature's values counted into bins, and the same bins over the reference (the training data).

    Attributes:
        counts: of the requests of the interval.
        reference: of the reference, in counts; as many bins, at least 2.
    """

    counts: tuple[int, ...]
    reference: tuple[int, ...]

    @property
    def size(self) -> int:
        """Requests in it."""
        return sum(self.counts)

    def plus(self, other: "DriftInput") -> "DriftInput":
        """Both together; of another reference (the bins were changed) only the newer, *other*."""
        if other.reference != self.reference:
            return other
        return DriftInput(tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)), self.reference)
