"""`python -m tests.system.cluster.brief`: every fault once, one after the other, on one set of three servers; one JSON
document of what was seen. `bench cluster` does the same at length."""

import asyncio
import json
import logging
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks._report import quiet_logs
from tests.system.cluster import inside
from tests.system.cluster.fulldisk import full_disk
from tests.system.cluster.kills import kill_loop
from tests.system.cluster.machines import site
from tests.system.cluster.partition import partitions
from tests.system.cluster.power import power_cuts
from tests.system.cluster.wedge import wedge

BEGAN = time.monotonic()
SEED = 7
SMALL = 2
"""Number of the machine with the small disk."""


async def every_fault(folder: Path) -> dict[str, Any]:
    """What was seen of each."""
    chance, seen = random.Random(SEED), dict[str, Any]()
    async with site(folder, apart=True, small=SMALL) as made:
        _say("three servers are up")
        seen["kill"] = await kill_loop(made, chance, 0, least=1, leader_share=0)
        _say("partition is next")
        seen["partition"] = await partitions(made, chance, cuts=1, cut_seconds=1.0)
        _say("disk is next")
        seen["disk"] = await full_disk(made, SMALL, by_itself_seconds=1.0)
        _say("wedge is next")
        seen["wedge"] = await wedge(made, chance, made.settings(), daemon=False)
        _say("power is next")
        seen["power"] = await power_cuts(made, chance, cuts=1, seconds=2.0)
        _say("everything was seen")
    figures = {name: found.tally.figures for name, found in seen.items() if hasattr(found, "tally")}
    fields = {name: {k: v for k, v in _fields(found).items() if k != "tally"} for name, found in seen.items()}
    return {name: {**figures.get(name, {}), **fields[name]} for name in seen}


def _say(text: str) -> None:
    sys.stderr.write(f"{time.monotonic() - BEGAN:6.1f} s: {text}\n")


def _fields(found: Any) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__dataclass_fields__}


def main() -> int:
    """Print what was seen, or why nothing could be."""
    if why_not := inside.why_not():
        print(json.dumps({"left_out": why_not}))
        return 0
    inside.enter("tests.system.cluster.brief", sys.argv[1:])
    quiet_logs(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="fleetcast-cluster-", ignore_cleanup_errors=True) as name:
        print(json.dumps(asyncio.run(every_fault(Path(name)))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
