"""How much slower a run is on what it fell back to, from the times that its epochs say. Pure.

Only what was measured counts: where no epoch of one side has its time, nothing is said.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

Row = Mapping[str, Any]
STEP, EPOCH = "step", "epoch"
_TIMES: Final = ((STEP, "step_seconds"), (EPOCH, "seconds"))
"""What is compared, the better one first: an epoch that began at a checkpoint is shorter than a whole one."""


@dataclass(frozen=True, slots=True)
class Slowdown:
    """What a step, or an epoch, took before a run fell back, and since.

    Attributes:
        of: `step` or `epoch`.
        from_seconds, to_seconds: medians over the epochs before and since.
    """

    of: str
    from_seconds: float
    to_seconds: float

    @property
    def ratio(self) -> float:
        """How many times as long it takes."""
        return self.to_seconds / self.from_seconds

    def said(self, from_device: str, to_device: str) -> str:
        """In a sentence."""
        times = f"{self.ratio:.1f}" if self.ratio < 10 else f"{self.ratio:.0f}"
        both = f"{self.to_seconds:.3g} s on {to_device} and {self.from_seconds:.3g} s on {from_device}"
        return f"{'an' if self.of == EPOCH else 'a'} {self.of} took {both}: {times} times as long"


def slowdown(fallback: Row, fallbacks: Sequence[Row], epochs: Iterable[Row]) -> Slowdown | None:
    """How much slower a run is since *fallback*; None: its epochs do not tell.

    Args:
        fallbacks: of the run: each with `claim` (of the process that was left), `at`, and `returned_at` once the run
            is back on what it had.
        epochs: of the run, each with `claim` and `at`.
    """
    before, since = [], []
    for epoch in epochs:
        if _is_since(fallback, epoch):
            since.append(epoch)
        elif not any(_is_since(each, epoch) for each in fallbacks):
            before.append(epoch)
    for of, name in _TIMES:
        took, takes = _times(before, name), _times(since, name)
        if took and takes:
            return Slowdown(of, median(took), median(takes))
    return None


def document(fallback: Row, found: Slowdown | None) -> dict[str, Any] | None:
    """What was *found* of a fallback, as JSON."""
    if found is None:
        return None
    said = found.said(fallback["from_device"], fallback["to_device"])
    seconds = {"from_seconds": found.from_seconds, "to_seconds": found.to_seconds}
    return {"of": found.of, **seconds, "ratio": round(found.ratio, 3), "said": said}


def _is_since(fallback: Row, epoch: Row) -> bool:
    """Whether an epoch was computed on what the run fell back to. The claim tells, because what a process said last
    may wait in a spool until the run has fallen back."""
    returned = fallback.get("returned_at")
    if returned is not None and epoch["at"] >= returned:
        return False
    if epoch.get("claim") is not None and fallback.get("claim") is not None:
        return bool(epoch["claim"] > fallback["claim"])
    return bool(epoch["at"] > fallback["at"])


def _times(epochs: Iterable[Row], name: str) -> list[float]:
    return [each[name] for each in epochs if each.get(name)]
