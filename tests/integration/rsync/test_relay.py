"""Between rsync and its source on a node that may have caps: nobody else gets in, and nothing is left of it."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tests.integration.rsync.conftest import ModuleMaker, Server, free_port, put_in_store
from tests.integration.rsync.receiver import KIB, MIB, Receiver, model, rsyncs_of

from fleetcast.config.settings import RsyncSettings
from fleetcast.transport.errors import SourceUnreachable, TransferError, TransferFailed, TransferStalled
from fleetcast.transport.protocol import Source
from fleetcast.transport.rsync import plan
from fleetcast.transport.rsync.relay import DOOR, Relay, Traffic, relayed
from fleetcast.transport.testing import Witness

pytestmark = pytest.mark.asyncio

NOBODY = 65534
MODULES = RsyncSettings(modules=True, connect_seconds=20, accept_older=True)


async def test_what_is_counted_is_what_the_source_sent(module: ModuleMaker, receiver: Receiver) -> None:
    thing, server = model(), module("s1")
    put_in_store(thing, server.store)

    seen = await receiver.fetch(thing, server.source)

    # Its greeting comes before the bytes that its log counts.
    assert 0 <= receiver.transport.moved().received - sent_by(server) < KIB
    assert thing.size < receiver.transport.moved().received < 1.01 * thing.size
    assert 0 < receiver.transport.moved().sent < 4 * KIB
    # People are told of payload.
    assert seen.last.received == thing.size


def sent_by(server: Server) -> int:
    """Bytes that the source says it sent, from the last line of its log."""
    lines = [line for line in (server.store.parent / "log").read_text().splitlines() if " sent " in line]
    return int(lines[-1].split(" sent ")[1].split()[0].replace(",", ""))


async def test_long_path_with_blanks_quotes_and_percent_signs_leads_to_the_daemon(
    module: ModuleMaker, tmp_path: Path
) -> None:
    """A socket's name may have 107 bytes."""
    thing, server = model(), module("s1")
    put_in_store(thing, server.store)
    receiver = Receiver(tmp_path / strange_name(), MODULES)
    await receiver.fetch(thing, server.source)
    assert thing.lies_in(receiver.folder)


async def test_long_path_with_blanks_quotes_and_percent_signs_leads_ssh_to_the_daemon(
    forced: Server, tmp_path: Path
) -> None:
    thing = model()
    put_in_store(thing, forced.store)
    receiver = Receiver(tmp_path / strange_name(), forced.settings)
    await receiver.fetch(thing, forced.source)
    assert thing.lies_in(receiver.folder)


def strange_name() -> str:
    return 'it\'s "100 %h" & $HOME # ' + 90 * "x"


async def test_source_that_refuses_is_named_with_the_reason(receiver: Receiver) -> None:
    port = free_port()
    dead = Source("dead", rsync=f"rsync://127.0.0.1:{port}/store", complete=True)
    with pytest.raises(SourceUnreachable, match=f"dead: cannot connect to 127.0.0.1:{port}: Connection refused"):
        await receiver.fetch(model(), dead)


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "no-such-host.invalid"])
async def test_name_that_is_none_is_a_source_that_cannot_be_reached(host: str, receiver: Receiver) -> None:
    with pytest.raises(SourceUnreachable, match="odd"):
        await receiver.fetch(model(), Source("odd", rsync=f"rsync://{host}:873/store", complete=True))


async def test_connection_that_breaks_is_named_with_the_reason(receiver: Receiver) -> None:
    async with hanging_up() as port:
        source = Source("s1", rsync=f"rsync://127.0.0.1:{port}/store", complete=True)
        with pytest.raises(TransferFailed, match="s1: the connection broke: Connection reset by peer"):
            await receiver.fetch(model(), source)


@contextlib.asynccontextmanager
async def hanging_up() -> AsyncIterator[int]:
    """A source that breaks the connection as soon as it hears something."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        at_once = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.close()

    async with await asyncio.start_server(reset, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


# ---- nobody else gets in


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that everybody can reach, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="fleetcast-relay-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


KNOCKING = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
    door.connect(sys.argv[2])
    ends = socket.socketpair()
    socket.send_fds(door, [b"x"], [end.fileno() for end in ends])
"""


async def knock(door: Path) -> str:
    """Try, as another user, to take the connection; returns what was said against it."""
    if os.geteuid() != 0:
        pytest.skip("to be another user needs root")
    command = [sys.executable, "-I", "-S", "-c", KNOCKING, str(NOBODY), str(door)]
    return (await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)).stderr


@pytest.mark.parametrize("mode", [None, pytest.param(0o666, id="broken variant: open")])
async def test_another_user_cannot_take_the_connection(open_to_all: Path, mode: int | None) -> None:
    async with await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0) as server:
        where = plan.Remote("127.0.0.1", server.sockets[0].getsockname()[1], module="store")
        async with relayed("s1", where, open_to_all, Traffic(), connect_seconds=20):
            door = open_to_all / DOOR
            assert stat.S_IMODE(door.stat().st_mode) == 0o600
            if mode is None:
                assert "PermissionError" in await knock(door)
                assert door.exists()
            else:
                door.chmod(mode)
                assert not await knock(door)


