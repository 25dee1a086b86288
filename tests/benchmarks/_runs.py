"""What was seen of one distribution, and the figures that follow from it; pure."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.benchmarks._report import Figure, percentile

MIB = 2**20
GIB = 2**30

OVER_BOUND = {(8, 40, 64): (1.40, 1.15), (8, 100, 256): (1.35, 1.10)}
"""What is asked of the last node over the bound, by nodes, Mbit/s and MiB: required, goal."""


@dataclass(frozen=True, slots=True)
class NodeRun:
    """One receiver in one run; moments in seconds since the start of the run's clock.

    Attributes:
        proven: every byte is here and was checked as far as the program does that.
        first_byte: its first payload byte is here; None: not known.
        nearly: 99 % of the bytes are proven; None: not known.
        installed: the version is in its place; None: there is no such step.
        cpu_seconds: processor time of all its processes in this run, without what they use when idle.
        rss_mib: most memory of all its processes.
        bytes_by_source: payload bytes received, by node.
        transport: what brought the bytes; None: there is no choice.
    """

    node: str
    proven: float
    first_byte: float | None = None
    nearly: float | None = None
    installed: float | None = None
    cpu_seconds: float | None = None
    rss_mib: float | None = None
    bytes_by_source: Mapping[str, int] = field(default_factory=dict)
    transport: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One distribution of *size* bytes.

    Attributes:
        sent: bytes that the origin put on its wire, headers included.
        busy: share of this machine's processor time that was in use meanwhile; near 1, the machine was measured and not
            the network.
    """

    size: int
    sent: int
    nodes: tuple[NodeRun, ...]
    busy: float | None = None

    @property
    def last(self) -> float:
        """When the last node had everything."""
        return max(n.proven for n in self.nodes)


def bound_seconds(size: int, origin_up: float, receivers: Sequence[tuple[float, float]]) -> float:
    """Least time in which *size* bytes can reach all receivers: max(F/us, F/dmin, NF/(us + sum ui)).

    Kumar and Ross, "Peer-assisted file distribution: the minimum distribution time", HotWeb 2006.

    Args:
        origin_up: bytes per second that the origin sends at most.
        receivers: of each receiver, bytes per second that it sends and receives at most.
    """
    slowest = min(down for _, down in receivers)
    together = origin_up + sum(up for up, _ in receivers)
    return max(size / origin_up, size / slowest, len(receivers) * size / together)


def equal_links_bound(size: int, rate_mbit: float, receivers: int) -> float:
    """`bound_seconds` where every link, the origin's too, has *rate_mbit* Mbit/s both ways."""
    rate = rate_mbit * 1e6 / 8
    return bound_seconds(size, rate, [(rate, rate)] * receivers)


def over_bound(run: Run, bound: float) -> float:
    """The last node's time over the bound."""
    return run.last / bound


def spread(run: Run) -> float:
    """How far the slow nodes are behind: 99th percentile of the nodes' times over the median."""
    times = [n.proven for n in run.nodes]
    return percentile(times, 0.99) / percentile(times, 0.5)


def tail_ratio(run: Run) -> float | None:
    """Share of its time that the last 1 % of the bytes took, on the node where that was most."""
    ratios = [(n.proven - n.nearly) / n.proven for n in run.nodes if n.nearly is not None]
    return max(ratios, default=None)


def cpu_per_gib(run: Run) -> float | None:
    """Processor seconds per GiB received, mean over the nodes."""
    used = [n.cpu_seconds for n in run.nodes if n.cpu_seconds is not None]
    return statistics.fmean(used) / (run.size / GIB) if used else None


def peak_rss(run: Run) -> float | None:
    """Most memory of a node in MiB."""
    return max((n.rss_mib for n in run.nodes if n.rss_mib is not None), default=None)


def first_byte_ms(runs: Sequence[Run]) -> list[float]:
    """Times to the first byte, of all nodes in all runs."""
    return [1000 * n.first_byte for run in runs for n in run.nodes if n.first_byte is not None]


def values(runs: Sequence[Run], bound: float) -> dict[str, float]:
    """The figures by key: medians over the runs; what is not known is left out."""
    of_one: dict[str, Callable[[Run], float | None]] = {
        "last_node_over_bound": lambda r: over_bound(r, bound),
        "spread_p99_over_p50": spread,
        "egress_over_size": lambda r: r.sent / r.size,
        "cpu_seconds_per_gib": cpu_per_gib,
        "rss_mib": peak_rss,
        "tail_ratio": tail_ratio,
    }
    found = {}
    for key, figure in of_one.items():
        known = [value for run in runs if (value := figure(run)) is not None]
        if known:
            found[key] = statistics.median(known)
    first = first_byte_ms(runs)
    return {**found, "first_byte_p95_ms": percentile(first, 0.95)} if first else found


def figures(found: Mapping[str, float], nodes: int, rate_mbit: int, mib: int) -> dict[str, Figure]:
    """*found* with what is asked of each key under these conditions."""
    over = OVER_BOUND.get((nodes, rate_mbit, mib), (None, None))
    asked: dict[str, tuple[str, float | None, float | None]] = {
        "last_node_over_bound": ("ratio", *over),
        "spread_p99_over_p50": ("ratio", None, None),
        "egress_over_size": ("ratio", 1.3, 1.1),
        "first_byte_p95_ms": ("ms", None, None),
        "cpu_seconds_per_gib": ("s/GiB", 5.0, 3.0),
        "sha256_seconds_per_gib": ("s/GiB", None, None),
        "cpu_over_sha256": ("ratio", None, None),
        "rss_mib": ("MiB", None, None),
        "tail_ratio": ("ratio", 0.05, 0.03),
        "n16_over_n4": ("ratio", 1.15, 1.05),
        "one_receiver_over_curl": ("ratio", 1.10, 1.00),
        "cap_error_ratio": ("ratio", 0.05, 0.02),
    }
    return {key: Figure(found[key], *asked[key]) for key in asked if key in found}


def shown(run: Run, bound: float, origin: str) -> dict[str, object]:
    """One run as the conditions show it."""
    installs = [n.installed for n in run.nodes if n.installed is not None]
    from_origin = sum(n.bytes_by_source.get(origin, 0) for n in run.nodes)
    tail, cpu = tail_ratio(run), cpu_per_gib(run)
    return {
        "last_seconds": round(run.last, 2),
        "over_bound": round(over_bound(run, bound), 3),
        "installed_seconds": round(max(installs), 2) if installs else None,
        "egress": round(run.sent / run.size, 3),
        "payload_from_origin": round(from_origin / run.size, 3) if from_origin else None,
        "tail": round(tail, 3) if tail is not None else None,
        "cpu": round(cpu, 2) if cpu is not None else None,
        "machine_busy": round(run.busy, 2) if run.busy is not None else None,
        "transports": sorted({n.transport for n in run.nodes if n.transport}),
        "nodes_seconds": [round(n.proven, 2) for n in run.nodes],
    }
