"""aria2c as a process: it keeps its secret, hears nothing from the environment, and never outlives its daemon."""

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.integration.aria2.conftest import FAST, MIB, Bench, Making

from fleetcast.transport.aria2 import options
from fleetcast.transport.aria2.child import Nursery
from fleetcast.transport.errors import TransferFailed
from fleetcast.transport.testing import Thing, until

DAEMON = """
import asyncio, os, sys
from fleetcast.transport.aria2 import child, options

async def main():
    if sys.argv[1] == "careless":
        plain = options.configuration
        options.configuration = lambda **how: plain(**{**how, "parent": 1})
        child.launch.__file__ = sys.argv[2]
    nursery = child.Nursery()
    async with nursery.held():
        print("pid", (await nursery.child()).pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
"""A daemon with nothing but aria2c. The careless one ties it to nothing."""
CARELESS = "import os, sys; os.execv(sys.argv[2], sys.argv[2:])"


async def kill_a_daemon(tmp_path: Path, manner: str) -> int:
    """Start a daemon, kill it, and return the process id of its aria2c."""
    launcher = tmp_path / "careless.py"
    launcher.write_text(CARELESS)
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DAEMON, manner, str(launcher), stdout=asyncio.subprocess.PIPE
    )
    assert daemon.stdout is not None
    said = b""
    try:
        while not said.startswith(b"pid "):  # logs come the same way
            said = await daemon.stdout.readline()
            assert said, "the daemon ended"
    finally:
        daemon.send_signal(signal.SIGKILL)
        await daemon.wait()
    return int(said.split()[1])


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.asyncio
async def test_aria2c_ends_with_a_daemon_that_is_killed(tmp_path: Path) -> None:
    pid = await kill_a_daemon(tmp_path, "careful")
    await until(lambda: gone(pid), 10)


@pytest.mark.asyncio
async def test_an_aria2c_that_is_tied_to_nothing_is_noticed(tmp_path: Path) -> None:
    pid = await kill_a_daemon(tmp_path, "careless")
    try:
        with pytest.raises(TimeoutError):
            await until(lambda: gone(pid), 2)
    finally:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.asyncio
async def test_the_secret_is_seen_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets: list[str] = []
    plain = options.configuration

    def remember(*, secret: str, **others: Any) -> str:
        secrets.append(secret)
        return plain(secret=secret, **others)

    monkeypatch.setattr(options, "configuration", remember)
    nursery = Nursery()
    async with nursery.held():
        pid = (await nursery.child()).pid
        (secret,) = secrets
        assert len(secret) == 64
        for name in ("cmdline", "environ", "maps"):
            assert secret.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
        configuration = next(fd for fd in Path(f"/proc/{pid}/fd").iterdir() if "memfd" in str(fd.readlink()))
        assert secret in configuration.read_text()
        assert configuration.stat().st_mode & 0o777 == 0o600


@pytest.mark.asyncio
async def test_the_rpc_is_on_loopback_and_asks_for_the_secret() -> None:
    nursery = Nursery()
    async with nursery.held():
        aria2c = await nursery.child()
        listening = [c for c in psutil.Process(aria2c.pid).net_connections() if c.status == psutil.CONN_LISTEN]
        assert {c.laddr.ip for c in listening} <= {"127.0.0.1", "::1"}
        reader, writer = await asyncio.open_connection("127.0.0.1", listening[0].laddr.port)
        body = json.dumps({"jsonrpc": "2.0", "id": "1", "method": "aria2.getVersion", "params": ["token:guess"]})
        writer.write(f"POST /jsonrpc HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        assert b"Unauthorized" in await reader.read(4096)
        writer.close()
        assert re.match(r"\d+\.\d+", (await aria2c.call("aria2.getVersion"))["version"])


@pytest.mark.asyncio
async def test_proxies_and_configuration_of_a_user_are_not_heard(
    making: Making, thing: Thing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    knocks: list[str] = []

    def knock(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocks.append("somebody")
        writer.close()

    proxy = await asyncio.start_server(knock, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, url)
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in (".aria2", ".config/aria2"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "aria2.conf").write_text(f"all-proxy={url}\ndry-run=true\n")
    (tmp_path / ".netrc").write_text("default login somebody password something\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    bench = await making(FAST)
    await bench.fetch(thing, await bench.mirror(thing, "a"))
    assert thing.lies_in(bench.folder)
    assert knocks == []
    proxy.close()


@pytest.mark.asyncio
async def test_without_aria2c_one_line_says_what_to_install(
    making: Making, thing: Thing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    bench = await making(FAST)
    available = bench.transport.available()
    assert (available.ok, available.reason) == (False, "aria2c is not installed: apt-get install aria2")
    with pytest.raises(TransferFailed, match="aria2c is not installed"):
        await bench.fetch(thing, await bench.mirror(thing, "a", pace=8 * MIB))


@pytest.mark.asyncio
async def test_a_transport_that_is_switched_off_says_so(making: Making, bench: Bench) -> None:
    assert bench.transport.available().ok
    bench.transport._settings = FAST.model_copy(update={"enabled": False})
    assert "[aria2] enabled" in bench.transport.available().reason


@pytest.mark.asyncio
async def test_a_program_that_is_no_aria2c_is_refused_in_one_line(
    making: Making, thing: Thing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bin" / "aria2c"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'aria2 version 1.18.8'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent))
    bench = await making(FAST)
    assert "1.18.8 is too old" in bench.transport.available().reason
