"""Real NATS servers under a fleet's roles, for tests: with the files that `fleetcast fleet` writes."""

from pathlib import Path

from fleetcast.bus.server import LocalServer, free_ports
from fleetcast.security.changing import MONITOR_OFFSET, create, places
from fleetcast.security.folder import Folder
from fleetcast.security.inventory import Inventory, ServerPlace
from fleetcast.security.servers import CONFIGURATION


class RoleServer(LocalServer):
    """One server of a fleet's folder: what it reads is what lies there."""

    def __init__(self, folder: Folder, server: ServerPlace) -> None:
        super().__init__(
            Path(server.store), port=server.port, http_port=server.http_port, host=server.host, name=server.name
        )
        self.config_path = folder.server(server.name) / CONFIGURATION

    def config(self) -> str:
        """The configuration as `fleetcast fleet` wrote it."""
        return self.config_path.read_text()


def local_folder(path: Path, *, servers: int = 1) -> tuple[Folder, Inventory]:
    """A fleet's folder for servers on loopback, on ports that are free now."""
    hosts = [f"127.0.0.1:{_free_port()}" for _ in range(servers)]
    folder = Folder(path)
    made = places(hosts, folder=path, place="", store="")
    return folder, create(folder, "test", made, reason="a test")


def _free_port() -> int:
    """A port whose neighbours, which the servers use as well, are free ones too as far as can be told."""
    while True:
        port = free_ports(1)[0]
        if port <= 65535 - MONITOR_OFFSET:
            return port
