"""Whether all trainers have the same lanes: pure, over the digests in their heartbeats. Whichever of them sees a due
lane first goes by its own file, so that two files are two lanes of one name."""

from collections.abc import Mapping

from fleetcast.events.content import Stored

Digests = Mapping[str, Mapping[str, str]]
"""By node, the digests of the lanes that its trainer knows, by lane."""


class LaneCopies(Stored):
    """A lane that is not the same on all trainers that run; `digests`: the nodes that have it so, by digest of its
    definition; `unknown_to`: nodes whose trainers have other lanes and lack it."""

    digests: dict[str, tuple[str, ...]]
    unknown_to: tuple[str, ...] = ()


def differing(known: Digests) -> dict[str, LaneCopies]:
    """The lanes that are not the same on all trainers, by name. A trainer without any lane starts none and does not
    count; one that has others and lacks this one does."""
    by_node = {node: lanes for node, lanes in sorted(known.items()) if lanes}
    found = {}
    for lane in sorted({lane for lanes in by_node.values() for lane in lanes}):
        digests: dict[str, tuple[str, ...]] = {}
        for node, lanes in by_node.items():
            if lane in lanes:
                digests[lanes[lane]] = (*digests.get(lanes[lane], ()), node)
        lacking = tuple(node for node, lanes in by_node.items() if lane not in lanes)
        if len(digests) > 1 or lacking:
            found[lane] = LaneCopies(digests=digests, unknown_to=lacking)
    return found


def told(lane: str, copies: LaneCopies) -> str:
    """In one sentence: `lane hex8 differs between nodes: 3f2a… on gpu-1, gpu-2; 91bc… on gpu-3; unknown to gpu-4`."""
    by_count = sorted(copies.digests.items(), key=lambda each: (-len(each[1]), each[1]))
    said = [f"{digest} on {', '.join(nodes)}" for digest, nodes in by_count]
    if copies.unknown_to:
        said.append(f"unknown to {', '.join(copies.unknown_to)}")
    return f"lane {lane} differs between nodes: {'; '.join(said)}"
