"""A restore into a cluster of its own, beside the fleet: timed, looked at, and reported."""

import asyncio
import json
import os
import platform
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fleetcast.bus import Bus, Change, connect, declare
from fleetcast.bus.server import ClusterPlace, LocalServer, free_ports
from fleetcast.cli.backup.archive import Reader
from fleetcast.cli.backup.manifest import Manifest
from fleetcast.cli.backup.restoring import put_back
from fleetcast.cli.backup.rules import DRILL_SECONDS, needs_notes
from fleetcast.cli.backup.sealing import PrivateKey
from fleetcast.cli.backup.taking import Say
from fleetcast.config.settings import BusSettings
from fleetcast.registry.picture.amounts import duration, size
from fleetcast.security.keys import write

NODE = "drill"
REQUEST_SECONDS = 60.0


@dataclass
class Drill:
    """What a drill found. `steps`: seconds of each, by name, in order."""

    backup: str
    steps: dict[str, float] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        began = time.monotonic()
        yield
        self.steps[name] = time.monotonic() - began

    @property
    def seconds(self) -> float:
        """All steps."""
        return sum(self.steps.values())


async def rehearse(reader: Reader, key: PrivateKey, *, servers: int, place: Path, say: Say) -> Drill:
    """Restore a backup into servers that are started for it, with their stores in the folder *place*; the fleet is not
    touched.

    Raises:
        Problem: the backup cannot be restored, or what came of it is not what it says.
        BusUnavailable: there is no nats-server, or it does not start.
    """
    drill = Drill(str(reader.path))
    async with AsyncExitStack() as stack:
        with drill.step("start"):
            bus = await stack.enter_async_context(_cluster(place, servers))
        with drill.step("restore and verify"):
            done = await put_back(bus, reader, key, replicas=servers, resume=False, say=say)
        with drill.step("compare with what daemons declare"):
            changes = await declare(bus, servers)
        size_bytes = (await asyncio.to_thread(reader.path.stat)).st_size
        drill.result = _result(done.manifest, changes) | {
            "size_bytes": size_bytes,
            "chains_verified": len(done.checked),
            "server": str(bus.server.get("version", "")),
            "servers": servers,
        }
    return drill


def _result(manifest: Manifest, changes: Iterable[Change]) -> dict[str, Any]:
    return {
        "taken_at": manifest.taken_at.isoformat(),
        "made_by": manifest.fleetcast,
        "streams": len(manifest.parts),
        "messages": manifest.messages,
        "models": len(manifest.audit),
        "records": manifest.records,
        "audit_head": manifest.audit_head,
        "declared_otherwise": sorted(change.name for change in changes if change.action == "updated"),
    }


@asynccontextmanager
async def _cluster(place: Path, servers: int) -> AsyncIterator[Bus]:
    async with AsyncExitStack() as stack:
        # At the same time: one of three is not well before there are two.
        started = await asyncio.gather(*(stack.enter_async_context(one) for one in _servers(place, servers)))
        url = ",".join(one.url for one in started)
        settings = BusSettings(url=url, replicas=servers, request_timeout_seconds=REQUEST_SECONDS)
        yield await stack.enter_async_context(connect(settings, node=NODE, daemon="cli", wait=True))


def _servers(place: Path, count: int) -> list[LocalServer]:
    if count == 1:
        return [LocalServer(place / "n1", extra=_written_at_leisure(place / "n1"))]
    ports = free_ports(count)
    routes = tuple(f"nats://127.0.0.1:{port}" for port in ports)
    return [
        LocalServer(
            place / f"n{n}",
            name=f"{place.name}-n{n}",
            cluster=ClusterPlace(port, routes, name=place.name),
            extra=_written_at_leisure(place / f"n{n}"),
        )
        for n, port in enumerate(ports, 1)
    ]


def _written_at_leisure(folder: Path) -> str:
    """As docs/backup.md says for a restore: a server that syncs every message takes a part of a snapshot in so slowly
    that it gives itself up (tried); and what a drill writes need not outlive a power cut."""
    store = json.dumps(str(folder / "store"))
    return f'jetstream {{ store_dir: {store}, sync_interval: "2m", strict: true, max_mem: 256MB, max_file: 1TB }}\n'


def report(drill: Drill, *, notes: str | None, now: datetime, limit_seconds: float = DRILL_SECONDS) -> dict[str, Any]:
    """What is written down of a drill. *accepted*: it was quick enough, or somebody said why it was not."""
    late = needs_notes(drill.seconds, limit_seconds)
    return {
        "backup": drill.backup,
        "at": now.isoformat(timespec="seconds"),
        "seconds": round(drill.seconds, 3),
        "limit_seconds": limit_seconds,
        "within_limit": not late,
        "notes": notes or "",
        "accepted": not late or bool(notes),
        "steps": {name: round(seconds, 3) for name, seconds in drill.steps.items()},
        **drill.result,
        "conditions": {
            "fleetcast": version("fleetcast"),
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} processors, Linux {platform.release()}",
        },
    }


def write_report(folder: Path, found: dict[str, Any]) -> Path:
    """Keep a report as JSON and for people; the path of the JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    name = datetime.fromisoformat(found["at"]).astimezone(UTC).strftime("drill-%Y%m%dT%H%M%SZ")
    path = folder / f"{name}.json"
    write(path, json.dumps(found, indent=2) + "\n", mode=0o644)
    write(path.with_suffix(".md"), page(found), mode=0o644)
    return path


def page(found: dict[str, Any]) -> str:
    """A report for people."""
    verdict = "within" if found["within_limit"] else "BEYOND"
    steps = "\n".join(f"| {name} | {duration(seconds)} |" for name, seconds in found["steps"].items())
    rows = {
        "backup": f"{found['backup']}, {size(found['size_bytes'])}, taken at {found['taken_at']}",
        "restored": f"{found['streams']} streams, {found['messages']} messages",
        "audit": f"{found['chains_verified']} chains verified, {found['records']} records, "
        f"head {found['audit_head'][:16]}",
        "declared otherwise": ", ".join(found["declared_otherwise"]) or "nothing",
        "servers": f"{found['servers']} x nats-server {found['server']}",
        "fleetcast": found["conditions"]["fleetcast"],
        "machine": found["conditions"]["machine"],
        "notes": found["notes"] or ("none" if found["accepted"] else "MISSING: say why it took so long"),
    }
    table = "\n".join(f"| {name} | {text} |" for name, text in rows.items())
    return (
        f"# Restore drill of {found['at']}\n\n"
        f"{duration(found['seconds'])}, {verdict} the {duration(found['limit_seconds'])} that it may take.\n\n"
        f"| | |\n|---|---|\n{table}\n\n| step | time |\n|---|---|\n{steps}\n"
    )
