"""`fleetcast bench swarm`: one origin to N nodes over links of limited rate, against what arithmetic allows.

Real distributors, each on a host of its own (network namespaces, token buckets in both directions); NATS travels on a
network without limits, so that it neither costs nor waits.
"""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.benchmarks._caps import LINK_MBIT, TRANSPORTS, measure_caps
from tests.benchmarks._caps import SECONDS as CAP_SECONDS
from tests.benchmarks._hosts import QUEUE, FleetHosts, NoHosts, fleet_hosts
from tests.benchmarks._peers import NAME, ONCE, PEERS, PeerFailed, Work
from tests.benchmarks._processes import sha256_seconds_per_gib
from tests.benchmarks._report import Report, median, quiet_logs
from tests.benchmarks._runs import MIB, Run, equal_links_bound, figures, shown, values
from tests.benchmarks._swarm_fleet import ORIGIN, swarm_fleet, write_model

from fleetcast.daemons.testing import FleetProblem

SCALE = (4, 16)
PATIENCE = 12.0
"""Times the bound after which a run is given up."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Our own runs, the cores that a receiver uses at rest, curl's seconds where it ran beside them,
    what the daemons warned of, by event, and what a pass of SHA-256 cost after each run, in s/GiB."""

    runs: list[Run]
    idle_cores: float
    curl_seconds: list[float]
    warnings: dict[str, int]
    sha256: list[float]


def main() -> int:
    """Measure and report."""
    given = options().parse_args()
    quiet_logs()
    signal.signal(signal.SIGTERM, _terminated)
    try:
        report = measure(given)
    except (NoHosts, FleetProblem, PeerFailed) as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    return report.finish(as_json=given.json)


