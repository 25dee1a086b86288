"""`fleetcast bench cluster`: what three servers lose, and how soon a fault is noticed: kills, partitions, power cuts, a
full disk, writes that hang; and what a fleet of 300 nodes costs a server.

As root, every server has a network and a disk of its own, made here; what is made is in namespaces of this process
alone, and gone when it ends. Otherwise only `kill`, `wedge` and `fleet` run, on plain processes.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks._report import Figure, Report, quiet_logs
from tests.system.cluster import inside
from tests.system.cluster.fleet import CROWDS, Cost, fleet_cost
from tests.system.cluster.fulldisk import full_disk
from tests.system.cluster.kills import kill_loop
from tests.system.cluster.machines import site
from tests.system.cluster.partition import partitions
from tests.system.cluster.power import power_cuts
from tests.system.cluster.tally import Tally
from tests.system.cluster.wedge import as_in_a_fleet, wedge

PARTS = ("kill", "partition", "power", "disk", "wedge", "fleet")
PREFIX = "fleetcast-cluster-"
"""Of folders with disks; then comes the process whose they are."""
NEEDING_ROOT = frozenset({"partition", "power", "disk"})
CUT_SECONDS = 14.0
"""Of a partition: longer than an election and than the servers take to call a route dead."""
LOAD_SECONDS = 12.0
"""Before a power cut."""
ENOUGH = 0.9
"""Of its traffic a simulated fleet must have sent for its figure to say anything."""
LONGEST_SECONDS = 1800
"""A part that takes longer than this beyond its own time has failed."""


class Campaign:
    """The parts, and the report that they write their figures into."""

    def __init__(self, report: Report, given: argparse.Namespace, *, apart: bool) -> None:
        self.report = report
        self.seed: int = given.seed
        self.seconds: float = given.seconds
        self.nodes: int = given.nodes
        self.apart = apart

    def part(self, name: str) -> Callable[[Path], Awaitable[None]]:
        """The part of a name."""
        return {
            "kill": self.kill,
            "partition": self.partition,
            "power": self.power,
            "disk": self.disk,
            "wedge": self.wedge,
            "fleet": self.fleet,
        }[name]

    def _chance(self, part: str) -> random.Random:
        return random.Random(f"{self.seed} {part}")

    def _tally(self, part: str, tally: Tally) -> None:
        figures = self.report.figures
        figures[f"acked_lost_{part}"] = Figure(len(tally.lost), "events", required=0)
        figures[f"acked_{part}"] = Figure(len(tally.acknowledged), "events", required=1, at_least=True)
        figures[f"doubled_{part}"] = Figure(len(tally.doubled), "events", required=0)

    async def kill(self, folder: Path) -> None:
        """SIGKILL of servers and workers."""
        async with site(folder, apart=self.apart) as made:
            found = await kill_loop(made, self._chance("kill"), self.seconds)
        self._tally("kill", found.tally)
        self.report.figures |= {
            "unhandled_kill": Figure(len(found.tally.unhandled), "events", required=0),
            "kills": Figure(found.kills, "servers"),
            "refused_kill": Figure(found.refused, "events"),
            "longest_publish_kill_seconds": Figure(found.longest_seconds, "s"),
        }

    async def partition(self, folder: Path) -> None:
        """Cables."""
        cuts = max(2, round(self.seconds / (2 * CUT_SECONDS)))
        async with site(folder, apart=True) as made:
            found = await partitions(made, self._chance("partition"), cuts=cuts, cut_seconds=CUT_SECONDS)
        self._tally("partition", found.tally)
        self.report.figures |= {
            "partitions": Figure(found.cuts, "cuts"),
            "minority_said_yes": Figure(found.minority_said_yes, "events", required=0),
            "minority_refused": Figure(found.minority_refused, "events", required=1, at_least=True),
            "longest_publish_partition_seconds": Figure(found.longest_seconds, "s"),
        }

    async def power(self, folder: Path) -> None:
        """Power cuts, and the control run that must lose."""
        cuts = max(2, round(self.seconds / (2 * LOAD_SECONDS)))
        async with site(folder / "synced", apart=True) as made:
            found = await power_cuts(made, self._chance("power"), cuts=cuts, seconds=LOAD_SECONDS)
        self._tally("power", found.tally)
        async with site(folder / "control", apart=True, synced=False) as made:
            control = await power_cuts(made, self._chance("power"), cuts=1, seconds=LOAD_SECONDS, synced=False)
        self.report.figures |= {
            "power_cuts": Figure(found.cuts, "cuts"),
            "control_run_lost": Figure(len(control.tally.lost), "events", required=1, at_least=True),
            "control_run_acked": Figure(len(control.tally.acknowledged), "events"),
        }

    async def disk(self, folder: Path) -> None:
        """A full disk."""
        number = self._chance("disk").randrange(3)
        async with site(folder, apart=True, small=number) as made:
            found = await full_disk(made, number)
        self._tally("disk", found.tally)
        noticed = float("inf") if found.noticed_seconds is None else found.noticed_seconds
        self.report.conditions["full_disk_server_said"] = found.server_said
        self.report.figures |= {
            "full_disk_noticed_seconds": Figure(noticed, "s", required=60),
            "full_disk_needed_restart": Figure(int(found.restarted), "times"),
            "longest_publish_disk_seconds": Figure(found.longest_seconds, "s"),
        }

    async def wedge(self, folder: Path) -> None:
        """Writes that hang."""
        async with site(folder, apart=self.apart) as made:
            found = await wedge(made, self._chance("wedge"), as_in_a_fleet(made))
        self.report.conditions["wedge"] = found.how
        self.report.figures |= {
            "wedge_detected_seconds": Figure(max(found.bus_seconds, found.daemon_seconds), "s", required=30),
            "wedge_detected_by_bus_seconds": Figure(found.bus_seconds, "s", required=30),
            "wedge_server_said_healthy_ratio": Figure(found.server_healthy / max(found.looks, 1), "ratio"),
            "wedge_client_connected_ratio": Figure(found.client_connected / max(found.looks, 1), "ratio"),
            "wedge_healed_seconds": Figure(found.healed_seconds, "s"),
        }

    async def fleet(self, folder: Path) -> None:
        """Control traffic of many nodes."""
        self.report.conditions["fleet"] = f"one server on loopback; the nodes are in {CROWDS} processes beside it"
        found = await fleet_cost(folder, nodes=self.nodes, seconds=self.seconds)
        self.report.figures |= {
            f"server_cpu_cores_{found.nodes}_nodes": Figure(found.cores, "cores", required=0.5),
            "fleet_said_ratio": Figure(found.said_ratio, "ratio", required=ENOUGH, at_least=True),
            "fleet_watches_ended": Figure(len(found.ended), "watches", required=0),
            "fleet_nodes_not_ready": Figure(found.not_ready, "nodes", required=0),
        }
        self.report.peers |= {"at rest": _cost(found.rest), "in a rollout": _cost(found.rollout)}


def _cost(cost: Cost) -> dict[str, float]:
    return {name: round(value, 3) for name, value in asdict(cost).items()}


def main() -> int:
    """Measure and report."""
    given = _arguments()
    why_not = inside.why_not()
    if not why_not:
        inside.enter("tests.benchmarks.cluster", sys.argv[1:])
    _sweep()
    chosen = [part for part in PARTS if part in (given.only or PARTS)]
    skipped = {part: why_not for part in chosen if why_not and part in NEEDING_ROOT}
    report = Report("cluster", {"seed": given.seed, "seconds": given.seconds, "servers": 3})
    _conditions(report.conditions, skipped, apart=not why_not)
    for part, reason in skipped.items():
        _say(f"{part}: left out: {reason}")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_all(Campaign(report, given, apart=not why_not), [p for p in chosen if p not in skipped]))
        return report.finish(as_json=given.json)
    _say("interrupted; what was made is removed")
    return 130


def _conditions(conditions: "dict[str, object]", skipped: Mapping[str, str], *, apart: bool) -> None:
    conditions["machines"] = "a network namespace and an ext4 disk each" if apart else "plain processes on loopback"
    if skipped:
        conditions["left_out"] = skipped


def _sweep() -> None:
    """Remove the images of campaigns that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            shutil.rmtree(path, ignore_errors=True)


async def _all(campaign: Campaign, parts: list[str]) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, os.kill, os.getpid(), signal.SIGINT)
    for part in parts:
        _say(f"{part} …")
        with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-", ignore_cleanup_errors=True) as name:
            async with asyncio.timeout(campaign.seconds + LONGEST_SECONDS):
                await campaign.part(part)(Path(name))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is left to chance (default 1)")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part alone; may be repeated")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each part goes on (default 60)")
    parser.add_argument("--nodes", type=int, default=300, help="simulated nodes of the fleet (default 300)")
    # What is done to the servers here is an error to every client of theirs, and expected.
    quiet_logs(logging.CRITICAL)
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    raise SystemExit(main())
