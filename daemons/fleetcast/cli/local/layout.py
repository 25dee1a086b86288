"""Where a local fleet keeps everything, and the settings files that its nodes are started with."""

from dataclasses import dataclass
from pathlib import Path

from fleetcast.config.local import loopback_settings
from fleetcast.config.settings import MIB, Settings
from fleetcast.config.template import render

RESERVE_BYTES = 256 * MIB
"""Free space that nodes of a local fleet leave: they share a disk with a person's other work."""

SIMULATED_GPU = {"gpu": "simulated"}
"""Label of nodes that play GPU nodes."""


@dataclass(frozen=True)
class Layout:
    """The folders of one local fleet."""

    folder: Path

    @property
    def publish(self) -> Path:
        """Files are promoted from here: a publish root of every node."""
        return self.folder / "publish"

    @property
    def logs(self) -> Path:
        """One log file per process."""
        return self.folder / "logs"

    @property
    def nats(self) -> Path:
        """What nats-server keeps."""
        return self.folder / "nats"

    @property
    def config(self) -> Path:
        """Settings for commands about this fleet (`--config`): those of its first node."""
        return self.folder / "fleetcast.toml"

    @property
    def lock(self) -> Path:
        """Held as long as the fleet runs."""
        return self.folder / ".lock"

    def node(self, name: str) -> Path:
        """Folder of node *name*."""
        return self.folder / "nodes" / name

    def node_config(self, name: str) -> Path:
        """Settings file of node *name*."""
        return self.node(name) / "fleetcast.toml"

    def data(self, name: str) -> Path:
        """Data folder of node *name*: store, models, data sets."""
        return self.node(name) / "data"

    def log(self, name: str, daemon: str = "distributor") -> Path:
        """Log file of a daemon of node *name*."""
        return self.logs / f"{name}.{daemon}.log"

    def create(self, nodes: tuple[str, ...]) -> None:
        """Make the folders."""
        for folder in (self.publish, self.logs, self.nats, *(self.data(name) for name in nodes)):
            folder.mkdir(parents=True, exist_ok=True)


def node_names(count: int) -> tuple[str, ...]:
    """`node-1` to `node-<count>`."""
    return tuple(f"node-{number}" for number in range(1, count + 1))


@dataclass(frozen=True)
class Policies:
    """Files that a local fleet decides by; None: whoever promotes decides, performance is only observed, and nothing
    starts training."""

    gates: Path | None = None
    monitor: Path | None = None
    lanes: Path | None = None


def node_settings(
    layout: Layout,
    name: str,
    url: str,
    *,
    publish: tuple[Path, ...] = (),
    download_limit: int = 0,
    policies: Policies = Policies(),
    trains: bool = False,
    gateway_port: int | None = None,
) -> Settings:
    """Settings of node *name*: its own data folder, free ports on loopback, the shared publish folder.

    Args:
        publish: further folders to publish from.
        download_limit: bytes per second that the node receives at most; 0: no limit.
        policies: what its daemons decide by.
        trains: whether it plays a node with a GPU.
        gateway_port: of the gateway, where one runs.
    """
    settings = loopback_settings(
        name,
        url,
        data=layout.data(name),
        publish_roots=(layout.publish, *publish),
        reserve_bytes=RESERVE_BYTES,
        download_limit=download_limit,
    )
    return settings.model_copy(
        update={
            "registry": settings.registry.model_copy(update={"gates": policies.gates}),
            "monitor": settings.monitor.model_copy(update={"policy": policies.monitor}),
            "gateway": settings.gateway
            if gateway_port is None
            else settings.gateway.model_copy(update={"port": gateway_port}),
            "trainer": settings.trainer.model_copy(update={"lanes": policies.lanes}),
            "node": settings.node.model_copy(
                update={"labels": settings.node.labels | (SIMULATED_GPU if trains else {})}
            ),
        }
    )


def write_settings(path: Path, settings: Settings) -> None:
    """Write a settings file that `--config` takes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(settings, comments=False), encoding="utf-8")
