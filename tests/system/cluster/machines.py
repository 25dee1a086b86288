"""Three machines with a nats-server each: with their own network and disk where the campaign is `inside`, else as plain
processes on loopback."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.system.cluster.disks import Disk, disk
from tests.system.cluster.wires import Cable, wired

from fleetcast.bus import Bus, connect, declare
from fleetcast.bus.errors import BusError
from fleetcast.bus.server import ClusterPlace, LocalServer, free_ports
from fleetcast.bus.streams import STREAMS
from fleetcast.bus.testing import Cluster, fast_settings
from fleetcast.client.ulid import new_ulid
from fleetcast.config.settings import BusSettings

CHECKOUT = Path(__file__).parents[3]
COUNT = 3
SYNC_ALWAYS = "  sync_interval: always\n"
SMALL_MIB, LARGE_MIB = 64, 192
"""A disk that is soon full, and one that never is."""
READY_SECONDS = 90.0


class Member(LocalServer):
    """A server on a machine of its own.

    Args:
        synced: whether it syncs before it acknowledges, as a fleet's servers do; False: as the server's default is.
    """

    def __init__(
        self, folder: Path, *, name: str, ports: tuple[int, int], place: ClusterPlace, cable: Cable, synced: bool
    ) -> None:
        self.cable = cable
        self.http_host = cable.for_clients
        self.synced = synced
        super().__init__(folder, port=ports[0], http_port=ports[1], host=cable.for_clients, name=name, cluster=place)

    def config(self) -> str:
        """As a fleet's, with the addresses of the machine."""
        text = super().config()
        text = text.replace(f'http: "127.0.0.1:{self.http_port}"', f'http: "{self.http_host}:{self.http_port}"')
        assert self.cluster is not None
        listen = f"127.0.0.1:{self.cluster.port}"
        text = text.replace(f'listen: "{listen}"', f'listen: "{self.cable.among_servers}:{self.cluster.port}"')
        # Clients are told of each other's servers by the addresses that they can reach.
        text += f'client_advertise: "{self.host}:{self.port}"\n'
        return text if self.synced else text.replace(SYNC_ALWAYS, "")

    def _spawn(self, program: Path, output: IO[bytes]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.cable.command([str(program), "-c", str(self.config_path)]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            start_new_session=True,
        )


@dataclass
class Site:
    """Three machines.

    Attributes:
        cables: of each; empty: they share this machine's network.
        disks: of each; empty: they share this machine's disk.
    """

    folder: Path
    cluster: Cluster
    cables: tuple[Cable, ...] = ()
    disks: tuple[Disk, ...] = ()

    @property
    def members(self) -> tuple[LocalServer, ...]:
        return self.cluster.members

    def settings(self, **changes: object) -> BusSettings:
        """Of a fleet's node; faults are noticed as soon as in production, or sooner where *changes* say so."""
        made = fast_settings(self.cluster.url, replicas=COUNT, publish_deadline_seconds=60.0)
        return made.model_copy(update=changes)

    @contextlib.asynccontextmanager
    async def bus(self, node: str = "campaign", **changes: object) -> AsyncIterator[Bus]:
        async with connect(self.settings(**changes), node=node, daemon="campaign") as made:
            yield made

    async def leader(self, bus: Bus, stream: str) -> LocalServer:
        """Who leads a stream now.

        Raises:
            TimeoutError: nobody, for a long time.
        """
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(BusError):
                info = await bus.js.api(f"STREAM.INFO.{stream}")
                if name := (info.get("cluster") or {}).get("leader"):
                    return self.cluster.member(name)
            await asyncio.sleep(0.2)
        raise TimeoutError(f"{stream} has no leader")

    async def wait_whole(self, bus: Bus, streams: "tuple[str, ...]" = ("FC_EVENTS",)) -> None:
        """Wait until every stream has a leader and three current copies.

        Raises:
            TimeoutError: not in time.
        """
        async with asyncio.timeout(READY_SECONDS):
            for stream in streams:
                while not await self._is_whole(bus, stream):  # noqa: ASYNC110 - only the server knows
                    await asyncio.sleep(0.2)

    async def _is_whole(self, bus: Bus, stream: str) -> bool:
        try:
            placed: Mapping[str, Any] = (await bus.js.api(f"STREAM.INFO.{stream}"))["cluster"]
        except (BusError, KeyError):
            return False
        copies = placed.get("replicas") or []
        current = sum(bool(copy.get("current")) and not copy.get("offline") for copy in copies)
        return bool(placed.get("leader")) and current == COUNT - 1

    def index(self, member: LocalServer) -> int:
        return self.members.index(member)


@contextlib.asynccontextmanager
async def site(folder: Path, *, apart: bool, synced: bool = True, small: int | None = None) -> AsyncIterator[Site]:
    """Three machines, with everything declared.

    Args:
        apart: each with its own network and disk; needs to be `inside`.
        synced: as `Member`.
        small: number (from 0) of the machine whose disk is small.
    """
    with contextlib.ExitStack() as stack:
        cables = stack.enter_context(wired(COUNT)) if apart else ()
        disks = tuple(stack.enter_context(_disk(folder, n, small)) for n in range(COUNT)) if apart else ()
        made = Site(folder, Cluster(_members(folder, cables, synced=synced)), cables, disks)
        try:
            for member in made.members:
                await asyncio.to_thread(member.launch)
            await made.cluster.wait_ready(READY_SECONDS)
            async with made.bus() as bus:
                await declare(bus, COUNT, [s for s in STREAMS if s.name in DECLARED])
                await made.wait_whole(bus)
            yield made
        finally:
            for member in made.members:
                await member.kill_async()


DECLARED = frozenset({"FC_REGISTRY", "FC_REMEDY", "FC_TRAINING", "FC_EVENTS", "FC_DEAD", "FC_CANARY", "KV_fc_nodes"})


def _disk(folder: Path, number: int, small: int | None) -> "contextlib.AbstractContextManager[Disk]":
    mib = SMALL_MIB if number == small else LARGE_MIB
    home = folder / f"n{number + 1}"
    home.mkdir(parents=True, exist_ok=True)
    return disk(folder / f"n{number + 1}.img", home / "store", mib=mib)


def _members(folder: Path, cables: tuple[Cable, ...], *, synced: bool) -> tuple[LocalServer, ...]:
    ports = free_ports(COUNT * 3)
    addresses = [c.among_servers for c in cables] or ["127.0.0.1"] * COUNT
    routes = tuple(f"nats://{address}:{port}" for address, port in zip(addresses, ports[:COUNT], strict=True))
    name = f"campaign-{new_ulid().lower()}"
    made: list[LocalServer] = []
    for n in range(COUNT):
        place = ClusterPlace(ports[n], routes, name)
        own = (ports[COUNT + n], ports[2 * COUNT + n])
        home, called = folder / f"n{n + 1}", f"n{n + 1}-{name}"
        if cables:
            made.append(Member(home, name=called, ports=own, place=place, cable=cables[n], synced=synced))
        else:
            made.append(LocalServer(home, port=own[0], http_port=own[1], name=called, cluster=place))
    return tuple(made)


def child(*words: str) -> list[str]:
    """A program of this folder as a command."""
    return [sys.executable, "-m", *words]
