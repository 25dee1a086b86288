"""Commands against a real server, with nodes that this test speaks for: what they print, and how they end."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.cli.helpers import Cli, ended
from tests.unit.cli.builders import ARTIFACT, CHECKS, held, node, transfer

from fleetcast.bus import Bus, ConsumerSpec, Delivery, Reject, Service, connect, declare
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.events.envelope import Event, new_event, parse
from fleetcast.events.payloads import EventRejected, ModelPromoted, VersionInstalled
from fleetcast.events.state import Cause, NodeStatus, SlotEntry
from fleetcast.registry import Registry

pytestmark = pytest.mark.asyncio(loop_scope="module")
SOURCE = "/fleet/node-1/test"


@dataclass
class Stand:
    """A server, a bus to it, and the command line."""

    bus: Bus
    cli: Cli
    models: int = 0
    nodes: set[str] = field(default_factory=set)

    def fresh(self) -> str:
        """The name of a model that no other test uses."""
        self.models += 1
        return f"model{self.models}"

    async def heartbeat(self, status: NodeStatus) -> None:
        self.nodes.add(status.node)
        fresh = status.model_copy(update={"at": datetime.now(UTC).isoformat()})
        await self.bus.kv_put("fc_nodes", f"{status.node}.distributor", fresh.model_dump_json().encode())

    async def forget_nodes(self) -> None:
        for name in self.nodes:
            await self.bus.kv_delete("fc_nodes", f"{name}.distributor")
        self.nodes.clear()

    async def order(self, model: str, version: str, event: str, sequence: int) -> None:
        cause = Cause(event=event, sequence=sequence, by=SOURCE, correlation=event)
        entry = SlotEntry(version=version, artifact=ARTIFACT)
        await Registry(self.bus).order_slot(model, entry, cause=cause, request=f"order/{event}", actor=SOURCE)

    async def promoted(self, model: str, version: str) -> Event:
        event = new_event(ModelPromoted(model=model, version=version, path="/m.pt", node="node-1"), source=SOURCE)
        receipt = await self.bus.publish(event)
        await self.order(model, version, event.id, receipt.sequence)
        return event


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stand(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stand]:
    folder = tmp_path_factory.mktemp("stand")
    async with (
        nats_server(folder / "nats") as server,
        connect(fast_settings(server.url), node="node-1", daemon="test") as bus,
    ):
        await declare(bus, 1)
        yield Stand(bus, Cli(folder, server.url))


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def without_nodes(stand: Stand) -> AsyncIterator[None]:
    yield
    await stand.forget_nodes()


async def test_a_healthy_fleet_is_shown_and_ends_with_0(stand: Stand) -> None:
    model = stand.fresh()
    await stand.promoted(model, "2")
    await stand.heartbeat(node("node-1", held(model, "2", 1)))
    shown = await stand.cli("status", "--json")
    mine = next(each for each in shown.document["models"] if each["model"] == model)
    assert (mine["version"], mine["ready"], mine["complete"]) == ("2", ["node-1"], True)
    assert shown.code == 0, shown.document["degraded"]
    assert "secret" not in (await stand.cli("status")).out, "the path of the HTTP address is a capability"


async def test_a_degraded_fleet_ends_with_1_and_the_reasons(stand: Stand) -> None:
    model = stand.fresh()
    await stand.promoted(model, "2")
    await stand.heartbeat(node("node-1", held(model, "2", 1)))
    await stand.heartbeat(node("node-2"))
    shown = await stand.cli("status", "--json")
    assert shown.code == 1
    assert f"{model}@2 is on 1 of 2 nodes: node-2 has no version yet" in shown.document["degraded"]
    in_words = await stand.cli("status")
    assert in_words.code == 1
    assert "degraded: " in in_words.out


async def test_transfers_show_percent_rate_time_left_peers_and_reason(stand: Stand) -> None:
    running = transfer("node-2", rate_bytes_per_second=2**20, eta_seconds=12.0, peers=2, bytes_by_source={"node-1": 40})
    failed = transfer("node-3", state="failed", version="3", reason="no source")
    await stand.heartbeat(node("node-2", transfers=(running, failed)))
    (one,) = (await stand.cli("transfers", "--json")).document["transfers"]
    assert (one["node"], one["percent"], one["peers"], one["eta_seconds"]) == ("node-2", 40, 2, 12.0)
    every = await stand.cli("transfers", "--all")
    assert "1.0 MiB/s" in every.out
    assert "no source" in every.out


async def test_wait_returns_when_all_nodes_that_want_it_serve_it(stand: Stand) -> None:
    model = stand.fresh()
    event = await stand.promoted(model, "2")
    await stand.heartbeat(node("node-1", held(model, "1", 0)))
    waiting = await stand.cli.start("wait", f"{model}@2", "--json", "--timeout", "30s")
    assert waiting.stderr is not None
    said = await waiting.stderr.readline()
    assert b"0 of 1 nodes" in said, event.id
    await stand.heartbeat(node("node-1", held(model, "2", 1)))
    done = await ended(waiting)
    assert done.code == 0
    assert done.document["rollout"]["ready"] == ["node-1"]


async def test_wait_ends_with_5_and_says_who_keeps_it_waiting(stand: Stand) -> None:
    model = stand.fresh()
    await stand.promoted(model, "2")
    await stand.heartbeat(node("node-2"))
    late = await stand.cli("wait", model, "--timeout", "100ms", "--json")
    assert late.code == 5
    assert "node-2: has no version yet" in late.document["error"]["why"]
    assert late.document["error"]["next"] == f"fleetcast why {model}"


async def test_waiting_for_what_was_never_ordered_ends_with_3(stand: Stand) -> None:
    assert (await stand.cli("wait", "nobody", "--json")).code == 3


async def test_events_are_cloudevents_lines_with_json_and_sentences_without(stand: Stand) -> None:
    model = stand.fresh()
    event = await stand.promoted(model, "2")
    shown = await stand.cli("events", "--json", "--type", "MODEL_PROMOTED", "--model", model)
    (line,) = shown.out.splitlines()
    assert json.loads(line)["id"] == event.id
    in_words = await stand.cli("events", "--model", model)
    assert f"asked to serve {model}@2" in in_words.out


async def test_what_is_no_event_is_shown_with_its_reason(stand: Stand) -> None:
    model = stand.fresh()
    await stand.bus.publish_raw(f"fc.ev.model.promoted.{model}", b"{nonsense")
    shown = await stand.cli("events", "--model", model)
    assert "not an event" in shown.out
    in_json = await stand.cli("events", "--model", model, "--json")
    assert json.loads(in_json.out)["error"]["code"] == "event_invalid"


async def test_ctrl_c_ends_a_follower_with_130_at_once(stand: Stand) -> None:
    model = stand.fresh()
    follower = await stand.cli.start("events", "-f", "--model", model, "--json")
    await stand.promoted(model, "2")
    assert follower.stdout is not None
    assert json.loads(await follower.stdout.readline())["data"]["model"] == model
    stopped = await ended(follower, signal.SIGINT)
    assert stopped.code == 130
    lines = [json.loads(line) for line in stopped.out.splitlines()]
    assert lines[-1]["error"]["code"] == "interrupted"


async def test_sigterm_ends_a_watcher_with_143(stand: Stand) -> None:
    await stand.heartbeat(node("node-1"))
    watcher = await stand.cli.start("status", "--watch", "--json")
    assert watcher.stdout is not None
    assert json.loads(await watcher.stdout.readline())["nodes"]
    assert (await ended(watcher, signal.SIGTERM)).code == 143


async def test_why_tells_the_chain_of_an_event_from_the_start_of_its_id(stand: Stand) -> None:
    model = stand.fresh()
    event = await stand.promoted(model, "2")
    await _installed(stand, model, event)
    told = await stand.cli("why", event.id[:22], "--json")
    assert told.code == 0
    chain = told.document["chain"]
    assert [link["type"] for link in chain["links"]] == ["model.promoted", "slot.ordered", "version.installed"]
    assert chain["verdict"][0].startswith("installed on node-2")


async def test_why_tells_of_a_model_who_decided_and_who_is_behind(stand: Stand) -> None:
    model = stand.fresh()
    event = await stand.promoted(model, "2")
    await stand.heartbeat(node("node-2"))
    told = await stand.cli("why", model)
    assert f"{model} is at 2 (generation 1)" in told.out
    assert event.id in told.out
    assert "not yet on node-2: has no version yet" in told.out


async def test_why_tells_of_a_node_how_it_is(stand: Stand) -> None:
    await stand.heartbeat(node("node-7"))
    told = await stand.cli("why", "node-7", "--json")
    assert told.document["about"] == "node"
    assert told.document["facts"][0].startswith("node-7 is ready")


async def test_why_of_something_unknown_ends_with_3(stand: Stand) -> None:
    assert (await stand.cli("why", "01NOTHERE", "--json")).code == 3


async def test_a_promotion_is_published_and_a_dry_run_is_not(stand: Stand) -> None:
    model = stand.fresh()
    path = stand.cli.home / "m.pt"
    path.write_bytes(b"weights")
    dry = await stand.cli("promote", model, "1", str(path), "--node", "node-1", "--dry-run", "--json")
    assert (dry.code, dry.document["published"]) == (0, False)
    real = await stand.cli("promote", model, "1", "m.pt", "--node", "node-1", "--reason", "elo 1712", "--json")
    assert (real.code, real.document["published"]) == (0, True)
    (event,) = await _events(stand, model)
    assert event.id == real.document["event"]
    assert isinstance(event.payload, ModelPromoted)
    assert event.payload.path == str(path)
    assert event.payload.metadata == {"reason": "elo 1712"}


async def test_promote_and_wait_returns_when_every_node_serves_it(stand: Stand) -> None:
    model = stand.fresh()
    await stand.heartbeat(node("node-1"))
    waiting, event, sequence = await _promoting(stand, model)
    await stand.order(model, "1", event.id, sequence)
    await stand.heartbeat(node("node-1", held(model, "1", 1)))
    done = await ended(waiting)
    assert done.code == 0
    assert done.document["event"] == event.id
    assert done.document["rollout"]["complete"] is True


async def test_promote_and_wait_ends_with_1_and_the_reason_when_it_is_refused(stand: Stand) -> None:
    model = stand.fresh()
    await stand.heartbeat(node("node-1"))
    waiting, event, _ = await _promoting(stand, model)
    refusal = EventRejected(
        event=event.id,
        subject=event.subject,
        reason="version 1 has other content",
        field="version",
        winner="node-9",
        next_step="use another version",
    )
    await stand.bus.publish(new_event(refusal, source=SOURCE, cause=event, key=model))
    done = await ended(waiting)
    assert done.code == 1
    error = done.document["error"]
    assert (error["code"], error["field"], error["winner"]) == ("rejected", "version", "node-9")
    assert error["next"] == "use another version"


async def test_promote_and_wait_says_so_when_a_later_promotion_wins(stand: Stand) -> None:
    model = stand.fresh()
    await stand.heartbeat(node("node-1"))
    waiting, event, sequence = await _promoting(stand, model)
    await stand.order(model, "1", event.id, sequence)
    assert waiting.stderr is not None
    while b"0 of 1 nodes" not in (line := await waiting.stderr.readline()):
        assert line
    await stand.promoted(model, "2")
    done = await ended(waiting)
    assert (done.code, done.document["error"]["code"]) == (1, "superseded")


async def test_emit_publishes_in_any_spelling_and_fills_the_node_in(stand: Stand) -> None:
    lane = stand.fresh()
    said = await stand.cli(
        "emit", "EXPORT_COMPLETED", f"lane={lane}", "path=x.npz", "samples_new=5", "samples_total=9", "--json"
    )
    assert said.code == 0
    assert said.document["data"]["node"]
    assert said.document["data"]["path"] == str(stand.cli.home / "x.npz")
    (event,) = await _events(stand, lane)
    assert event.id == said.document["event"]


async def test_dead_letters_are_listed_shown_sent_again_and_dropped(stand: Stand) -> None:
    model = stand.fresh()
    await stand.bus.publish_raw(f"fc.ev.model.promoted.{model}", b'{"version":"1"}')
    await _bury(stand, model)
    listed = (await stand.cli("dlq", "ls", "--json")).document["dead_letters"]
    (letter,) = [each for each in listed if model in each["subject"]]
    assert letter["reason"] == "no path"
    number = str(letter["number"])
    shown = await stand.cli("dlq", "show", number, "--json")
    assert shown.document["dead_letter"]["body"] == '{"version":"1"}'
    assert (await stand.cli("dlq", "retry", number, "--dry-run", "--json")).document["dry_run"] is True
    assert (await stand.cli("dlq", "retry", number)).code == 0
    assert (await stand.cli("dlq", "show", number, "--json")).code == 3
    await _bury(stand, model)
    (again,) = [
        each for each in (await stand.cli("dlq", "ls", "--json")).document["dead_letters"] if model in each["subject"]
    ]
    assert (await stand.cli("dlq", "drop", str(again["number"]), "--yes")).code == 0
    assert (await stand.cli("dlq", "ls", "--json")).document["dead_letters"] == []


async def test_verify_names_node_and_file_of_damage_and_ends_with_1(stand: Stand) -> None:
    await stand.heartbeat(node("node-1"))
    checked = {
        "kind": "model",
        "model": "hex8",
        "version": "2",
        "path": "/data/models/hex8/2/m.pt",
        "file": "m.pt",
        "ok": False,
        "expected": "a" * 64,
        "actual": "b" * 64,
    }
    served = await _serve_verify(stand, {"node": "node-1", "checked": [checked], "repairing": [], "seconds": 0.1})
    found = await stand.cli("verify", "--json")
    assert found.code == 1
    assert [(each["node"], each["path"], each["ok"]) for each in found.document["checked"]] == [
        ("node-1", "/data/models/hex8/2/m.pt", False)
    ]
    in_words = await stand.cli("verify", "hex8")
    assert "DAMAGED" in in_words.out
    assert "node-1 holds damaged /data/models/hex8/2/m.pt; it is being fetched again from peers" in in_words.err
    await served.stop()


async def test_verify_of_a_node_that_does_not_run_ends_with_3(stand: Stand) -> None:
    await stand.heartbeat(node("node-1"))
    assert (await stand.cli("verify", "--node", "node-5", "--json")).code == 3


async def test_doctor_looks_at_everything_in_two_seconds_and_names_fixes(stand: Stand) -> None:
    began = asyncio.get_running_loop().time()
    looked = await stand.cli("doctor", "--json")
    findings = {each["name"]: each for each in looked.document["findings"]}
    assert findings["NATS"]["state"] == findings["canary"]["state"] == findings["clock"]["state"] == "ok"
    assert all(each["fix"] for each in findings.values() if each["state"] != "ok")
    # Two seconds by the clock on an idle machine; this one runs other tests as well.
    assert asyncio.get_running_loop().time() - began < 6


async def test_doctor_fails_with_the_fix_when_nats_is_away(tmp_path: Path) -> None:
    looked = await Cli(tmp_path, "nats://127.0.0.1:9")("doctor", "--json")
    assert looked.code == 1
    (nats,) = [each for each in looked.document["findings"] if each["name"] == "NATS"]
    assert nats["state"] == "fail"
    assert "fleetcast up" in nats["fix"]


async def test_without_nats_an_event_waits_in_the_spool_and_the_exit_message_says_so(tmp_path: Path) -> None:
    (tmp_path / "fleetcast.toml").write_text('[bus]\nurl = "nats://127.0.0.1:9"\n[store]\ndata = "data"\n')
    said = await Cli(tmp_path)("emit", "model.promoted", "model=hex8", "version=1", "path=/m.pt")
    assert said.code == 0
    assert f"the event waits in {tmp_path}/data/spool" in said.err
    spooled = "".join(path.read_text() for path in (tmp_path / "data" / "spool").glob("*.jsonl"))
    assert '"model":"hex8"' in spooled


@pytest.mark.parametrize(
    "command",
    ["status", "transfers", "events", "why hex8", "wait hex8", "verify", "dlq ls", "promote m 1 fleetcast.toml"],
)
async def test_without_nats_every_command_ends_with_6_and_json_says_why(tmp_path: Path, command: str) -> None:
    (tmp_path / "fleetcast.toml").write_text('[bus]\nurl = "nats://127.0.0.1:9"\n')
    said = await Cli(tmp_path)(*command.split(), "--json")
    assert said.code == 6
    assert said.document["error"]["code"] == "no_nats"
    assert said.document["error"]["next"]


async def test_a_closed_pipe_is_no_error(stand: Stand) -> None:
    await stand.promoted(stand.fresh(), "1")
    process = await asyncio.create_subprocess_shell(
        "exec 3>&1; { python_of_tests -m fleetcast events; echo $? >&3; } | true".replace("python_of_tests", _python()),
        env=stand.cli.env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert b"Traceback" not in err
    assert out.strip() in {b"0", b"141"}


def _python() -> str:
    import shlex
    import sys

    return shlex.quote(sys.executable)


async def _promoting(stand: Stand, model: str) -> tuple[asyncio.subprocess.Process, Event, int]:
    """A `promote --wait` under way, its event, and that one's sequence."""
    path = stand.cli.home / f"{model}.pt"
    path.write_bytes(b"weights")
    arguments = ("promote", model, "1", str(path), "--node", "node-1", "--wait", "--timeout", "30s", "--json")
    process = await stand.cli.start(*arguments)
    async with asyncio.timeout(30):
        async for entry in stand.bus.tail("FC_EVENTS", (f"fc.ev.model.promoted.{model}",), follow=True):
            event = parse(entry.data, subject=entry.subject, headers=entry.headers, sequence=entry.sequence)
            return process, event, entry.sequence
    raise AssertionError("unreachable")


