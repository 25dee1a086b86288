"""Latencies as a mergeable histogram of logarithmic buckets."""

import math
from collections.abc import Iterable, Mapping
from typing import Final

PER_DOUBLING: Final = 16
"""Buckets from a latency to its double: each is 4.4 % wide, which is what a percentile read from it may be off."""
LEAST: Final = -160
"""Bucket of everything up to a microsecond."""
MOST: Final = 480
"""Bucket of everything over 12 days."""
SCHEME: Final = "log"


def bucket_of(milliseconds: float) -> int:
    """The bucket of a latency: i holds what is over 2^((i-1)/16) ms and at most 2^(i/16) ms."""
    if milliseconds <= 0:
        return LEAST
    return min(MOST, max(LEAST, math.ceil(PER_DOUBLING * math.log2(milliseconds) - 1e-9)))


def upper_edge(bucket: int) -> float:
    """The greatest latency of a bucket, in milliseconds."""
    return float(2 ** (bucket / PER_DOUBLING))


class LatencyHistogram:
    """Latencies of requests in milliseconds, as counts by bucket; histograms of nodes and minutes add up exactly.

    Attributes:
        buckets: requests by bucket (`bucket_of`).
    """

    __slots__ = ("buckets",)

    def __init__(self, buckets: Mapping[int, int] | None = None) -> None:
        self.buckets: dict[int, int] = dict(buckets or {})

    @classmethod
    def of(cls, milliseconds: Iterable[float]) -> "LatencyHistogram":
        """The histogram of single latencies."""
        made = cls()
        for each in milliseconds:
            made.count_one(each)
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LatencyHistogram) and self.buckets == other.buckets

    def __hash__(self) -> int:
        return hash(frozenset(self.buckets.items()))

    def __repr__(self) -> str:
        return f"LatencyHistogram({self.buckets})"

    def __bool__(self) -> bool:
        return bool(self.buckets)

    @property
    def total(self) -> int:
        """Requests in it."""
        return sum(self.buckets.values())

    def count_one(self, milliseconds: float) -> None:
        """Take one latency."""
        bucket = bucket_of(milliseconds)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def add(self, other: "LatencyHistogram") -> None:
        """Take all of another one."""
        mine = self.buckets
        for bucket, count in other.buckets.items():
            mine[bucket] = mine.get(bucket, 0) + count

    def slower_than(self, milliseconds: float) -> int:
        """Requests that surely took longer: those of the limit's own bucket are given the benefit of the doubt."""
        limit = bucket_of(milliseconds)
        return sum([count for bucket, count in self.buckets.items() if bucket > limit])

    def percentile(self, share: float) -> float | None:
        """The latency that *share* of the requests do not exceed, at most 4.4 % too high; None: there are none."""
        wanted, seen = share * self.total - 1e-9, 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return upper_edge(bucket)
        return None

    def document(self) -> dict[str, object]:
        """As it stands in a snapshot: `{"scheme": "log", "buckets": {"<index>": count}}`."""
        return {"scheme": SCHEME, "buckets": {str(bucket): self.buckets[bucket] for bucket in sorted(self.buckets)}}
