"""`fleetcast notify`, asked of a real notifier."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.integration.notifier.rig import NotifierProcess, fresh, raise_incident, settings, webhook
from tests.integration.notifier.servers import HttpServer, running

from fleetcast.bus import Bus
from fleetcast.bus.server import LocalServer

pytestmark = pytest.mark.asyncio


async def ask(server: LocalServer, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and document of a command."""
    command = [sys.executable, "-m", "fleetcast", "notify", *words, "--json", "--server", server.url]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out)


async def test_person_sees_whether_channels_work_and_what_waits(folder: Path, server: LocalServer, bus: Bus) -> None:
    well, ill = HttpServer(), HttpServer()
    ill.usually = 500
    good, bad = fresh("good"), fresh("bad")
    process = NotifierProcess(folder, server, settings({good: webhook(well), bad: webhook(ill)}))
    async with running(well), running(ill):
        assert (await ask(server, "status"))[1]["error"]["code"] == "no_notifier"
        process.start()
        try:
            await process.until_logged("daemon.ready")
            code, tried = await ask(server, "test")
            assert code == 1
            assert {each["channel"]: each["ok"] for each in tried["channels"]} == {good: True, bad: False}
            assert well.accepted[0].document["title"].startswith("[TEST]")

            await raise_incident(bus)
            await process.until_logged("notice.sent")
            await process.until_logged("notice.failed")
            code, shown = await ask(server, "status")
            missing, _ = await ask(server, "status", "nobody")
        finally:
            process.kill()

    rows = {each["channel"]: each for each in shown["channels"]}
    assert (code, missing) == (1, 3)
    assert (rows[good]["state"], rows[good]["sent"], rows[good]["waiting"]) == ("ok", 1, 0)
    assert (rows[bad]["state"], rows[bad]["last_error"]) == ("failing", "127.0.0.1 answers 500")
    assert rows[bad]["under_way"].startswith("[HIGH] opened")