def _terminated(_number: int, _frame: FrameType | None) -> None:
    """End as after Ctrl-C: hosts and processes are removed on the way out."""
    raise SystemExit(143)


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="fleetcast bench swarm", description=__doc__)
    parser.add_argument("--nodes", type=int, default=8, help="receivers (default 8)")
    parser.add_argument("--rate", type=int, default=40, help="Mbit/s of every link, both ways (default 40)")
    parser.add_argument("--size", type=int, default=64, help="MiB of the model (default 64)")
    parser.add_argument("--runs", type=int, default=3, help="promotions; figures are medians over them (default 3)")
    parser.add_argument(
        "--compare",
        nargs="*",
        choices=list(PEERS),
        metavar="PROGRAM",
        help=f"let others do the same: all of them, or some of {', '.join(PEERS)}",
    )
    parser.add_argument("--scale", action="store_true", help="16 nodes against 4, whatever --nodes says")
    parser.add_argument(
        "--cap",
        type=int,
        metavar="BYTES",
        help="only measure how a cap of BYTES per second is held, on every kind of address, both ways",
    )
    parser.add_argument(
        "--by",
        nargs="+",
        choices=TRANSPORTS,
        default=(),
        metavar="TRANSPORT",
        help=f"with --cap: held by each of these alone ({', '.join(TRANSPORTS)}); else by what the ladder chooses",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def measure(given: argparse.Namespace) -> Report:
    """All that the command line asks for."""
    return _measure_cap(given.cap, given.by) if given.cap else _measure_swarm(given)


def _measure_cap(cap: int, transports: Sequence[str]) -> Report:
    """One receiver, and the same cap in each direction on each kind of address; the figure is the worst of them."""
    asked: dict[str, object] = {
        "cap": f"{cap} bytes per second, of the receiver (download) or of the origin (upload), one receiver",
        "links": f"{LINK_MBIT} Mbit/s; loopback without limit",
        "size": f"{CAP_SECONDS} s under the cap",
        "measured": "at the interface of the capped node, TCP streams without headers, from 25 to 95 % of the bytes",
    }
    report = Report("swarm", asked)
    with tempfile.TemporaryDirectory(prefix="fleetcast-bench-") as folder:
        held = list(measure_caps(cap, Path(folder), transports))
    report.conditions["each_case"] = [h.shown(cap) for h in held]
    report.figures.update(figures({"cap_error_ratio": max(h.error(cap) for h in held)}, 1, 0, 0))
    return report


def _measure_swarm(given: argparse.Namespace) -> Report:
    nodes = max(SCALE) if given.scale else given.nodes
    bound = equal_links_bound(given.size * MIB, given.rate, nodes)
    report = Report("swarm", conditions(given, nodes, bound))
    with tempfile.TemporaryDirectory(prefix="fleetcast-bench-") as folder:
        found = _fleetcast(report, given, nodes, bound, Path(folder))
        if given.compare is not None:
            with fleet_hosts(nodes, given.rate) as hosts:
                _compare(report, given, bound, hosts, Path(folder), found["last_node_over_bound"])
    report.figures.update(figures(found, nodes, given.rate, given.size))
    return report


def _fleetcast(report: Report, given: argparse.Namespace, nodes: int, bound: float, folder: Path) -> dict[str, float]:
    """Measure our own distribution; what each run gave goes to the conditions."""
    seen = _promoted(given, nodes, folder / "fleet")
    found = values(seen.runs, bound)
    found["sha256_seconds_per_gib"] = median(seen.sha256)
    found["cpu_over_sha256"] = found["cpu_seconds_per_gib"] / found["sha256_seconds_per_gib"]
    report.conditions["warnings"] = seen.warnings
    report.conditions["idle_cores"] = round(seen.idle_cores, 4)
    report.conditions["each_run"] = [shown(run, bound, ORIGIN) for run in seen.runs]
    if given.scale:
        few = _promoted(given, min(SCALE), folder / "few")
        report.conditions["each_run_of_the_small_fleet"] = [shown(run, bound, ORIGIN) for run in few.runs]
        found["n16_over_n4"] = median([r.last for r in seen.runs]) / median([r.last for r in few.runs])
    if seen.curl_seconds:
        report.conditions["curl_seconds"] = [round(s, 2) for s in seen.curl_seconds]
        found["one_receiver_over_curl"] = median([r.last for r in seen.runs]) / median(seen.curl_seconds)
    return found


def _promoted(given: argparse.Namespace, nodes: int, folder: Path) -> Seen:
    with fleet_hosts(nodes, given.rate) as hosts:
        return asyncio.run(promote(folder, hosts, given))


async def promote(folder: Path, hosts: FleetHosts, given: argparse.Namespace) -> Seen:
    """All promotions to one fleet; curl takes turns with them where there is one receiver."""
    size, alone = given.size * MIB, len(hosts.receivers) == 1
    patience = 30 + PATIENCE * equal_links_bound(size, given.rate, len(hosts.receivers))
    runs, curl, sha256 = [], [], []
    async with swarm_fleet(folder, hosts) as fleet:
        for version in (f"v{n}" for n in range(1, given.runs + 1)):
            runs.append(await fleet.run(version, size, seconds=patience))
            sha256.append(await asyncio.to_thread(sha256_seconds_per_gib))
            if alone:
                curl.append(await fleet.curl_seconds(version))
        return Seen(runs, fleet.idle_cores, curl, fleet.warnings, sha256)


def _compare(
    report: Report, given: argparse.Namespace, bound: float, hosts: FleetHosts, folder: Path, ours: float
) -> None:
    """Let the others distribute a file of the same size between hosts of the same kind."""
    file = folder / "published" / NAME
    file.parent.mkdir()
    write_model(file, given.size * MIB)
    patience = 30 + 1.5 * len(hosts.receivers) * bound
    for name in given.compare or PEERS:
        runs = []
        for n in range(1 if name in ONCE else given.runs):
            work = Work(hosts, file, folder / f"{name}-{n}", patience)
            work.folder.mkdir()
            runs.append(PEERS[name](work))
            shutil.rmtree(work.folder)
        found = values(runs, bound)
        report.peers[name] = {**found, "time_over_ours": found["last_node_over_bound"] / ours}
        report.conditions[f"each_run_of_{name}"] = [shown(run, bound, ORIGIN) for run in runs]


def conditions(given: argparse.Namespace, nodes: int, bound: float) -> dict[str, object]:
    """What the figures depend on, and what they mean."""
    return {
        "nodes": nodes,
        "rate": f"{given.rate} Mbit/s each way on every link, tc tbf at both ends (bucket 128 KiB, queue {QUEUE})",
        "size_mib": given.size,
        "runs": given.runs,
        "statistic": "medians over the runs",
        "bound_seconds": round(bound, 3),
        "bound": "of the whole rate; headers alone take 4.6 % of it at an MTU of 1500",
        "clock": "artifact.available published by the origin -> the last node has read back and proven every byte",
        "egress": "what the origin put on its wire: headers of all packets, requests and acknowledgements included",
        "cpu": "all processes of a receiver, until its second verification ends, less what they use at rest; mean",
        "rss": "sum of the peaks of a receiver's processes; the node that needs most",
        "sha256": "CPU seconds of one pass over a GiB, after each run, on the machine as busy as it then was",
        "congestion_control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
    }


if __name__ == "__main__":
    raise SystemExit(main())