async def test_only_one_is_let_in(open_to_all: Path) -> None:
    async with await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0) as server:
        where = plan.Remote("127.0.0.1", server.sockets[0].getsockname()[1], module="store")
        async with relayed("s1", where, open_to_all, Traffic(), connect_seconds=20) as made:
            for code in (0, 1):
                first = await asyncio.create_subprocess_exec(
                    *made.handover, "rsync", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
                )
                _, said = await first.communicate()
                assert first.returncode == code, said
            assert said == b"the daemon does not take the connection: Connection refused\n"


# ---- nothing is left


async def ends_well(receiver: Receiver, server: Server, seen: Witness) -> None:
    await receiver.fetch(seen.thing, server.source, witness=seen)


async def is_cancelled(receiver: Receiver, server: Server, seen: Witness) -> None:
    fetching = await begun(receiver, server, seen)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching


async def rsync_dies(receiver: Receiver, server: Server, seen: Witness) -> None:
    fetching = await begun(receiver, server, seen)
    for pid in rsyncs_of(receiver):
        if psutil.Process(pid).name() == "rsync":
            os.kill(pid, signal.SIGKILL)
    with pytest.raises(TransferFailed, match="s1: rsync"):
        await fetching


async def source_dies(receiver: Receiver, server: Server, seen: Witness) -> None:
    fetching = await begun(receiver, server, seen)
    os.killpg(server.process.pid, signal.SIGKILL)
    with pytest.raises(TransferFailed, match="s1: "):
        await fetching


async def source_stops(receiver: Receiver, server: Server, seen: Witness) -> None:
    fetching = await begun(receiver, server, seen)
    os.killpg(server.process.pid, signal.SIGSTOP)
    with pytest.raises(TransferStalled, match="s1: rsync brought no byte for 1 s"):
        await fetching


async def begun(receiver: Receiver, server: Server, seen: Witness) -> asyncio.Task[Witness]:
    """A slow transfer of which something is here."""
    receiver.transport.limit(2 * MIB, None)
    fetching = asyncio.create_task(receiver.fetch(seen.thing, server.source, witness=seen))
    await asyncio.wait_for(seen.began.wait(), 60)
    return fetching


End = Callable[[Receiver, Server, Witness], Awaitable[None]]


@pytest.mark.parametrize("end", [ends_well, is_cancelled, rsync_dies, source_dies, source_stops])
async def test_nothing_is_open_nor_running_however_it_ends(module: ModuleMaker, tmp_path: Path, end: End) -> None:
    server, first = module("s1"), model(MIB, seed=2)
    receiver = Receiver(
        tmp_path / "r", MODULES.model_copy(update={"stall_seconds": 1.0 if end is source_stops else 30.0})
    )
    thing = model(MIB if end is ends_well else 12 * MIB)
    for each in (first, thing):
        put_in_store(each, server.store)
    await receiver.fetch(first, server.source)
    before, tasks = open_sockets(), asyncio.all_tasks()

    await end(receiver, server, Witness(thing, receiver.folder))

    assert open_sockets() == before
    assert asyncio.all_tasks() == tasks
    assert rsyncs_of(receiver) == []
    assert list(receiver.staging.iterdir()) == []


async def test_relay_that_does_not_close_is_caught(
    module: ModuleMaker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant of the test above."""
    kept: list[Relay] = []
    close = Relay.close

    def keep(self: Relay) -> None:
        kept.append(self)

    monkeypatch.setattr(Relay, "close", keep)
    thing, server, before = model(MIB), module("s1"), open_sockets()
    put_in_store(thing, server.store)
    await receiver.fetch(thing, server.source)
    assert open_sockets() != before
    for each in kept:
        close(each)


def open_sockets() -> set[str]:
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(fd.readlink()))
    return {name for name in found if name.startswith("socket:")}


# ---- a low cap is no stall


async def at_a_crawl(module: ModuleMaker, folder: Path) -> None:
    """rsync writes 256 KiB at a time: every two seconds under this cap, and a second of silence is a stall."""
    thing, server = model(512 * KIB), module("s1")
    put_in_store(thing, server.store)
    receiver = Receiver(folder, MODULES.model_copy(update={"stall_seconds": 1.0}))
    receiver.transport.limit(128 * KIB, None)
    await receiver.fetch(thing, server.source)
    assert thing.lies_in(receiver.folder)


async def test_low_cap_is_not_taken_for_a_stall(module: ModuleMaker, tmp_path: Path) -> None:
    await at_a_crawl(module, tmp_path / "r")


@pytest.mark.soak
async def test_what_is_held_back_here_would_be_blamed_on_the_source(
    module: ModuleMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant of the test above."""
    monkeypatch.setattr(plan, "KEPT_BACK_BYTES", -1)
    with pytest.raises(TransferError, match="brought no byte for 1 s"):
        await at_a_crawl(module, tmp_path / "r")
