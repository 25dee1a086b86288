"""How quickly the store is served: the node's cap, and the rates that receivers ask for."""

import asyncio
import os
import time
from pathlib import Path

import pytest
from tests.integration.serve.shelves import Shelf, ask, serve, serving

from fleetcast.config.settings import HttpSettings
from fleetcast.transport.pacing import MOST_OF_ONE
from fleetcast.transport.testing import until


@pytest.mark.asyncio
async def test_a_cap_holds_over_all_connections_together(tmp_path: Path) -> None:
    shelf = await serving(tmp_path, bytes(2**20))
    shelf.server.limit(2**20)
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(60):
        await asyncio.gather(*(ask(shelf.url) for _ in range(3)))
    assert loop.time() - began > 2.5
    await shelf.server.close()


@pytest.mark.asyncio
async def test_a_receiver_that_waits_for_its_own_turn_takes_nothing_of_what_all_share(tmp_path: Path) -> None:
    made, token = serve(tmp_path, os.urandom(16 * 1024), HttpSettings(port=0, idle_seconds=60)), "0" * 32
    await made.server.start()
    try:
        paced = made.server._paces.of("127.0.0.1", {"fleetcast-token": token}, time.monotonic())
        assert paced is not None
        paced.pacer.limit(1)
        await paced.pacer.take(3600)
        made.server.limit(100)
        waiting = asyncio.create_task(ask(made.url, Fleetcast_Token=token))
        await until(lambda: paced.open == 1, 30)
        # Were its 16 KiB taken already, the next one would wait for 164 s.
        async with asyncio.timeout(60):
            assert (await ask(made.url)).body == made.data
        assert not waiting.done()
        # A lifted rate lets it go at once; the node's own cap is lifted too.
        made.server.limit(None)
        paced.pacer.limit(None)
        assert (await waiting).body == made.data
    finally:
        await made.server.close()


@pytest.mark.asyncio
async def test_a_receiver_for_which_there_is_no_room_is_told_to_ask_later(shelf: Shelf) -> None:
    for n in range(MOST_OF_ONE):
        assert (await ask(f"{shelf.server.endpoint}/r/{n:032x}", "POST", Fleetcast_Rate="0")).status == 204
    refused = await ask(f"{shelf.server.endpoint}/r/{'f' * 32}", "POST", Fleetcast_Rate="0")
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert (await ask(shelf.url, Fleetcast_Token="f" * 32)).body == shelf.data
