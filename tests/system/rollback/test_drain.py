"""Nodes leave service and come back, by command, by time, and never the last one unseen."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.system.registry.daemons import registries

from fleetcast.bus import Bus, connect
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.daemons import testing
from fleetcast.daemons.registry.watching import Nodes
from fleetcast.events.decisions import DrainChanged
from fleetcast.events.envelope import parse
from fleetcast.events.lifecycle import FLEET
from fleetcast.events.payloads import Checks
from fleetcast.events.state import InstalledVersion, ModelStatus, NodeStatus
from fleetcast.registry import Registry
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import Drain, stamp

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATIENCE_SECONDS = 90.0
ARTIFACT = "a" * 64


@dataclass
class Stage:
    """A server, a registry daemon, and three nodes of which the test sends the heartbeats."""

    url: str
    bus: Bus
    client: RegistryClient
    nodes: Nodes

    async def beat(self, node: str, *models: str) -> None:
        await self.bus.kv_put("fc_nodes", f"{node}.distributor", heartbeat(node, models).model_dump_json().encode())

    async def until(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)

    async def cli(self, *words: str) -> tuple[int | None, Any]:
        """Exit code and JSON of a command."""
        command = (sys.executable, "-m", "fleetcast", *words, "--server", self.url, "--json")
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return process.returncode, json.loads(out)

    async def facts(self) -> list[DrainChanged]:
        found = []
        async for entry in self.bus.tail("FC_EVENTS", ("fc.ev.node.drain_changed.*",)):
            payload = parse(entry.data, subject=entry.subject, headers=entry.headers).payload
            assert isinstance(payload, DrainChanged)
            found.append(payload)
        return found


def heartbeat(node: str, models: tuple[str, ...]) -> NodeStatus:
    at = datetime.now(UTC).isoformat()
    checks = Checks(size="ok", sha256="ok", format="ok")
    installed = InstalledVersion(
        version="1", artifact=ARTIFACT, bytes=1, checks=checks, transport="none", seconds=0, installed_at=at
    )
    return testing.heartbeat(
        node,
        at=at,
        models=tuple(
            ModelStatus(model=m, path="/x", generation=1, current="1", artifact=ARTIFACT, installed=(installed,))
            for m in models
        ),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("drain")
    async with nats_server(folder / "nats") as server:
        settings = fast_settings(server.url)
        async with (
            registries(folder, settings, "registry-1"),
            connect(settings, node="tests", daemon="tests") as bus,
        ):
            nodes = Nodes(bus, silent_after_seconds=600)
            watching = asyncio.create_task(nodes.watch())
            made = Stage(server.url, bus, RegistryClient(bus, actor="/fleet/tests/ann"), nodes)
            for name in ("node-1", "node-2", "node-3"):
                await made.beat(name, "hex8", *(["rare"] if name == "node-3" else []))
            await nodes.known.wait()
            await made.until(lambda: len(nodes.view.nodes) == 3)
            yield made
            watching.cancel()
            await asyncio.wait({watching})


async def test_drained_node_counts_for_nothing_and_comes_back(stage: Stage) -> None:
    answer = await stage.client.transition(Drain(node="node-1"), reason="fan is loud")
    assert answer.accepted
    await stage.until(lambda: stage.nodes.view.wanting("hex8") == ("node-2", "node-3"))
    assert stage.nodes.readiness("hex8", ARTIFACT).nodes == ("node-2", "node-3")
    assert stage.nodes.view.drained("hex8") == ("node-1",)
    answer = await stage.client.transition(Drain(node="node-1", drained=False), reason="fan is new")
    assert answer.accepted
    await stage.until(lambda: stage.nodes.view.wanting("hex8") == ("node-1", "node-2", "node-3"))
    assert (await Registry(stage.bus).broken_links(FLEET)) == []


async def test_request_that_is_repeated_has_one_effect_and_one_answer(stage: Stage) -> None:
    answers = [await stage.client.transition(Drain(node="node-1"), reason="thrice", request="once") for _ in range(3)]
    assert [a.outcome for a in answers] == ["done"] * 3
    assert [a.repeated for a in answers] == [False, True, True]
    await stage.client.transition(Drain(node="node-1", drained=False), reason="thrice")
    deadline = time.monotonic() + PATIENCE_SECONDS
    # Facts of earlier tests may still be copied into the log.
    while len(told := [f.drained for f in await stage.facts() if f.reason == "thrice"]) < 2:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert told == [True, False]


async def test_registry_takes_a_node_back_in_when_its_time_is_over(stage: Stage) -> None:
    until = stamp(datetime.now(UTC) + timedelta(seconds=1.5))
    assert (await stage.client.transition(Drain(node="node-2", until=until), reason="a moment")).accepted
    await stage.until(lambda: stage.nodes.view.drained("hex8") == ("node-2",))
    await stage.until(lambda: stage.nodes.view.drained("hex8") == ())
    assert datetime.now(UTC) >= datetime.fromisoformat(until)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (last := (await stage.facts())[-1]).drained:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert (last.node, last.by, last.reason) == ("node-2", "/fleet/registry-1/registry", "its time is over")


async def test_last_node_of_a_model_leaves_by_force_only_also_when_two_ask_at_once(stage: Stage) -> None:
    answer = await stage.client.transition(Drain(node="node-3"), reason="x")
    assert (answer.outcome, answer.code) == ("refused", "last")
    assert "rare" in answer.message
    await stage.beat("node-2", "hex8", "rare")
    await stage.until(lambda: stage.nodes.view.alone("node-3") == ())
    answers: list[Any] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while sum(a.accepted for a in answers) != 1:
        # The daemon's own picture of heartbeats may be a moment behind the test's.
        assert time.monotonic() < deadline, answers
        asked = [stage.client.transition(Drain(node=n), reason="both") for n in ("node-2", "node-3")]
        answers = list(await asyncio.gather(*asked))
    assert {a.code for a in answers} == {"", "last"}
    last = next(n for n, a in zip(("node-2", "node-3"), answers, strict=True) if a.code == "last")
    assert (await stage.client.transition(Drain(node=last, force=True), reason="all the same")).accepted
    for node in ("node-2", "node-3"):
        assert (await stage.client.transition(Drain(node=node, drained=False), reason="over")).accepted


async def test_commands_drain_and_take_back_with_reasons_and_exit_codes(stage: Stage) -> None:
    refused, unknown, dry = await asyncio.gather(
        stage.cli("drain", "node-1"),
        stage.cli("drain", "node-9", "--reason", "x"),
        stage.cli("drain", "node-1", "--for", "2h", "--reason", "fan is loud", "--dry-run"),
    )
    assert (refused[0], unknown[0], dry[0]) == (2, 3, 0), "no reason, no such node, and what would be done"
    assert dry[1]["answer"]["dry_run"]
    assert stage.nodes.view.drained("hex8") == ()
    code, document = await stage.cli("drain", "node-1", "--for", "2h", "--reason", "fan is loud")
    assert (code, document["answer"]["outcome"]) == (0, "done")
    (_, status), (_, why) = await asyncio.gather(stage.cli("status"), stage.cli("why", "node-1"))
    node = next(n for n in status["nodes"] if n["node"] == "node-1")
    assert (node["drain"]["reason"], node["drain"]["drained"]) == ("fan is loud", True)
    assert any("out of service until" in fact and "fan is loud" in fact for fact in why["facts"]), why
    assert (await stage.cli("undrain", "node-1", "--reason", "fan is new"))[0] == 0
    code, document = await stage.cli("undrain", "node-1", "--reason", "fan is new")
    assert (code, document["answer"]["code"]) == (0, "nothing")
