"""Traces of a real fleet, as a collector sees them."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.tracing.collector import Collector, collecting
from tests.integration.tracing.commands import fleetcast, traced_by

from fleetcast.config.settings import Settings
from fleetcast.daemons.testing import Fleet, FleetProblem, NodeProcess, RegistryProcess, fleet, node_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECONDS = 60.0
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
NOT_INJECTED = """
import sys
from fleetcast.bus import tracing

tracing.stamped = lambda event, **_: event
from fleetcast.cli import main
sys.exit(main())
"""
"""A distributor that puts no context into its events."""


class Forgetful(NodeProcess):
    """A distributor whose events carry no context."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", NOT_INJECTED, *super().command()[3:]]


@dataclass
class Traced:
    """A fleet and its collector."""

    fleet: Fleet
    registry: RegistryProcess
    collector: Collector

    async def promote(self, model: str, *nodes: str) -> None:
        """Promote a new model by the command, as an operator would, and wait until *nodes* serve it."""
        path = self.fleet.publish(f"{model}.bin", os.urandom(4096))
        command = ("promote", model, "1", str(path), "--node", "node-1", "--reason", "a trace")
        asked = await asyncio.to_thread(fleetcast, *command, config=self.fleet.nodes["node-1"].config)
        assert asked.returncode == 0, asked.stderr
        await self.fleet.until_served(model, "1", nodes=nodes)

    async def until_seen(self, what: str, holds: Callable[[], object], seconds: float = SECONDS) -> None:
        await self.fleet.until(f"{what} at the collector", holds, seconds)


def closed_port() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


@asynccontextmanager
async def traced_fleet(
    folder: Path, collector: Collector, nodes: int, kind: type[NodeProcess] = NodeProcess
) -> AsyncIterator[Traced]:
    """Nodes and a registry daemon that send their spans to *collector*."""

    def settings(_name: str, base: Settings) -> Settings:
        return traced_by(collector.url, base)

    def process(name: str, home: Path, own: Settings) -> NodeProcess:
        return kind(name, home, own, environment=SOON)

    async with fleet(folder, nodes, settings=settings, process=process) as f:
        home = folder / "registry"
        home.mkdir()
        own = traced_by(collector.url, node_settings(folder, "registry", f.server.url))
        registry = RegistryProcess("registry", home, own, environment=SOON)
        registry.start()
        try:
            await registry.until_ready()
            yield Traced(f, registry, collector)
        finally:
            registry.kill()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> AsyncIterator[Traced]:
    async with traced_fleet(tmp_path_factory.mktemp("traced"), collector, 2) as running:
        yield running


async def check_one_trace(traced: Traced, model: str, seconds: float = SECONDS) -> None:
    """One trace goes from the command to the installation on a node that has the model from another."""
    collector = traced.collector
    await traced.promote(model, "node-1", "node-2")

    def way() -> list[str]:
        installed = collector.find("install", model=model, node="node-2")
        return collector.way_up(installed) if installed else []

    expected = ["install", "transfer", "publish artifact.available", "handle model.promoted", "publish model.promoted"]
    await traced.until_seen("the way from the promotion to the installation", lambda: way() == expected, seconds)
    begun = collector.find("publish model.promoted", model=model)
    assert begun is not None
    assert begun.service == "fleetcast-cli"

    def same_trace() -> set[tuple[str, str]]:
        return {(each.name, each.service) for each in list(collector.spans) if each.trace == begun.trace}

    others = {
        ("handle model.promoted", "fleetcast-distributor"),
        ("decide promote", "fleetcast-registry"),
        ("publish version.installed", "fleetcast-distributor"),
        ("publish version.activated", "fleetcast-distributor"),
    }
    await traced.until_seen("the decision and the facts", lambda: others <= same_trace(), seconds)


async def test_one_trace_goes_from_the_promotion_to_the_installation_on_another_node(traced: Traced) -> None:
    await check_one_trace(traced, "whole")

    installed = traced.collector.find("install", model="whole", node="node-2")
    assert installed is not None
    assert installed.attributes["fleetcast.version"] == "1"
    assert installed.attributes["fleetcast.cid"]
    assert installed.failed is None
    assert traced.collector.paths == {"/v1/traces"}


async def test_an_event_that_is_refused_is_a_span_that_failed(traced: Traced) -> None:
    body = {"version": "1", "path": str(traced.fleet.folder / "publish" / "missing.bin"), "node": "node-1"}
    await traced.fleet.say("fc.ev.model.promoted.lost", body, traceparent="00-not-a-context-01")

    await traced.until_seen(
        "a failed span",
        lambda: any(
            each.failed and each.attributes.get("fleetcast.model") == "lost" for each in list(traced.collector.spans)
        ),
    )


async def test_without_a_collector_a_node_works_as_ever_and_says_so_once(tmp_path: Path) -> None:
    began = time.monotonic()

    def settings(_name: str, base: Settings) -> Settings:
        return traced_by(closed_port(), base)

    def process(name: str, home: Path, own: Settings) -> NodeProcess:
        return NodeProcess(name, home, own, environment=SOON)

    async with fleet(tmp_path, 1, settings=settings, process=process) as f:
        node = f.nodes["node-1"]
        await f.promote("alone", "1", f.publish("alone.bin", b"weights"))
        await f.until_served("alone", "1")
        await f.until("a line about the collector", lambda: node.logged("traces.dropped"))
        assert await asyncio.to_thread(node.stop) == 0

    # One a minute, and a slow machine may take several.
    assert len(node.logged("traces.dropped")) <= 1 + (time.monotonic() - began) / 60
    # Its library tells of every try, in its own words; none of them comes through.
    assert "opentelemetry" not in node.log.read_text()


@pytest.mark.soak
async def test_the_trace_ends_where_events_carry_no_context(tmp_path: Path) -> None:
    """Shows that the check above sees it."""
    with collecting() as collector:
        async with traced_fleet(tmp_path, collector, 2, Forgetful) as forgetful:
            with pytest.raises(FleetProblem, match="way from the promotion"):
                await check_one_trace(forgetful, "torn", seconds=10.0)
            assert collector.find("install", model="torn", node="node-2")
