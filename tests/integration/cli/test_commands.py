"""Commands against a real server, with nodes that this test speaks for: what they print, and how they end."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.cli.stand import SOURCE, Cli, Ended, Stand, called, live_in, standing
from tests.unit.cli.builders import ARTIFACT, CHECKS, held, node, transfer

from fleetcast.bus.server import LocalServer
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.payloads import EventRejected, ModelPromoted, VersionInstalled


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with standing(tmp_path_factory.mktemp("stand")) as made:
        yield made


@pytest.fixture
def stand(server: Stand) -> Iterator[Stand]:
    yield server
    server.do(server.forget_nodes())


@pytest.fixture
def cli(stand: Stand, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Commands in this process: forty processes would take a minute to import the same modules."""
    live_in(stand.home, stand.url, monkeypatch)
    return lambda *arguments: called(arguments, capsys)


def test_a_healthy_fleet_is_shown_and_ends_with_0(stand: Stand, cli: Cli) -> None:
    model = stand.fresh()
    stand.do(stand.promoted(model, "2"))
    stand.do(stand.heartbeat(node("node-1", held(model, "2", 1))))
    shown = cli("status", "--json")
    mine = next(each for each in shown.document["models"] if each["model"] == model)
    assert (mine["version"], mine["ready"], mine["complete"]) == ("2", ["node-1"], True)
    assert shown.code == 0, shown.document["degraded"]


def test_status_never_shows_the_capability_in_the_http_address(stand: Stand, cli: Cli) -> None:
    stand.do(stand.heartbeat(node("node-1")))
    shown = cli("status")
    assert "http://127.0.0.1:6880" in shown.out
    assert "secret" not in shown.out


def test_a_degraded_fleet_ends_with_1_and_the_reasons(stand: Stand, cli: Cli) -> None:
    model = stand.fresh()
    stand.do(stand.promoted(model, "2"))
    stand.do(stand.heartbeat(node("node-1", held(model, "2", 1))))
    stand.do(stand.heartbeat(node("node-2")))
    shown = cli("status", "--json")
    assert shown.code == 1
    reason = f"{model}@2 is on 1 of 2 nodes: node-2 has no version yet (not verified)"
    assert reason in shown.document["degraded"]
    in_words = cli("status")
    assert in_words.code == 1
    assert f"degraded: {reason}" in in_words.out


def test_transfers_show_percent_rate_time_left_peers_and_reason(stand: Stand, cli: Cli) -> None:
    running = transfer("node-2", rate_bytes_per_second=2**20, eta_seconds=12.0, peers=2, bytes_by_source={"node-1": 40})
    failed = transfer("node-3", state="failed", version="3", reason="no source")
    stand.do(stand.heartbeat(node("node-2", transfers=(running, failed))))
    (one,) = cli("transfers", "--json").document["transfers"]
    assert (one["node"], one["percent"], one["peers"], one["eta_seconds"]) == ("node-2", 40, 2, 12.0)
    every = cli("transfers", "--all")
    assert "1.0 MiB/s" in every.out
    assert "no source" in every.out


def test_wait_returns_when_all_nodes_that_want_it_serve_it(stand: Stand, cli: Cli) -> None:
    model = stand.fresh()
    stand.do(stand.promoted(model, "2"))
    stand.do(stand.heartbeat(node("node-1", held(model, "1", 0))))

    async def arrive() -> None:
        await stand.bus.rtt()
        await stand.heartbeat(node("node-1", held(model, "2", 1)))

    arriving = stand.later(arrive())
    done = cli("wait", f"{model}@2", "--json", "--timeout", "30s")
    arriving.result()
    assert done.code == 0
    assert done.document["rollout"]["ready"] == ["node-1"]


