"""One server, one node, and a registry daemon that can be started: what programs talk to through the Python API.

Without an event loop, because neither do most programs that use it.
"""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from fleetcast.bus.server import LocalServer
from fleetcast.config.monitor import MonitorSettings
from fleetcast.config.settings import RegistrySettings
from fleetcast.daemons.testing import NodeProcess, node_settings
from fleetcast.registry import ModelRegistry, get_registry

SECONDS = 60.0
GATES = """[default]
decides = "gates"
metadata = []
canary_steps = []
quorum_ratio = 0.0
[default.gates.canary]
flags = ["constitutional_compliance", "bias_check_passed"]
[default.gates.production]
flags = ["constitutional_compliance", "bias_check_passed"]
"""


class Keeper(NodeProcess):
    """A registry daemon."""

    daemon = "registry"


class Watcher(NodeProcess):
    """A monitor."""

    daemon = "monitor"


@dataclass
class SmallFleet:
    """What runs, and the registry as a program on the node sees it."""

    server: LocalServer
    folder: Path
    node: NodeProcess
    keeper: Keeper
    opened: list[ModelRegistry] = field(default_factory=list)
    watchers: list[Watcher] = field(default_factory=list)

    def registry(self) -> ModelRegistry:
        made = get_registry(self.node.config)
        self.opened.append(made)
        return made

    def watch(self, policy: str = "") -> Watcher:
        """A monitor that judges, by the rules of *policy*."""
        rules = self.folder / "monitor.toml"
        rules.write_text(policy)
        settings = self.node.settings.model_copy(update={"monitor": MonitorSettings(policy=rules)})
        watcher = Watcher("node-1", self.folder / "watcher", settings)
        watcher.folder.mkdir()
        self.watchers.append(watcher)
        self.start(watcher)
        self.until("judging", lambda: watcher.logged("shards.live"))
        return watcher

    def publish(self, name: str, content: object) -> Path:
        """A file in the node's publish root."""
        path = self.folder / "publish" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(content))
        return path

    def start(self, daemon: NodeProcess) -> None:
        daemon.start()
        assert daemon.process is not None
        ended = daemon.process.poll
        self.until(f"{daemon.name} ready", lambda: ended() is not None or self._is_ready(daemon))
        assert ended() is None, daemon.tail()

    @staticmethod
    def _is_ready(daemon: NodeProcess) -> bool:
        return len(daemon.logged("daemon.ready")) > daemon.was_ready

    def until(self, what: str, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + SECONDS
        while not holds():
            assert time.monotonic() < deadline, f"{what}: not in time\n{self.node.tail()}\n{self.keeper.tail()}"
            time.sleep(0.05)

    def python(self, program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program as a user would: its own process, this node's settings, warnings as errors."""
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", program, *arguments],
            capture_output=True,
            text=True,
            timeout=SECONDS * 2,
            cwd=self.folder / "publish",
            env={**os.environ, "FLEETCAST_CONFIG": str(self.node.config), **environment},
        )


@contextmanager
def small_fleet(folder: Path, *, gates: str | None = None) -> Iterator[SmallFleet]:
    """A server and a distributor that run, and a registry daemon that does not yet."""
    (folder / "publish").mkdir(parents=True)
    policy = folder / "gates.toml"
    with LocalServer(folder / "nats") as server:
        settings = node_settings(folder, "node-1", server.url)
        if gates is not None:
            policy.write_text(gates)
            settings = settings.model_copy(update={"registry": RegistrySettings(gates=policy)})
        node = NodeProcess("node-1", folder / "node-1", settings)
        keeper = Keeper("node-1", folder / "node-1", settings)
        node.folder.mkdir()
        fleet = SmallFleet(server, folder, node, keeper)
        logging_before = structlog.get_config() if structlog.is_configured() else None
        try:
            fleet.start(node)
            yield fleet
        finally:
            for registry in fleet.opened:
                registry.close()
            for watcher in fleet.watchers:
                watcher.kill()
            keeper.kill()
            node.kill()
            if logging_before is None:
                structlog.reset_defaults()
