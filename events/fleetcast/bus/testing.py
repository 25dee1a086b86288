"""Real NATS servers for tests, ours and yours: one, or a cluster; each can be killed, stopped, started again. And a
proxy before a server, for faults of the network."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fleetcast.bus.errors import BusUnavailable
from fleetcast.bus.server import START_SECONDS, START_TRIES, ClusterPlace, LocalServer, free_ports
from fleetcast.client.ulid import new_ulid
from fleetcast.config.settings import BusSettings

POLL_SECONDS = 0.05

ServerHandle = LocalServer
"""What `nats_server` gives."""


def fast_settings(url: str, **changes: object) -> BusSettings:
    """Bus settings for tests: short timeouts, so that a fault is noticed in a second instead of ten."""
    quick: dict[str, object] = {
        "url": url,
        "connect_timeout_seconds": 1.0,
        "request_timeout_seconds": 2.0,
        "publish_deadline_seconds": 20.0,
        "canary_interval_seconds": 0.5,
        "canary_timeout_seconds": 1.0,
    }
    return BusSettings.model_validate({**quick, **changes})


@asynccontextmanager
async def nats_server(folder: Path, *, port: int = 0, extra: str = "") -> AsyncIterator[LocalServer]:
    """One server with JetStream in *folder*; *extra*: more lines of configuration.

    `await server.kill_async()`, `stop_async()`, `start_async()`, `restart_async()` keep its port and its store.

    Raises:
        ServerMissing: there is no nats-server.
        BusUnavailable: it does not start.
    """
    async with LocalServer(folder, port=port, extra=extra) as server:
        yield server


@dataclass(frozen=True, slots=True)
class Cluster:
    """Servers that form one JetStream cluster."""

    members: tuple[LocalServer, ...]

    @property
    def url(self) -> str:
        """All members, comma-separated."""
        return ",".join(member.url for member in self.members)

    def member(self, name: str) -> LocalServer:
        """The member with this server name, as the server tells it (e.g. as leader of a stream)."""
        return next(member for member in self.members if member.name == name)

    async def wait_ready(self, timeout_seconds: float = START_SECONDS) -> None:
        """Wait until the members that run have a leader and are healthy.

        Raises:
            BusUnavailable: not in time.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._until_ready()
        except TimeoutError as e:
            tails = "\n".join(member.log_tail() for member in self.members)
            raise BusUnavailable(f"the cluster has no leader after {timeout_seconds:g} s\n{tails}") from e

    async def _until_ready(self) -> None:
        while True:
            if all(await asyncio.gather(*(asyncio.to_thread(_ready, member) for member in self._running()))):
                return
            await asyncio.sleep(POLL_SECONDS)

    def _running(self) -> list[LocalServer]:
        return [member for member in self.members if member.running]


def _ready(member: LocalServer) -> bool:
    if member.health() is not None:
        return False
    return bool(member.monitor("/jsz").get("meta_cluster", {}).get("leader"))


def _members(folder: Path, size: int) -> tuple[LocalServer, ...]:
    ports = free_ports(3 * size)
    routes = tuple(f"nats://127.0.0.1:{port}" for port in ports[:size])
    # Servers of two test runs that meet on a port would form one cluster, were its name not their own.
    cluster_name = f"test-{new_ulid().lower()}"
    return tuple(
        LocalServer(
            folder / f"n{number + 1}",
            port=ports[size + number],
            http_port=ports[2 * size + number],
            name=f"n{number + 1}-{cluster_name}",
            cluster=ClusterPlace(ports[number], routes, cluster_name),
        )
        for number in range(size)
    )


@asynccontextmanager
async def nats_cluster(folder: Path, size: int = 3) -> AsyncIterator[Cluster]:
    """A cluster of *size* servers, with a leader elected.

    Raises:
        ServerMissing: there is no nats-server.
        BusUnavailable: it does not come up.
    """
    cluster = Cluster(())
    try:
        cluster = await _start(folder, size)
        yield cluster
    finally:
        for member in cluster.members:
            await member.kill_async()


async def _start(folder: Path, size: int) -> Cluster:
    for attempt in range(1, START_TRIES + 1):
        cluster = Cluster(_members(folder / f"try{attempt}", size))
        for member in cluster.members:
            await asyncio.to_thread(member.launch)
        try:
            await cluster.wait_ready()
            return cluster
        except BusUnavailable:
            taken = not all(member.running for member in cluster.members)
            for member in cluster.members:
                await member.kill_async()
            if attempt == START_TRIES or not taken:
                raise
    raise AssertionError("unreachable")


_WITH_PAYLOAD = re.compile(rb"H?MSG .* (\d+)\r\n\Z")

Filter = Callable[[bytes], bytes | None]
"""Sees every protocol message from the server, whole; returns what to pass on, None to lose it."""


class Proxy:
    """A TCP proxy before one server: it can go silent, break off, and lose or change single messages.

    Attributes:
        filter: sees each message from the server.
        connections: how many were accepted so far.
        lost: messages that `lose` kept back.
    """

    def __init__(self, target_port: int) -> None:
        self.filter: Filter = lambda frame: frame
        self.connections = 0
        self.lost = 0
        self.port = 0
        self._target_port = target_port
        self._passing = asyncio.Event()
        self._passing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"nats://127.0.0.1:{self.port}"

    def lose(self, marker: bytes, times: int = 1) -> None:
        """From now on keep back the first messages that contain *marker*: answers that are lost on their way."""

        def losing(frame: bytes) -> bytes | None:
            if marker not in frame or self.lost >= times:
                return frame
            self.lost += 1
            return None

        self.filter = losing

    def go_silent(self) -> None:
        """Swallow everything from now on; new connections are accepted and hear nothing."""
        self._passing.clear()

    def recover(self) -> None:
        """Let new connections pass; those that went silent are broken off."""
        self.cut()
        self._passing.set()

    def cut(self) -> None:
        """Break all connections off."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        writers = [writer]
        with suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port, limit=2**22)
            writers.append(far_writer)
            self._writers.update(writers)
            pumps = [
                asyncio.create_task(self._up(reader, far_writer)),
                asyncio.create_task(self._down(far_reader, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        for each in writers:
            each.transport.abort()
        self._writers.difference_update(writers)
        self._tasks.discard(task)

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._passing.wait()
            writer.write(data)
            await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            frame = await reader.readuntil(b"\r\n")
            payload = _WITH_PAYLOAD.match(frame)
            if payload:
                frame += await reader.readexactly(int(payload[1]) + 2)
            await self._passing.wait()
            passed = self.filter(frame)
            if passed is not None:
                writer.write(passed)
                await writer.drain()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