def test_wait_ends_with_5_and_says_who_keeps_it_waiting(stand: Stand, cli: Cli) -> None:
    model = stand.fresh()
    stand.do(stand.promoted(model, "2"))
    stand.do(stand.heartbeat(node("node-2")))
    late = cli("wait", model, "--timeout", "100ms", "--json")
    assert late.code == 5
    assert "node-2: has no version yet" in late.document["error"]["why"]
    assert late.document["error"]["next"] == f"fleetcast why {model}"


def test_waiting_for_what_was_never_ordered_ends_with_3(cli: Cli) -> None:
    assert cli("wait", "nobody", "--json").code == 3


def test_events_are_cloudevents_lines_with_json_and_sentences_without(stand: Stand, cli: Cli) -> None:
    model = stand.fresh()
    event = stand.do(stand.promoted(model, "2"))
    (line,) = cli("events", "--json", "--type", "MODEL_PROMOTED", "--model", model).out.splitlines()
    assert json.loads(line)["id"] == event.id
    assert f"asked to serve {model}@2" in cli("events", "--model", model).out


def test_what_is_no_event_is_shown_with_its_reason(stand: Stand, cli: Cli) -> None:
    model = stand.fresh()
    stand.do(stand.bus.publish_raw(f"fc.ev.model.promoted.{model}", b"{nonsense"))
    assert "not an event" in cli("events", "--model", model).out
    assert json.loads(cli("events", "--model", model, "--json").out)["error"]["code"] == "event_invalid"


def test_why_tells_the_chain_of_an_event_from_the_start_of_its_id(stand: Stand, cli: Cli) -> None:
    model = stand.fresh()
    event = stand.do(stand.promoted(model, "2"))
    payload = VersionInstalled(model=model, version="2", artifact=ARTIFACT, node="node-2", checks=CHECKS, bytes=1)
    stand.do(stand.bus.publish(new_event(payload, source="/fleet/node-2/distributor", cause=event)))
    chain = cli("why", event.id[:22], "--json").document["chain"]
    assert [link["type"] for link in chain["links"]] == ["model.promoted", "slot.ordered", "version.installed"]
    assert chain["verdict"][0].startswith("installed on node-2")


def test_why_tells_of_a_model_who_decided_and_who_is_behind(stand: Stand, cli: Cli) -> None:
    model = stand.fresh()
    event = stand.do(stand.promoted(model, "2"))
    stand.do(stand.heartbeat(node("node-2")))
    told = cli("why", model).out
    assert f"{model} is at 2 (generation 1)" in told
    assert event.id in told
    assert "not yet on node-2: has no version yet" in told


def test_why_tells_of_a_node_how_it_is(stand: Stand, cli: Cli) -> None:
    stand.do(stand.heartbeat(node("node-7")))
    told = cli("why", "node-7", "--json").document
    assert told["about"] == "node"
    assert told["facts"][0].startswith("node-7 is ready")


def test_why_of_something_unknown_ends_with_3(cli: Cli) -> None:
    assert cli("why", "01NOTHERE", "--json").code == 3


def test_a_promotion_is_published_with_its_reason_and_a_dry_run_is_not(stand: Stand, cli: Cli) -> None:
    model = stand.fresh()
    path = stand.home / "m.pt"
    path.write_bytes(b"weights")
    dry = cli("promote", model, "1", str(path), "--node", "node-1", "--dry-run", "--json")
    assert (dry.code, dry.document["published"]) == (0, False)
    real = cli("promote", model, "2", "m.pt", "--node", "node-1", "--reason", "elo 1712", "--json")
    assert (real.code, real.document["published"]) == (0, True)
    event = stand.do(stand.first(f"fc.ev.model.promoted.{model}"))
    assert event.id == real.document["event"]
    assert isinstance(event.payload, ModelPromoted)
    assert (event.payload.version, event.payload.path) == ("2", str(path))
    assert event.payload.metadata == {"reason": "elo 1712"}


