"""The owner of runs as a process that can be stopped. Its watch never tells it that a run is lost, as if it were behind
for good: what it does then is decided by the records alone.

    python -m tests.integration.trainer.runs.owner URL FOLDER NODE [unfenced]
"""

import asyncio
import sys
from pathlib import Path
from unittest import mock

from tests.integration.trainer.runs.lives import life

from fleetcast.bus import connect
from fleetcast.bus.testing import fast_settings
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.leasing import Owned


async def live(url: str, folder: Path, node: str) -> None:
    """Take runs until killed."""
    async with connect(fast_settings(url), node="test", daemon="test") as bus, life(bus, folder, node):
        await asyncio.Event().wait()


if __name__ == "__main__":
    mock.patch.object(Owned, "seen", return_value=None).start()
    if "unfenced" in sys.argv:
        mock.patch.object(rules, "held", lambda run, _node, _claim: run).start()
    asyncio.run(live(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
