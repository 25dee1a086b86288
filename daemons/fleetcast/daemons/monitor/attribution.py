"""Whose fault a breach is: of the version, of one node, or of the surroundings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from fleetcast.daemons.monitor.detector import Tally
from fleetcast.registry.gates.bounds import chance_of_at_least

CONFIDENCE: Final = 0.95
"""Of what is said about the others: a breach is shown already, this only says whose it is."""

NODE_CHANCE: Final = 0.01
"""Chance at most that a node is taken for worse than the others."""


class Cause(StrEnum):
    """What a breach comes from."""

    VERSION = "version"
    NODE = "node"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class Attribution:
    """A cause, in words and numbers.

    Attributes:
        node: the one at fault.
    """

    cause: Cause
    words: str
    node: str | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)


def one_node(
    nodes: Mapping[str, Tally], later: Mapping[str, Tally], minute: int, limit: float, *, complete: bool
) -> Attribution | None:
    """The node whose fault a breach is; None: it is no single node's.

    Args:
        nodes: counts by node, since the breach began.
        later: counts by node since it was found: what a node said before may be from before the trouble.
        minute: when the breach began.
        limit: of the share of bad requests.
        complete: whether all nodes said something later.
    """
    if len(nodes) < 2:
        return None
    name = max(nodes, key=lambda each: (nodes[each].bad - limit * nodes[each].requests, each))
    node = nodes[name]
    rest = together((each for other, each in later.items() if other != name), minute)
    if node.lower(CONFIDENCE) <= limit or not rest_is_fine(rest, node, limit, complete=complete):
        return None
    numbers = {
        "node_requests": round(node.requests),
        "node_bad": round(node.bad, 2),
        "rest_nodes": len(nodes) - 1,
        "rest_requests": round(rest.requests),
        "rest_bad": round(rest.bad, 2),
    }
    words = f"{name}: {_counted(node)}; the other {len(nodes) - 1} since then: {_counted(rest)}"
    return Attribution(Cause.NODE, words, name, numbers)


def version_or_surroundings(ours: Tally, other: tuple[str, Tally] | None, limit: float) -> Attribution:
    """Whether it is the version, or the surroundings: the other version that is served is over the limit as well, or
    cannot be told from this one. What nothing else explains is the version's.

    Args:
        ours: counts of the version, since the breach began.
        other: name and counts of the other version that is served, since it was found.
        limit: of the share of bad requests.
    """
    if other is None or not round(other[1].requests):
        return Attribution(Cause.VERSION, "no other version answered requests in the same minutes")
    name, counts = other
    chance = worse_by_chance(ours, counts)
    numbers = {
        "other_version": name,
        "other_requests": round(counts.requests),
        "other_bad": round(counts.bad, 2),
        "other_share": round(counts.share, 6),
        "chance_of_difference": chance,
    }
    said = f"{name} since then: {_counted(counts)}"
    if counts.lower(CONFIDENCE) > limit:
        return Attribution(Cause.ENVIRONMENT, f"both versions are over the limit; {said}", numbers=numbers)
    if chance > 1 - CONFIDENCE and counts.share > limit:
        return Attribution(
            Cause.ENVIRONMENT, f"both are over the limit and cannot be told apart; {said}", numbers=numbers
        )
    return Attribution(Cause.VERSION, said, numbers=numbers)


def worse_by_chance(candidate: Tally, stable: Tally) -> float:
    """Chance that so much of the bad falls to *candidate* if both are equally good: of all bad requests, each is its
    with the share of requests that it had. Exact for rare ones, too large (too careful) otherwise.

    Source: Przyborowski and Wilenski, Biometrika 31 (1940).
    """
    bad, requests = int(candidate.bad) + int(stable.bad), candidate.requests + stable.requests
    if not bad or not requests:
        return 1.0
    return float(f"{chance_of_at_least(int(candidate.bad), bad, candidate.requests / requests):.4g}")


def rest_is_fine(rest: Tally, node: Tally, limit: float, *, complete: bool) -> bool:
    """Whether the other nodes are shown to be below the limit; or all of them spoke, are below it, and better than the
    one by more than chance makes them once in a hundred times."""
    if rest.is_below(limit, CONFIDENCE):
        return True
    return complete and rest.requests > 0 and rest.share < limit and worse_by_chance(node, rest) <= NODE_CHANCE


def together(tallies: Iterable[Tally], minute: int) -> Tally:
    """All of them added up."""
    made = Tally(minute)
    for each in tallies:
        made.requests += each.requests
        made.bad += each.bad
    return made


def _counted(tally: Tally) -> str:
    return f"{tally.bad:.4g} of {round(tally.requests)} ({tally.share:.2%})"
