"""Sample counts of a data set: what an export says, held against what lies in its file. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Samples:
    """How many samples the arrays of an NPZ file hold, as its format test saw it.

    Attributes:
        count: what the arrays agree on that have one entry per sample.
        named: whether arrays were found whose names say that they have one entry per sample; otherwise `count` is what
            most arrays have, and any array may be the one that counts.
        lengths: the lengths that occur.
    """

    count: int
    named: bool
    lengths: frozenset[int]

    def fits(self, total: int) -> bool:
        """Whether *total* may be the number of samples."""
        return total == self.count or (not self.named and total in self.lengths)


def samples_of(facts: Mapping[str, object]) -> Samples | None:
    """What a format test saw; None: the file has no array with an axis."""
    count, lengths = facts.get("samples"), facts.get("lengths")
    if not isinstance(count, int):
        return None
    return Samples(count, bool(facts.get("named")), frozenset(lengths if isinstance(lengths, list) else [count]))


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Why an export is refused."""

    field: str
    reason: str
    next_step: str


def impossible_counts(samples_new: int, samples_total: int) -> Contradiction | None:
    """What is impossible about an export, whatever its file holds; None: nothing is."""
    if samples_new <= samples_total:
        return None
    return Contradiction(
        "samples_new",
        f"samples_new is {samples_new}, more than the {samples_total} of samples_total",
        "samples_new counts those that no earlier export had, samples_total all in the file; publish it corrected",
    )


def contradiction(samples_total: int, seen: Samples | None) -> Contradiction | None:
    """What an export says that its file denies; None: nothing."""
    if seen is None:
        return Contradiction(
            "path", "the file holds no array of samples", "write arrays with one entry per sample, and publish again"
        )
    if max(seen.lengths | {seen.count}) == 0:
        return Contradiction("path", "the file holds no sample", "publish an export once it holds samples")
    if not seen.fits(samples_total):
        return Contradiction(
            "samples_total",
            f"samples_total is {samples_total}, and the file has {seen.count} samples",
            f"publish it again with samples_total={seen.count}, or write the file anew",
        )
    return None


@dataclass(frozen=True, slots=True)
class KnownExport:
    """A data set of the lane that came earlier: its file name and samples."""

    name: str
    samples: int
    at: str


def new_samples(name: str, total: int, earlier: Sequence[KnownExport]) -> int:
    """How many samples of a file that nobody announced are new.

    A file that grew under its name is an export that goes on: new is what it grew by. A file of a new name is a new
    shard, and one that did not grow although its bytes differ was written anew: nothing tells what stayed, so that all
    of its samples count. Too many start a training early; too few would start none for ever.
    """
    before = max((e for e in earlier if e.name == name), key=lambda e: e.at, default=None)
    return total - before.samples if before is not None and 0 < before.samples < total else total


def known_export(name: str, metadata: Mapping[str, Any] | None, at: str) -> KnownExport:
    """An earlier data set, from what the registry keeps of it."""
    total = (metadata or {}).get("samples_total")
    return KnownExport(name, total if isinstance(total, int) else 0, at)