async def _events(stand: Stand, key: str) -> list[Event]:
    entries = stand.bus.tail("FC_EVENTS", (f"fc.ev.*.*.{key}",))
    return [
        parse(entry.data, subject=entry.subject, headers=entry.headers, stream="FC_EVENTS", sequence=entry.sequence)
        async for entry in entries
    ]


async def _installed(stand: Stand, model: str, cause: Event) -> None:
    payload = VersionInstalled(model=model, version="2", artifact=ARTIFACT, node="node-2", checks=CHECKS, bytes=1)
    await stand.bus.publish(new_event(payload, source="/fleet/node-2/distributor", cause=cause))
    # The slot order reaches the event log by way of the registry's stream.
    async with asyncio.timeout(10):
        async for entry in stand.bus.tail("FC_EVENTS", (f"fc.ev.slot.ordered.{model}",), follow=True):
            assert entry.data
            return


async def _bury(stand: Stand, model: str) -> None:
    """Have the newest event of *model* refused by a consumer."""

    async def refuse(_delivery: Delivery) -> None:
        raise Reject("no path", "path", "publish it with a path")

    spec = ConsumerSpec(
        stream="FC_EVENTS", subjects=(f"fc.ev.model.promoted.{model}",), name="gravedigger", start="last_per_subject"
    )
    began = datetime.now(UTC)
    digging = asyncio.create_task(stand.bus.consume(spec, refuse))
    async with asyncio.timeout(10):
        async for _ in stand.bus.tail("FC_DEAD", ("fc.dead.gravedigger",), start_time=began, follow=True):
            break
    digging.cancel()
    with suppress(asyncio.CancelledError):
        await digging


async def _serve_verify(stand: Stand, answer: dict[str, Any]) -> Any:
    async def verify(_body: bytes) -> bytes:
        return json.dumps(answer).encode()

    endpoints = {"verify": ("fc.svc.distributor.verify", verify)}
    return await stand.bus.serve(
        Service(name="fleetcast-distributor", version="0.1.0", description="a test", endpoints=endpoints)
    )
