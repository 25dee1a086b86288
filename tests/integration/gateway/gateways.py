"""A gateway as a process, and programs that ask it: curl, and bare sockets for what no program would send."""

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.registry.small_fleet import SECONDS, Keeper

from fleetcast.bus.server import LocalServer
from fleetcast.config.gateway import GatewaySettings
from fleetcast.config.settings import Settings
from fleetcast.daemons.testing import NodeProcess, node_settings
from fleetcast.transport.listening import free_port

LOOPBACK = "127.0.0.1"


class Answer:
    """What curl was told."""

    def __init__(self, status: int, headers: Mapping[str, str], text: str) -> None:
        self.status = status
        self.headers = headers
        self.text = text

    @property
    def body(self) -> dict[str, Any]:
        found = json.loads(self.text)
        assert isinstance(found, dict)
        return found

    def __repr__(self) -> str:
        return f"{self.status} {self.text[:2000]}"


class GatewayProcess(NodeProcess):
    """One gateway."""

    daemon = "gateway"

    @property
    def port(self) -> int:
        return self.settings.gateway.port

    @property
    def url(self) -> str:
        scheme = "https" if self.settings.gateway.certificate else "http"
        return f"{scheme}://localhost:{self.port}"

    def until_ready(self) -> None:
        until("the gateway answers", lambda: len(self.logged("daemon.ready")) > self.was_ready or self.ended, self.tail)
        assert not self.ended, self.tail()

    @property
    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def curl(self, method: str, path: str, body: object = None, *options: str) -> Answer:
        """Ask as a person would."""
        data = [] if body is None else ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        return curl("-X", method, *data, *options, f"{self.url}{path}")

    def raw(self, request: bytes, *, wait_seconds: float = SECONDS) -> bytes:
        """Send bytes, and read until the gateway ends the connection."""
        with socket.create_connection((LOOPBACK, self.port), wait_seconds) as connection:
            connection.sendall(request)
            received = bytearray()
            while chunk := connection.recv(65536):
                received += chunk
        return bytes(received)

    @property
    def rss_bytes(self) -> int:
        """What it has of memory now."""
        assert self.process is not None
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * 4096


def curl(*arguments: str, cwd: Path | None = None) -> Answer:
    """What curl was told."""
    done = subprocess.run(
        ["curl", "-sS", "-i", "--max-time", str(SECONDS), *arguments], capture_output=True, text=True, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return read(done.stdout)


def read(text: str) -> Answer:
    """An answer with its head, as `curl -i` prints it."""
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    while head.startswith("HTTP/1.1 100"):
        head, _, body = body.partition("\n\n")
    first, *lines = head.splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split()[1]), headers, body)


def until(what: str, holds: Callable[[], object], told: Callable[[], str] = str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not in time\n{told()}"
        time.sleep(0.02)


def gateway_of(folder: Path, settings: Settings, name: str = "gateway", /, **chosen: object) -> GatewayProcess:
    """A gateway that is not started yet, with what is *chosen* of its settings."""
    own = settings.model_copy(
        update={"gateway": GatewaySettings.model_validate({"port": free_port(LOOPBACK, 0), **chosen})}
    )
    made = GatewayProcess("node-1", folder / name, own)
    made.folder.mkdir(parents=True, exist_ok=True)
    return made


@dataclass
class Small:
    """A server, a registry daemon, and a gateway without tokens."""

    server: LocalServer
    keeper: Keeper
    gateway: GatewayProcess
    folder: Path


@contextmanager
def small(folder: Path, **chosen: object) -> Iterator[Small]:
    """What most requests need."""
    with LocalServer(folder / "nats") as server:
        settings = node_settings(folder, "node-1", server.url)
        keeper = Keeper("node-1", folder / "keeper", settings)
        keeper.folder.mkdir()
        gateway = gateway_of(folder, settings, "gateway", **chosen)
        try:
            keeper.start()
            gateway.start()
            gateway.until_ready()
            until("the registry answers", lambda: keeper.logged("daemon.ready"), keeper.tail)
            yield Small(server, keeper, gateway, folder)
        finally:
            gateway.kill()
            keeper.kill()


@contextmanager
def started(gateway: GatewayProcess) -> Iterator[GatewayProcess]:
    """A gateway that runs for the duration."""
    try:
        gateway.start()
        gateway.until_ready()
        yield gateway
    finally:
        gateway.kill()
