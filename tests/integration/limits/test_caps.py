"""Caps with the real transports, on loopback, where libtorrent's default has none."""

import asyncio
import http.client
import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import libtorrent as lt
import pytest

from fleetcast.config.limits import LimitsSettings, Window
from fleetcast.config.settings import HttpSettings
from fleetcast.daemons.distributor.allowance import Allowance
from fleetcast.transport.bittorrent import session as module
from fleetcast.transport.bittorrent.notes import TorrentAdded, TorrentStates
from fleetcast.transport.bittorrent.session import Session
from fleetcast.transport.bittorrent.wire import Start
from fleetcast.transport.capped import Sending
from fleetcast.transport.listening import free_port
from fleetcast.transport.serve import StoreServer
from fleetcast.transport.testing import Swarm, Thing, thing_of

MIB = 2**20
CAP = 6 * MIB
HOST = "127.0.0.1"


@pytest.mark.asyncio
async def test_swarm_and_file_server_share_one_cap(swarm: Swarm, tmp_path: Path) -> None:
    model = thing_of({"model.pt": os.urandom(24 * MIB)})
    origin, node = await swarm.node(), await swarm.node()
    await origin.seed(model)
    server = await served(model.path(origin.folder))
    allowance = Allowance(
        LimitsSettings(upload_bytes_per_second=CAP),
        {"bittorrent": origin.transport, "http": Sending(lambda: server.sent_bytes, server.limit)},
    )
    allowance.look(0.0)
    holding = asyncio.create_task(allowance.run())
    both = asyncio.gather(
        node.fetch(model, origin.source), asyncio.to_thread(read, f"{server.endpoint}/c/{sha256(model)}")
    )
    try:
        rate = await steady_rate(lambda: origin.transport.moved().sent + server.sent_bytes, 2 * model.size, both)
        await both
    finally:
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        await server.close()
    # How much below depends on what else this machine does.
    assert 0.6 * CAP < rate < 1.1 * CAP


@pytest.mark.asyncio
async def test_cap_that_ends_lets_a_running_transfer_go(swarm: Swarm) -> None:
    model = thing_of({"model.pt": os.urandom(16 * MIB)})
    origin, node = await swarm.node(), await swarm.node()
    await origin.seed(model)
    night = Window.model_validate({"from": "22:00", "to": "06:00", "upload_bytes_per_second": 0})
    clock = [datetime(2026, 11, 16, 21, 59)]  # noqa: DTZ001 - the clock on the wall
    limits = LimitsSettings(upload_bytes_per_second=MIB // 4, windows=(night,))
    allowance = Allowance(limits, {"bittorrent": origin.transport}, now=lambda: clock[0])
    allowance.look(0.0)
    holding = asyncio.create_task(allowance.run())
    try:
        seen = node.witness(model)
        fetching = asyncio.create_task(node.fetch(model, origin.source, witness=seen))
        async with asyncio.timeout(20):
            await seen.began.wait()
        clock[0] = datetime(2026, 11, 16, 22, 0)  # noqa: DTZ001
        # Under the cap it would take 64 s.
        async with asyncio.timeout(40):
            await fetching
    finally:
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)


@pytest.mark.filterwarnings("ignore:files:DeprecationWarning")  # of libtorrent; the child does not turn it to errors
def test_cap_of_a_session_holds_on_loopback_and_is_used(tmp_path: Path) -> None:
    assert 0.4 * 2 * CAP < received_in_two_seconds(tmp_path) < 1.3 * 2 * CAP


@pytest.mark.filterwarnings("ignore:files:DeprecationWarning")
def test_broken_variant_with_the_default_peer_classes_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_everybody_in", lambda _: loopback_in_the_local_class())
    assert received_in_two_seconds(tmp_path) > 1.3 * 2 * CAP


async def steady_rate(count: Callable[[], int], size: int, moving: asyncio.Future[Any]) -> float:
    """Bytes per second from 25 to 95 % of *size*: without the first moment, which fills buffers, and the end."""
    seen: list[tuple[float, int]] = []
    for part in (0.25, 0.95):
        while count() < part * size and not moving.done():  # noqa: ASYNC110 (nobody sets an event)
            await asyncio.sleep(0.05)
        seen.append((time.monotonic(), count()))
    (began, before), (ended, after) = seen
    return (after - before) / (ended - began)


def loopback_in_the_local_class() -> lt.ip_filter:
    """As libtorrent has it."""
    classes = lt.ip_filter()
    classes.add_rule("0.0.0.0", "255.255.255.255", 1 << lt.session.global_peer_class_id)
    classes.add_rule("127.0.0.0", "127.255.255.255", 1 << lt.session.local_peer_class_id)
    return classes


def received_in_two_seconds(folder: Path) -> int:
    """Bytes from a session with a cap to one without, two seconds after the first, or all when they come sooner."""
    thing = thing_of({"model.pt": os.urandom(32 * MIB)})
    port = free_port(HOST, 0)
    seed = Session(Start(HOST, port, HOST, limits=(0, CAP, 0)), port)
    other = free_port(HOST, 0)
    leech = Session(Start(HOST, other, HOST), other)
    thing.put(folder / "seed")
    (folder / "leech").mkdir()
    for session, place, verified in ((seed, "seed", True), (leech, "leech", False)):
        session.add(
            thing.metainfo, str(folder / place / thing.artifact[:16]), "http://127.0.0.1:1/a", verified=verified
        )
    added(seed)
    handle = added(leech).handle
    handle.connect_peer((HOST, port))
    began, received, deadline = 0.0, 0, time.monotonic() + 60
    while received < thing.size and (not began or time.monotonic() - began < 2.0):
        assert time.monotonic() < deadline
        leech.ask_states()
        for note in leech.notes():
            if isinstance(note, TorrentStates):
                received = max([received, *(state.status.payload for state in note.states)])
        began = began or (time.monotonic() if received else 0.0)
        time.sleep(0.02)
    return received


def added(session: Session) -> TorrentAdded:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if found := [note for note in session.notes() if isinstance(note, TorrentAdded)]:
            return found[0]
        time.sleep(0.01)
    raise TimeoutError


async def served(path: Path) -> StoreServer:
    server = StoreServer(HttpSettings(port=0), bind=HOST, advertise=HOST, find=lambda _: path)
    await server.start()
    return server


def sha256(thing: Thing) -> str:
    return thing.content.files[0].sha256


def read(url: str) -> int:
    """Fetch a URL and throw the bytes away; returns how many there were."""
    parts, count = urlsplit(url), 0
    client = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        client.request("GET", parts.path)
        answer = client.getresponse()
        while data := answer.read(64 * 1024):
            count += len(data)
    finally:
        client.close()
    return count
