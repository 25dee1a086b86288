"""A whole small fleet, every daemon with the key of its role and the settings of its folder: it promotes a model that
a publisher signed and none that nobody did, and no server has to refuse it anything."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleetcast.bus import connect, declare, patience
from fleetcast.bus.streams import STREAMS
from fleetcast.config.loader import load
from fleetcast.config.local import loopback_settings
from fleetcast.config.settings import Settings
from fleetcast.daemons.remedy.incidents.commands import INCIDENTS_SUBJECT
from fleetcast.daemons.testing import DaemonProcess
from fleetcast.events.remedies import PLAYBOOKS_SUBJECT
from fleetcast.events.training import LANES_SUBJECT
from fleetcast.security import roles
from fleetcast.security.changing import add, tell
from fleetcast.security.folder import SETTINGS_FILE, Folder
from fleetcast.security.inventory import Inventory
from fleetcast.security.roles import Role
from fleetcast.security.testing import RoleServer, local_folder

MODEL_BYTES = 200_000
READY_SECONDS = 90.0


class Process(DaemonProcess):
    """Any daemon as a process."""

    @property
    def config(self) -> Path:
        return self.folder / f"{self.daemon}.toml"


class Fleet:
    """Keys, a server, and what is started with them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.publish = path / "publish"
        self.publish.mkdir()
        self.lanes = path / "lanes.toml"
        self.lanes.write_text('[lane.hex8]\ncommand = ["true", "{data}"]\n')
        self.folder, self.inventory = local_folder(path / "keys")
        self.processes: list[Process] = []

    def add(self, name: str, role: Role, publisher: str | None = None) -> None:
        self.inventory = add(self.folder, name, role, used_by="a test", reason=None, publisher=publisher)

    def settings(self, key: str, node: str) -> Settings:
        plain = loopback_settings(
            node, self.inventory.url, data=self.path / node / "data", publish_roots=(self.publish,), reserve_bytes=0
        )
        given = load(self.folder.credentials(key) / SETTINGS_FILE, env={}).settings
        changes = {
            "bus": self.folder.settings(self.inventory, key),
            "signing": given.signing,
            "trainer": plain.trainer.model_copy(update={"lanes": self.lanes}),
        }
        return plain.model_copy(update=changes)

    def start(self, daemon: str, key: str, node: str) -> None:
        (self.path / node).mkdir(exist_ok=True)
        process = Process(f"{daemon} on {node}", self.path / node, self.settings(key, node))
        process.daemon = daemon
        process.start()
        self.processes.append(process)

    def command(self, key: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command of somebody with *key*."""
        config = self.folder.credentials(key) / "fleetcast.toml"
        whole = [sys.executable, "-m", "fleetcast", *arguments, "--config", str(config)]
        return subprocess.run(whole, capture_output=True, text=True, timeout=90, env=os.environ | {"COLUMNS": "200"})

    async def said(self, key: str, *arguments: str) -> Any:
        done = await asyncio.to_thread(self.command, key, *arguments, "--json")
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return json.loads(done.stdout.splitlines()[0])


@contextmanager
def running(fleet: Fleet) -> Iterator[None]:
    try:
        yield
    finally:
        for process in fleet.processes:
            if process.process is not None:
                process.process.terminate()
        for process in fleet.processes:
            process.stop()


def violations(server: RoleServer) -> list[str]:
    return [line for line in server.log_path.read_text().splitlines() if "Violation" in line]


async def declared(folder: Folder, inventory: Inventory) -> set[str]:
    """Consumers that share work, of all streams."""
    names = set()
    system = folder.settings(inventory, "system")
    async with connect(system, node="s", daemon="test", require_jetstream=False, wait=False) as bus:
        data = await bus.request(
            "$SYS.REQ.SERVER.PING.JSZ", b'{"accounts": true, "streams": true, "consumer": true, "config": true}', 20
        )
    for account in json.loads(data)["data"]["account_details"]:
        for stream in account["stream_detail"]:
            for consumer in stream.get("consumer_detail") or []:
                if consumer["config"].get("durable_name"):
                    names.add(consumer["name"])
    return names


async def looks(fleet: Fleet) -> None:
    """What people who only look may ask, of every daemon that answers."""
    settings = fleet.folder.settings(fleet.inventory, "on-call")
    async with connect(settings, node="x", daemon="cli", wait=False) as bus:
        for subject in (INCIDENTS_SUBJECT, PLAYBOOKS_SUBJECT, LANES_SUBJECT):
            answer = await patience.ask(bus, subject, b'{"ask": "list"}', deadline_seconds=30, reads=True)
            assert json.loads(answer)["outcome"] == "done"
        assert await bus.newest("FC_REGISTRY", ("fc.reg.state.slot.*",))
        assert [entry async for entry in bus.tail("FC_AUDIT", ())]
        assert len(await bus.kv_entries("fc_nodes")) == len(fleet.processes)
        assert len(await bus.request_many("fc.svc.distributor.status", b"{}", 20.0, expect=2)) == 2
        assert len(await bus.request_many("$SRV.PING.fleetcast-registry", b"", 20.0, expect=1)) == 1


@pytest.mark.timeout(240)
@pytest.mark.asyncio
async def test_a_fleet_promotes_a_model_while_every_daemon_has_only_its_role(tmp_path: Path) -> None:
    fleet = await asyncio.to_thread(Fleet, tmp_path)
    server = RoleServer(fleet.folder, fleet.inventory.servers[0])
    async with server:
        settings = fleet.folder.settings(fleet.inventory, "deploy")
        async with connect(settings, node="deploy", daemon="deploy", wait=False) as bus:
            assert len(await declare(bus, 1)) == len(STREAMS)
        assert (await fleet.said("deploy", "keys", "add", "team-a", "--folder", str(fleet.folder.signing)))["published"]
        await asyncio.to_thread(fleet.add, "alpha", Role.NODE, publisher="team-a")
        await asyncio.to_thread(fleet.add, "gamma", Role.TRAINER)
        tell(fleet.inventory)
        with running(fleet):
            for node in ("alpha", "gamma"):
                await asyncio.to_thread(fleet.start, "distributor", node, node)
            await asyncio.to_thread(fleet.start, "trainer", "gamma", "gamma")
            for daemon in ("registry", "monitor", "remedy", "notifier"):
                await asyncio.to_thread(fleet.start, daemon, "control", "omega")
            for process in fleet.processes:
                await process.until_ready(READY_SECONDS)
            model = fleet.publish / "model.bin"
            model.write_bytes(os.urandom(MODEL_BYTES))

            asking = ("promote", "m", "1", str(model), "--node", "alpha")
            asked = await fleet.said("publisher", *asking)
            await fleet.said("operator", "wait", "m@1", "--timeout", "60s")

            assert asked["published"]
            for node in ("alpha", "gamma"):
                served = tmp_path / node / "data" / "models" / "m" / "current" / "model.bin"
                assert served.read_bytes() == model.read_bytes()
            await looks(fleet)
            unsigned = await asyncio.to_thread(
                fleet.command, "operator", "promote", "m", "2", str(model), "--node", "gamma", "--wait"
            )
            assert unsigned.returncode != 0
            assert "the manifest of m@2 is not signed; this node has no publisher key" in unsigned.stderr
            told = await asyncio.to_thread(fleet.command, "operator", "why", "m")
            assert "the manifest of m@2 is not signed" in told.stdout
            assert violations(server) == []

            assert await declared(fleet.folder, fleet.inventory) == {*roles.DURABLES, "origin-alpha", "origin-gamma"}

            refused = await asyncio.to_thread(fleet.command, "publisher", "approve", "m", "1", "--reason", "a test")
            assert refused.returncode == 1
            assert "this role may not publish to fc.svc.registry.transition.approve" in refused.stderr
            assert len(violations(server)) == 1
