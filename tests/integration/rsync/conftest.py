"""Real rsync sources: a read-only module on loopback, and sshd with rrsync as forced command."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.rsync.receiver import Receiver, rsyncs_of

from fleetcast.config.settings import RsyncSettings
from fleetcast.transport.protocol import Source
from fleetcast.transport.testing import Thing

STARTED_SECONDS = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + STARTED_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"the server did not start: {log.read_text(errors='replace')}")


def put_in_store(thing: Thing, store: Path) -> None:
    """Lay the blobs of *thing* down as a node's store has them."""
    for file in thing.content.files:
        path = store / "sha256" / file.sha256[:2] / file.sha256
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(thing.files[file.path])


def started(command: list[str], port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start a server and wait until it listens."""
    with log.open("ab") as err:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err, start_new_session=True
        )
    wait_for_port(port, process, log)
    return process


@dataclass
class Server:
    """A running source and the store it reads."""

    node: str
    store: Path
    endpoint: str
    settings: RsyncSettings
    process: subprocess.Popen[bytes]

    @property
    def source(self) -> Source:
        return Source(self.node, rsync=self.endpoint, complete=True)


ModuleMaker = Callable[..., Server]
"""Takes the name of the node, and options of rsync."""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[ModuleMaker]:
    """Start read-only modules of an rsync server on loopback, by node name."""
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    running: list[Server] = []

    def make(node: str, *options: str) -> Server:
        folder = tmp_path / node
        store = folder / "store"
        store.mkdir(parents=True)
        port, log = free_port(), folder / "log"
        (folder / "conf").write_text(
            f"address = 127.0.0.1\nport = {port}\nuse chroot = no\nlog file = {log}\n"
            f"[store]\npath = {store}\nread only = yes\nlist = no\n"
        )
        process = started(["rsync", "--daemon", "--no-detach", *options, f"--config={folder / 'conf'}"], port, log)
        settings = RsyncSettings(modules=True, connect_seconds=20, accept_older=True)
        server = Server(node, store, f"rsync://127.0.0.1:{port}/store", settings, process)
        running.append(server)
        return server

    yield make
    for server in running:
        os.killpg(server.process.pid, 9)
        server.process.wait(10)


@pytest.fixture
def forced(tmp_path: Path) -> Iterator[Server]:
    """A real sshd whose only key runs `rrsync -ro <store>`."""
    if os.geteuid() != 0:
        pytest.skip("sshd needs root to start a session")
    missing = [tool for tool in ("sshd", "ssh", "ssh-keygen", "rrsync", "rsync") if which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    folder = tmp_path / "ssh"
    store = folder / "store"
    store.mkdir(parents=True)
    for name in ("host", "client"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(keygen, check=True, stdin=subprocess.DEVNULL)
    port, log = free_port(), folder / "log"
    public = (folder / "client.pub").read_text()
    (folder / "authorized").write_text(f'restrict,command="{which("rrsync")} -ro {store}" {public}')
    host_key = (folder / "host.pub").read_text().split()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host_key[0]} {host_key[1]}\n")
    (folder / "conf").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder / 'host'}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder / 'authorized'}\nStrictModes no\nPermitRootLogin forced-commands-only\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    process = started([which("sshd") or "sshd", "-D", "-e", "-f", str(folder / "conf")], port, log)
    settings = RsyncSettings(
        identity=folder / "client", known_hosts=folder / "known", connect_seconds=20, accept_older=True
    )
    yield Server("s1", store, f"ssh://root@127.0.0.1:{port}", settings, process)
    os.killpg(process.pid, 9)
    process.wait(10)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver(tmp_path / "r", RsyncSettings(modules=True, connect_seconds=20, accept_older=True))
    yield made
    assert list(made.staging.iterdir()) == []
    assert rsyncs_of(made) == []


def which(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
