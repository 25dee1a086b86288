"""Servers of our own: they end with us, and they are really ours."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleetcast.bus.errors import BusUnavailable
from fleetcast.bus.server import LocalServer, free_ports

OWNER = """
import pathlib, sys, time
from fleetcast.bus.server import LocalServer
server = LocalServer(pathlib.Path(sys.argv[1])).start()
print(server.pid, flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_server_starts_healthy_and_stops_with_its_context(tmp_path: Path) -> None:
    with LocalServer(tmp_path) as server:
        pid = server.pid
        varz = server.monitor("/varz")
        assert ("127.0.0.1", server.port, server.name) == (varz["host"], varz["port"], varz["server_name"])
        assert varz["jetstream"]["config"]["sync_always"]
        assert "Server is ready" in server.log_path.read_text()

    assert not alive(pid)
    assert not server.running


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_does_not_outlive_its_owner(tmp_path: Path, ending: signal.Signals) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    with owner.stdout:
        pid = int(owner.stdout.readline())
    assert alive(pid)

    owner.send_signal(ending)
    owner.wait(30)

    deadline = time.monotonic() + 30
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(pid)


def test_a_server_keeps_its_ports_and_its_store_over_a_restart(tmp_path: Path) -> None:
    with LocalServer(tmp_path) as server:
        before = (server.port, server.http_port)
        server.kill()
        server.start()

        assert before == (server.port, server.http_port)


def test_a_stopped_process_can_still_be_ended(tmp_path: Path) -> None:
    server = LocalServer(tmp_path).start()
    server.send_signal(signal.SIGSTOP)
    pid = server.pid

    server.stop()

    assert not alive(pid)


def test_a_port_that_is_taken_is_an_error_with_the_servers_own_words(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        with pytest.raises(BusUnavailable, match="address already in use"):
            LocalServer(tmp_path, port=other.getsockname()[1]).start()


def test_a_free_port_that_somebody_takes_in_between_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        choices = iter([[other.getsockname()[1], free_ports(1)[0]]])
        monkeypatch.setattr("fleetcast.bus.server.free_ports", lambda count: next(choices, None) or free_ports(count))

        with LocalServer(tmp_path) as server:
            assert server.port != other.getsockname()[1]


def test_another_server_on_the_same_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    with LocalServer(tmp_path / "a") as first:
        second = LocalServer(tmp_path / "b", http_port=first.http_port)
        second._ports = (1, first.http_port)

        assert second.health() == "another server answers"


@pytest.mark.asyncio
async def test_a_start_that_is_cancelled_leaves_no_server(tmp_path: Path) -> None:
    server = LocalServer(tmp_path)
    starting = asyncio.create_task(server.start_async())
    async with asyncio.timeout(30):
        while not server.config_path.exists():  # noqa: ASYNC110 - a file of another thread
            await asyncio.sleep(0.001)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)

    assert not server.running
    pids = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
    assert not any(str(tmp_path).encode() in command(pid) for pid in pids)


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() if pid != os.getpid() else b""
    except OSError:
        return b""