def test_a_file_outside_the_publish_roots_is_refused_before_anything_is_published(
    stand: Stand, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETCAST_STORE_PUBLISH_ROOTS", str(stand.home / "publish"))
    (stand.home / "m.pt").write_bytes(b"weights")
    refused = cli("promote", stand.fresh(), "1", "m.pt", "--json")
    assert refused.code == 1
    assert refused.document["error"]["code"] == "outside_publish_roots"
    assert refused.document["error"]["next"].startswith("cp ")


def test_promote_and_wait_returns_when_every_node_serves_it(stand: Stand, cli: Cli) -> None:
    model = stand.fresh()
    stand.do(stand.heartbeat(node("node-1")))

    async def serve() -> Event:
        event = await stand.first(f"fc.ev.model.promoted.{model}")
        await stand.order(model, "1", event.id, event.sequence or 0)
        await stand.heartbeat(node("node-1", held(model, "1", 1)))
        return event

    serving = stand.later(serve())
    done = _promote_and_wait(stand, cli, model)
    assert done.code == 0
    assert done.document["event"] == serving.result().id
    assert done.document["rollout"]["complete"] is True


def test_promote_and_wait_ends_with_1_and_the_reason_when_it_is_refused(stand: Stand, cli: Cli) -> None:
    model = stand.fresh()
    stand.do(stand.heartbeat(node("node-1")))

    async def refuse() -> None:
        event = await stand.first(f"fc.ev.model.promoted.{model}")
        refusal = EventRejected(
            event=event.id,
            subject=event.subject,
            reason="version 1 has other content",
            field="version",
            winner="node-9",
            next_step="use another version",
        )
        await stand.bus.publish(new_event(refusal, source=SOURCE, cause=event, key=model))

    refusing = stand.later(refuse())
    done = _promote_and_wait(stand, cli, model)
    refusing.result()
    assert done.code == 1
    error = done.document["error"]
    assert (error["code"], error["field"], error["winner"]) == ("rejected", "version", "node-9")
    assert error["next"] == "use another version"


def test_promote_and_wait_says_so_when_a_later_promotion_wins(stand: Stand, cli: Cli) -> None:
    model = stand.fresh()
    stand.do(stand.heartbeat(node("node-1")))

    async def overtake() -> None:
        event = await stand.first(f"fc.ev.model.promoted.{model}")
        await stand.order(model, "1", event.id, event.sequence or 0)
        await stand.promoted(model, "2")

    overtaking = stand.later(overtake())
    done = _promote_and_wait(stand, cli, model)
    overtaking.result()
    assert (done.code, done.document["error"]["code"]) == (1, "superseded")


def _promote_and_wait(stand: Stand, cli: Cli, model: str) -> Ended:
    path = stand.home / "m.pt"
    path.write_bytes(b"weights")
    return cli("promote", model, "1", str(path), "--node", "node-1", "--wait", "--timeout", "30s", "--json")


def test_emit_takes_any_spelling_and_fills_node_and_path_in(stand: Stand, cli: Cli) -> None:
    lane = stand.fresh()
    said = cli("emit", "EXPORT_COMPLETED", f"lane={lane}", "path=x.npz", "samples_new=5", "samples_total=9", "--json")
    assert said.code == 0
    assert said.document["data"]["node"]
    assert said.document["data"]["path"] == str(stand.home / "x.npz")
    assert stand.do(stand.first(f"fc.ev.export.completed.{lane}")).id == said.document["event"]


def test_dead_letters_are_listed_shown_sent_again_and_dropped(stand: Stand, cli: Cli) -> None:
    model = stand.fresh()
    stand.do(stand.bus.publish_raw(f"fc.ev.model.promoted.{model}", b'{"version":"1"}'))
    stand.do(stand.bury(model))
    (letter,) = cli("dlq", "ls", "--json").document["dead_letters"]
    assert (letter["reason"], letter["field"]) == ("no path", "path")
    number = str(letter["number"])
    assert cli("dlq", "show", number, "--json").document["dead_letter"]["body"] == '{"version":"1"}'
    assert cli("dlq", "retry", number, "--dry-run", "--json").document["dry_run"] is True
    assert cli("dlq", "retry", number, "--reason", "path added").code == 0
    (settled,) = cli("events", "--type", "letter.settled", "--json").out.splitlines()
    assert "path added" in settled
    assert cli("dlq", "retry", number, "--json").code == 3
    stand.do(stand.bury(model))
    assert cli("dlq", "drop", "--all", "--yes").code == 0
    assert cli("dlq", "ls", "--json").document["dead_letters"] == []


def test_verify_names_node_and_file_of_damage_and_ends_with_1(stand: Stand, cli: Cli) -> None:
    stand.do(stand.heartbeat(node("node-1")))
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
    answer = {"node": "node-1", "checked": [checked], "repairing": [], "seconds": 0.1}
    served = stand.do(stand.serve_verify(answer))
    found = cli("verify", "--json")
    in_words = cli("verify", "hex8")
    stand.do(served.stop())
    assert found.code == 1
    assert [(each["node"], each["path"], each["ok"]) for each in found.document["checked"]] == [
        ("node-1", "/data/models/hex8/2/m.pt", False)
    ]
    assert "DAMAGED" in in_words.out
    assert "node-1 holds damaged /data/models/hex8/2/m.pt; it is being fetched again from peers" in in_words.err


def test_verify_of_a_node_that_does_not_run_ends_with_3(stand: Stand, cli: Cli) -> None:
    stand.do(stand.heartbeat(node("node-1")))
    assert cli("verify", "--node", "node-5", "--json").code == 3


def test_doctor_looks_at_everything_in_two_seconds_and_names_fixes(cli: Cli) -> None:
    began = time.monotonic()
    findings = {each["name"]: each for each in cli("doctor", "--json").document["findings"]}
    took = time.monotonic() - began
    assert findings["NATS"]["state"] == findings["canary"]["state"] == findings["clock"]["state"] == "ok"
    assert all(each["fix"] for each in findings.values() if each["state"] != "ok")
    assert took < 2


def test_doctor_fails_with_the_fix_when_nats_is_away(cli: Cli) -> None:
    looked = cli("doctor", "--json", "--server", "nats://127.0.0.1:9")
    assert looked.code == 1
    (nats,) = [each for each in looked.document["findings"] if each["name"] == "NATS"]
    assert nats["state"] == "fail"
    assert "fleetcast up" in nats["fix"]


def test_without_nats_an_event_waits_in_the_spool_and_the_exit_message_says_so(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETCAST_STORE_DATA", str(tmp_path))
    said = cli("emit", "model.promoted", "model=hex8", "version=1", "path=/m.pt", "-s", "nats://127.0.0.1:9")
    assert said.code == 0
    assert f"the event waits in {tmp_path}/spool" in said.err
    spooled = "".join(path.read_text() for path in (tmp_path / "spool").iterdir() if path.is_file())
    assert '"model":"hex8"' in spooled


@pytest.mark.parametrize(
    "command", ["status", "transfers", "events", "why hex8", "wait hex8", "verify", "dlq ls", "promote m 1 m.pt"]
)
def test_without_nats_every_command_ends_with_6_and_json_says_why(stand: Stand, cli: Cli, command: str) -> None:
    (stand.home / "m.pt").write_bytes(b"weights")
    said = cli(*command.split(), "--json", "--server", "nats://127.0.0.1:9")
    assert said.code == 6
    assert said.document["error"]["code"] == "no_nats"
    assert said.document["error"]["next"]


def test_on_a_server_without_fleet_status_says_what_to_start(cli: Cli, tmp_path: Path) -> None:
    with LocalServer(tmp_path / "nats") as server:
        said = cli("status", "--json", "--server", server.url)
    assert said.code == 1
    assert said.document["error"]["code"] == "no_fleet"
    assert "fleetcast run distributor" in said.document["error"]["next"]
