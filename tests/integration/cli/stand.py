"""Running `fleetcast` as a person does, and a fleet that a test speaks for."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.integration.cli.aside import aside
from tests.unit.cli.builders import ARTIFACT

from fleetcast.bus import Bus, ConsumerSpec, Delivery, Reject, Service, connect, declare
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.cli.entry import run
from fleetcast.events.envelope import Event, new_event, parse
from fleetcast.events.payloads import ModelPromoted
from fleetcast.events.state import Cause, NodeStatus, SlotEntry
from fleetcast.registry import Registry

SECONDS = 60.0
SOURCE = "/fleet/node-1/test"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What it printed with --json: exactly one document."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


Cli = Callable[..., Ended]


def environment(home: Path, url: str | None = None) -> dict[str, str]:
    """The environment of a command that knows nothing of this machine's other fleets."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NATS_", "FLEETCAST_"))}
    own = {"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "XDG_CONFIG_HOME": str(home / "config")}
    return kept | own | ({"NATS_URL": url} if url else {})


def start(home: Path, url: str | None, *arguments: str) -> subprocess.Popen[str]:
    """Begin a command as a process of its own, in *home*."""
    return subprocess.Popen(
        [sys.executable, "-m", "fleetcast", *arguments],
        env=environment(home, url),
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], number: signal.Signals | None = None) -> Ended:
    """Wait for the end of *process*, after sending it *number* where given."""
    if number is not None:
        process.send_signal(number)
    out, err = process.communicate(timeout=SECONDS)
    assert "Traceback" not in err, err
    return Ended(process.returncode, out, err)


def live_in(home: Path, url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be in *home*, with the environment of a command there."""
    for name, value in environment(home, url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(home)


def called(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> Ended:
    """Run a command in this process: quicker than one of its own, which would import the same modules again."""
    capsys.readouterr()
    code = run(arguments)
    captured = capsys.readouterr()
    return Ended(code, captured.out, captured.err)


def called_here(
    home: Path, url: str, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ended:
    """Run a command in this process, in *home*."""
    live_in(home, url, monkeypatch)
    return called(arguments, capsys)


def commands_in(
    home: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *first: str
) -> Cli:
    """`cli("status", "--json")`: commands in this process, in *home*; each begins with *first*."""

    def call(*arguments: str) -> Ended:
        return called_here(home, url, (*first, *arguments), monkeypatch, capsys)

    return call


def commands_that_end(capsys: pytest.CaptureFixture[str], *first: str) -> Cli:
    """`cli("why", "x", code=3)`: commands in this process that have to end with *code*; each begins with *first*."""

    def call(*arguments: str, code: int = 0) -> Ended:
        done = called((*first, *arguments), capsys)
        assert done.code == code, done.err
        return done

    return call


class Stand:
    """A server, a bus to it on a loop of its own, and words for what nodes would say."""

    def __init__(self, home: Path, url: str, bus: Bus, loop: asyncio.AbstractEventLoop) -> None:
        self.home = home
        self.url = url
        self.bus = bus
        self._loop = loop
        self._models = 0
        self._nodes: set[str] = set()

    def later(self, act: Coroutine[Any, Any, _T]) -> "Future[_T]":
        """Begin *act* beside the test."""
        return asyncio.run_coroutine_threadsafe(act, self._loop)

    def do(self, act: Coroutine[Any, Any, _T]) -> _T:
        """Do *act* and wait for it."""
        return self.later(act).result(SECONDS)

    def fresh(self) -> str:
        """The name of a model that no other test uses."""
        self._models += 1
        return f"model{self._models}"

    async def heartbeat(self, status: NodeStatus) -> None:
        self._nodes.add(status.node)
        fresh = status.model_copy(update={"at": datetime.now(UTC).isoformat()})
        await self.bus.kv_put("fc_nodes", f"{status.node}.distributor", fresh.model_dump_json().encode())

    async def forget_nodes(self) -> None:
        for name in self._nodes:
            await self.bus.kv_delete("fc_nodes", f"{name}.distributor")
        self._nodes.clear()

    async def order(self, model: str, version: str, event: str, sequence: int) -> None:
        cause = Cause(event=event, sequence=sequence, by=SOURCE, correlation=event)
        entry = SlotEntry(version=version, artifact=ARTIFACT)
        await Registry(self.bus).order_slot(model, entry, cause=cause, request=f"order/{event}", actor=SOURCE)

    async def promoted(self, model: str, version: str) -> Event:
        """A promotion and the slot order that it led to, both in the event log."""
        event = new_event(ModelPromoted(model=model, version=version, path="/m.pt", node="node-1"), source=SOURCE)
        receipt = await self.bus.publish(event)
        await self.order(model, version, event.id, receipt.sequence)
        await self.first(f"fc.ev.slot.ordered.{model}", start_sequence=receipt.sequence)
        return event

    async def first(self, subject: str, start_sequence: int = 1) -> Event:
        """The first event on *subject*, as soon as there is one."""
        async with asyncio.timeout(SECONDS):
            entries = self.bus.tail("FC_EVENTS", (subject,), start_sequence=start_sequence, follow=True)
            async for entry in entries:
                return parse(entry.data, subject=entry.subject, headers=entry.headers, sequence=entry.sequence)
        raise AssertionError("unreachable")

    async def bury(self, model: str) -> None:
        """Have the newest promotion of *model* refused by a consumer."""

        async def refuse(_delivery: Delivery) -> None:
            raise Reject("no path", "path", "publish it with a path")

        subjects = (f"fc.ev.model.promoted.{model}",)
        spec = ConsumerSpec(stream="FC_EVENTS", subjects=subjects, name="gravedigger", start="last_per_subject")
        began = datetime.now(UTC)
        digging = asyncio.create_task(self.bus.consume(spec, refuse))
        async with asyncio.timeout(SECONDS):
            async for _ in self.bus.tail("FC_DEAD", ("fc.dead.gravedigger",), start_time=began, follow=True):
                break
        digging.cancel()
        with suppress(asyncio.CancelledError):
            await digging

    async def serve_verify(self, answer: dict[str, Any]) -> Any:
        """Answer `verify` as a node would; returns what is to be stopped."""

        async def verify(_body: bytes) -> bytes:
            return json.dumps(answer).encode()

        endpoints = {"verify": ("fc.svc.distributor.verify", verify)}
        service = Service(name="fleetcast-distributor", version="0.1.0", description="a test", endpoints=endpoints)
        return await self.bus.serve(service)


@contextmanager
def standing(home: Path) -> Iterator[Stand]:
    """A stand with a server of its own, on a thread that lives as long as the server."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Stand]:
        async with nats_server(home / "nats") as server:
            settings = fast_settings(server.url)
            async with connect(settings, node="node-1", daemon="test") as bus:
                await declare(bus, 1)
                yield Stand(home, server.url, bus, asyncio.get_running_loop())

    with aside(opened, "stand", SECONDS) as found:
        yield found
