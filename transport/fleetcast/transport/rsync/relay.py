"""Between rsync and its source, on a node that may have caps: the daemon carries the stream, lets pass what its share
allows, and counts it.

rsync takes a rate with its start and no other. So it is given none, and instead of the source it has a socket of the
daemon, which `handover` fetches for it: a new share holds at once, and what is counted is what came.
"""

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from fleetcast.transport.capped import Moved, Pacer
from fleetcast.transport.errors import SourceUnreachable
from fleetcast.transport.rsync import handover
from fleetcast.transport.rsync.plan import Remote
from fleetcast.transport.store.folder import transfer_errors

DOOR = "door"
"""The name, in the folder of the transfer, of the socket to which `handover` sends."""
_MOST = 256 * 1024
"""Bytes taken at once where there is no cap."""


class Traffic:
    """What all connections of the transport may move, and have moved."""

    def __init__(self) -> None:
        self.down, self.up = Pacer(), Pacer()
        self.received = self.sent = 0

    def moved(self) -> Moved:
        return Moved(self.received, self.sent)

    def limit(self, download: int | None, upload: int | None) -> None:
        """Let so many bytes per second through, each way, from now on; None: no cap."""
        self.down.limit(download)
        self.up.limit(upload)


class Relay:
    """One connection to a source.

    Attributes:
        received: bytes that came from the source.
        held_seconds: how long they waited for their turn.
        problem: why the connection broke; empty while it has not.
    """

    def __init__(self, source: socket.socket, door: socket.socket, path: Path, traffic: Traffic) -> None:
        self._source, self._door, self._path, self._traffic = source, door, path, traffic
        self.received, self.held_seconds = 0, 0.0
        self.problem = ""

    @property
    def handover(self) -> tuple[str, ...]:
        """The words that lead rsync, or ssh, here; its name follows."""
        return sys.executable, "-I", "-S", "-B", str(Path(handover.__file__)), str(self._path.parent), self._path.name

    async def carry(self) -> None:
        """Wait for rsync, and carry its stream until both sides have ended."""
        reading, writing = await _ends(self._door)
        # Only one is let in.
        self._door.close()
        with reading, writing:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._bring(writing), name="rsync relay, to rsync")
                both.create_task(self._take(reading), name="rsync relay, from rsync")

    def close(self) -> None:
        """Close what is open; the door is removed with the folder."""
        self._door.close()
        self._source.close()

    async def _bring(self, rsync: socket.socket) -> None:
        """From the source to rsync, which says itself why it takes no more."""
        loop, pacer = asyncio.get_running_loop(), self._traffic.down
        with contextlib.suppress(OSError):
            while data := await self._received(pacer.slice_bytes(_MOST)):
                self.received += len(data)
                self._traffic.received += len(data)
                came = loop.time()
                await pacer.take(len(data))
                self.held_seconds += loop.time() - came
                await loop.sock_sendall(rsync, data)
            rsync.shutdown(socket.SHUT_WR)

    async def _received(self, most: int) -> bytes:
        # Without a cap, and where both sides are quick, nothing here would ever wait.
        await asyncio.sleep(0)
        try:
            return await asyncio.get_running_loop().sock_recv(self._source, most)
        except OSError as e:
            self.problem = f"the connection broke: {e.strerror}"
            return b""

    async def _take(self, rsync: socket.socket) -> None:
        """From rsync to the source; what breaks there shows where its answers are missed."""
        loop, pacer = asyncio.get_running_loop(), self._traffic.up
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(rsync, pacer.slice_bytes(_MOST)):
                await pacer.take(len(data))
                await loop.sock_sendall(self._source, data)
                self._traffic.sent += len(data)
            self._source.shutdown(socket.SHUT_WR)


@contextlib.asynccontextmanager
async def relayed(
    source: str, where: Remote, folder: Path, traffic: Traffic, *, connect_seconds: float
) -> AsyncIterator[Relay]:
    """A connection to a source, carried until the end of the context.

    Args:
        source: its node, for messages.
        folder: of the transfer; who may write there may take the connection.

    Raises:
        SourceUnreachable: it does not take the connection.
        StoreFull: there is no space on this node.
    """
    path = folder / DOOR
    with contextlib.ExitStack() as undo:
        line = undo.enter_context(await _connected(source, where, connect_seconds))
        door = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        with transfer_errors("the transfer's folder cannot be written"):
            await asyncio.to_thread(_hang, door, path)
        undo.pop_all()
    relay = Relay(line, door, path, traffic)
    carrying = asyncio.create_task(relay.carry(), name=f"rsync relay {source}")
    # After the task: while it waits for a socket, that must not be closed, and its number become another's.
    carrying.add_done_callback(lambda _: relay.close())
    try:
        yield relay
    finally:
        carrying.cancel()
        await asyncio.wait([carrying])


async def _connected(source: str, where: Remote, within_seconds: float) -> socket.socket:
    place = f"{where.host}:{where.port}"
    try:
        async with asyncio.timeout(within_seconds):
            return await _first_that_answers(where)
    except TimeoutError as e:
        raise SourceUnreachable(f"{source}: {place} does not answer within {within_seconds:g} s") from e
    except socket.gaierror as e:
        raise SourceUnreachable(f"{source}: {where.host}: {e.strerror}") from e
    except OSError as e:
        raise SourceUnreachable(f"{source}: cannot connect to {place}: {os.strerror(e.errno or 0)}") from e


async def _first_that_answers(where: Remote) -> socket.socket:
    loop, last = asyncio.get_running_loop(), OSError(errno.EADDRNOTAVAIL, "")
    # As bytes: Python refuses some names with an error of its own.
    found = await loop.getaddrinfo(where.host.encode("ascii"), where.port, type=socket.SOCK_STREAM)
    for family, kind, proto, _, address in found:
        try:
            with contextlib.ExitStack() as undo:
                source = undo.enter_context(socket.socket(family, kind, proto))
                source.setblocking(False)
                await loop.sock_connect(source, address)
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                undo.pop_all()
                return source
        except OSError as e:
            last = e
    raise last


def _hang(door: socket.socket, path: Path) -> None:
    """Give it the name *path*, so that this user alone can send to it."""
    door.setblocking(False)
    os.fchmod(door.fileno(), 0o600)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # The path may be longer than the name of a socket may be.
        door.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


async def _ends(door: socket.socket) -> tuple[socket.socket, socket.socket]:
    """What to read from and what to write to, once `handover` has sent them."""
    loop = asyncio.get_running_loop()
    sent = asyncio.Event()
    loop.add_reader(door, sent.set)
    try:
        await sent.wait()
    finally:
        loop.remove_reader(door)
    _, descriptors, _, _ = socket.recv_fds(door, 1, 2, socket.MSG_CMSG_CLOEXEC)
    reading, writing = (socket.socket(fileno=descriptor) for descriptor in descriptors)
    reading.setblocking(False)
    writing.setblocking(False)
    return reading, writing
