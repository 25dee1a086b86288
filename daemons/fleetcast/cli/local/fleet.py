"""A fleet on this machine: nats-server and nodes, started together and ended in order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fleetcast.bus.server import LocalServer
from fleetcast.cli.daemon import CONTROLS
from fleetcast.cli.live import Fleet
from fleetcast.cli.local.layout import Layout, Policies, node_settings, write_settings
from fleetcast.cli.local.processes import Child, adopt_orphans, clean_environment, daemon_command
from fleetcast.cli.problems import Problem
from fleetcast.config.local import LOOPBACK
from fleetcast.events.payloads import DaemonState

READY_SECONDS = 60.0
"""Time for all nodes to be ready: each takes about a second of CPU, and a small machine has two cores."""


@dataclass(frozen=True)
class Plan:
    """What a local fleet is made of.

    Attributes:
        nodes: their names.
        publish: further folders to publish from.
        port: of NATS; 0: a free one.
        download_limits: bytes per second that single nodes receive at most.
        policies: what its daemons decide by.
        trainers: how many of the nodes, the first ones, play GPU nodes and train.
        gateway_port: of the gateway; None: there is none.
    """

    nodes: tuple[str, ...]
    publish: tuple[Path, ...] = ()
    port: int = 0
    download_limits: dict[str, int] = field(default_factory=dict)
    policies: Policies = field(default_factory=Policies)
    trainers: int = 0
    gateway_port: int | None = None

    @property
    def training(self) -> tuple[str, ...]:
        """Names of the nodes that train."""
        return self.nodes[: self.trainers]


class LocalFleet:
    """A running local fleet; made by `local_fleet`."""

    def __init__(self, layout: Layout, plan: Plan, server: LocalServer) -> None:
        self.layout = layout
        self.server = server
        self._gateway_port = plan.gateway_port
        environment = clean_environment()
        self.nodes = {
            name: Child(name, daemon_command(layout.node_config(name)), layout.log(name), environment)
            for name in plan.nodes
        }
        self.trainers = {
            name: Child(
                "trainer", daemon_command(layout.node_config(name), "trainer"), layout.log(name, "trainer"), environment
            )
            for name in plan.training
        }
        first = plan.nodes[0]
        self.controls = {
            name: Child(name, daemon_command(layout.node_config(first), name), layout.log(first, name), environment)
            for name in (*CONTROLS, *(() if plan.gateway_port is None else ("gateway",)))
        }

    @property
    def children(self) -> dict[str, Child]:
        """All daemons, by what people are told."""
        trainers = {f"trainer on {name}": child for name, child in self.trainers.items()}
        return {**self.nodes, **self.controls, **trainers}

    @property
    def gateway(self) -> str | None:
        """Where the gateway answers; None: there is none, or it has ended."""
        child = self.controls.get("gateway")
        return None if child is None or not child.running else f"http://{LOOPBACK}:{self._gateway_port}"

    @property
    def gateway_ended(self) -> str | None:
        """What is said of a gateway that was started and runs no more; None: it runs, or none was started."""
        child = self.controls.get("gateway")
        if child is None or child.exit_code is None:
            return None
        return f"no gateway: it ended with exit code {child.exit_code}; read {child.log}"

    @property
    def url(self) -> str:
        """Address of NATS."""
        return self.server.url

    async def until_ready(self, fleet: Fleet, names: tuple[str, ...] | None = None) -> None:
        """Wait until the nodes *names*, with what trains on them, say that they are ready, in this life of theirs;
        None: all of them, and the daemons that serve the whole fleet.

        Raises:
            Problem: a node ended, or took too long.
        """
        wanted = {name: self.nodes[name] for name in names or self.nodes}
        others = [child for name, child in self.trainers.items() if name in wanted]
        others += [] if names else self.controls.values()

        def needed() -> list[Child]:
            # The fleet does without a gateway; that it ended is said in the greeting.
            return [child for child in others if child.running or child.name != "gateway"]

        def look() -> bool | None:
            for child in (*wanted.values(), *needed()):
                if not child.running:
                    raise _ended(child)
            ready = all(_is_ready(fleet, child) for child in wanted.values())
            return True if ready and all(fleet.is_ready(c.name, c.pid) for c in needed()) else None

        try:
            await fleet.until(look, READY_SECONDS)
        except TimeoutError:
            late = [child for child in wanted.values() if not _is_ready(fleet, child)]
            late += [child for child in needed() if not fleet.is_ready(child.name, child.pid)]
            raise Problem(
                "not_ready",
                f"{', '.join(child.name for child in late)} not ready after {READY_SECONDS:g} s",
                why=f"the end of {late[0].log}:\n{late[0].tail()}",
                next_step=f"read {late[0].log}",
            ) from None

    async def stop(self) -> tuple[str, ...]:
        """End all daemons at once, then NATS; returns the names of those that had to be killed."""
        orderly = await asyncio.gather(*(child.stop() for child in self.children.values()))
        await asyncio.to_thread(self.server.stop)
        return tuple(name for name, well in zip(self.children, orderly, strict=True) if not well)


def _is_ready(fleet: Fleet, child: Child) -> bool:
    node = fleet.node(child.name)
    # The heartbeat of an earlier life may still be there: it names another process.
    return node is not None and node.status.state is DaemonState.READY and node.status.pid == child.pid


def _ended(child: Child) -> Problem:
    return Problem(
        "node_ended",
        f"{child.name} ended with exit code {child.exit_code}",
        why=f"the end of {child.log}:\n{child.tail()}",
        next_step=f"read {child.log}",
    )


@asynccontextmanager
async def local_fleet(layout: Layout, plan: Plan) -> AsyncIterator[LocalFleet]:
    """NATS and nodes, started for the duration; the nodes are not ready yet on entry.

    Raises:
        BusUnavailable: nats-server did not start.
        ServerMissing: there is no nats-server.
    """
    adopt_orphans()
    await asyncio.to_thread(layout.create, plan.nodes)
    server = LocalServer(layout.nats, port=plan.port)
    _link_server_log(layout, server.log_path)
    try:
        await server.start_async()
        running = LocalFleet(layout, plan, server)
        try:
            await asyncio.to_thread(_write_settings, layout, plan, server.url)
            for child in running.children.values():
                child.start()
            yield running
        finally:
            await running.stop()
    finally:
        await asyncio.to_thread(server.stop)


def _write_settings(layout: Layout, plan: Plan, url: str) -> None:
    for name in plan.nodes:
        settings = node_settings(
            layout,
            name,
            url,
            publish=plan.publish,
            download_limit=plan.download_limits.get(name, 0),
            policies=plan.policies,
            trains=name in plan.training,
            gateway_port=plan.gateway_port,
        )
        write_settings(layout.node_config(name), settings)
    own = node_settings(layout, plan.nodes[0], url, publish=plan.publish, policies=plan.policies)
    write_settings(layout.config, own)


def _link_server_log(layout: Layout, log: Path) -> None:
    link = layout.logs / "nats.log"
    link.unlink(missing_ok=True)
    link.symlink_to(Path("..") / log.relative_to(layout.folder))
