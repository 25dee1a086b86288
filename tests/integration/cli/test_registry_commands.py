"""What the command line asks the registry, with a real server, node and daemon: each command once well, once badly."""

import itertools
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.integration.cli.registry_fleet import Cli, records, registry_fleet, speak_for
from tests.integration.cli.weights import safetensors
from tests.integration.registry.small_fleet import SmallFleet
from tests.unit.cli.builders import node

from fleetcast.bus import Bus
from fleetcast.cli.connection import person

NUMBERS = itertools.count(1)
KEPT: dict[str, str] = {}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallFleet]:
    with registry_fleet(tmp_path_factory.mktemp("registry") / "fleet") as made:
        yield made


@pytest.fixture
def cli(fleet: SmallFleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    speak_for(fleet, monkeypatch)
    return Cli(fleet, capsys, NUMBERS, KEPT)


def by_name(gates: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    """Verdicts by the names of their gates, without the stages that ask for them."""
    return {gate["gate"].rpartition("/")[2]: gate for gate in gates}


# -- register


def test_register_with_wait_returns_when_the_registry_has_the_version(cli: Cli) -> None:
    file = cli.fleet.folder / "publish" / "new.safetensors"
    file.write_bytes(safetensors(7))
    said = cli.json("register", "fresh", "1", str(file), "--wait")
    assert (said["model"], said["version"], said["node"]) == ("fresh", "1", "node-1")
    assert cli.json("info", "fresh@1")["artifact"] == said["artifact"]
    again = cli.json("register", "fresh", "1", str(file), "--wait")
    assert again["artifact"] == said["artifact"]


def test_register_with_wait_says_why_a_version_cannot_have_other_bytes(cli: Cli) -> None:
    model = cli.model("1")
    file = cli.fleet.folder / "publish" / "other.safetensors"
    file.write_bytes(safetensors(99))
    error = cli.error("register", model, "1", str(file), "--wait", code=1)
    assert error["code"] == "rejected"
    assert "versions are immutable" in error["why"]


def test_register_with_wait_ends_when_time_is_up(cli: Cli) -> None:
    waiting = ("--node", "gpu-77", "--wait", "--timeout", "1s")
    error = cli.error("register", "lonely", "1", "/x.safetensors", *waiting, code=5)
    assert "has not answered" in error["why"]
    told = cli("why", "lonely")
    assert told.code == 0, "a name that somebody published about is known"
    assert "no version of lonely is registered so far" in told.out


def test_why_knows_a_version_that_is_only_registered(cli: Cli) -> None:
    model = cli.model("1", "2")
    served, first, second = cli.json("why", model)["facts"]
    assert served == f"nothing is served of {model}"
    assert first.startswith(f"{model}@1 was registered")
    assert second.startswith(f"{model}@2 was registered")
    assert "at development" in first


# -- evidence


def test_evidence_is_shown_as_it_was_said(cli: Cli) -> None:
    model = cli.model("1")
    report = cli.fleet.folder / "review.pdf"
    report.write_bytes(b"all well")
    cli.good(model, "1")
    assert cli("evidence", "set", model, "1", "parity=false", "--report", str(report)).code == 0
    assert cli("evidence", "rating", model, "1", "1700", "--games", "400", "--delta", "12").code == 0
    assert cli("evidence", "set", model, "1", "owner=ann", "metrics.accuracy=0.9", "metadata.ticket=7").code == 0
    assert cli("approve", model, "1", "--as", "anna", "--reason", "seen").code == 0
    said = cli.json("evidence", "show", model, "1")
    assert said["evaluations"]["random"] == {"wins": 98, "losses": 2, "draws": 0, "games": 100, "win_rate": 0.98}
    assert said["flags"]["bias_check_passed"]["by"] == f"/fleet/node-1/cli/{person()}"
    assert said["flags"]["parity"]["report"]["size"] == 8
    assert (said["rating"]["elo"], said["facts"]["owner"], said["metadata"]) == (1700, "ann", {"ticket": 7})
    assert [a["by"] for a in said["approvals"]] == ["anna"]
    words = cli("evidence", "show", model, "1").out
    for part in ("98.0%", "review.pdf", "lead +12", "anna", "metadata.ticket"):
        assert part in words


def test_evidence_show_says_that_nobody_said_anything(cli: Cli) -> None:
    model = cli.spare()
    assert "nobody has said anything" in cli("evidence", "show", model, "1").out
    assert cli.error("evidence", "show", model, "9", code=3)["code"] == "not_found"


IMPOSSIBLE = (
    ("games", "random=1.7/2"),
    ("games", "random=98/-2"),
    ("games", "random=98"),
    ("games", "random=99999999999999999999/1"),
    ("rating", "nan", "--games", "10"),
    ("rating", "1600", "--games", "-1"),
    ("rating", "1600", "--games", "1.7"),
    ("rating", "1600", "--games", "10", "--error", "0"),
    ("set", "calibration_error=1.7"),
    ("set", "calibration_error=NaN"),
    ("set", "metrics.accuracy=Infinity"),
    ("set", "bias_check_passed"),
    ("set", "bias_check_passed=perhaps"),
    ("set", "git_commit=xyz"),
)


def test_numbers_that_cannot_be_are_refused_and_nothing_is_written(cli: Cli) -> None:
    model = cli.spare()
    before = cli.last_sequence()
    codes = {(kind, *rest): cli("evidence", kind, model, "1", *rest).code for kind, *rest in IMPOSSIBLE}
    assert codes == dict.fromkeys(IMPOSSIBLE, 2)
    assert cli.last_sequence() == before


def test_evidence_about_an_unknown_version_ends_with_3(cli: Cli) -> None:
    assert cli.error("evidence", "set", "nobody", "1", "parity=true", code=3)["code"] == "unknown"


# -- promote


def test_gates_refuse_with_what_they_require_and_what_is_there(cli: Cli) -> None:
    model = cli.model("1")
    assert cli("evidence", "games", model, "1", "random=40/60").code == 0
    error = cli.error("promote", model, "1", "--reason", "try", code=4)
    gates = by_name(error["answer"]["gates"])
    assert gates["win_rate.random"]["verdict"] == "fail"
    assert "0.9" in gates["win_rate.random"]["required"]
    assert "0.4 in 100 games" in gates["win_rate.random"]["actual"]
    assert gates["flag.bias_check_passed"]["verdict"] == "insufficient"
    assert "fleetcast evidence show" in error["next"]
    assert error["answer"]["n"] > 0, "a refusal is on record"
    told = cli("why", model).out
    assert "refused" in told
    assert "win_rate.random fail" in told


def test_a_good_version_is_promoted_and_waited_for(cli: Cli) -> None:
    model = cli.model("1")
    cli.good(model, "1")
    said = cli.json("promote", model, "1", "--reason", "good", "--wait", "--timeout", "60s")
    assert set(said) == {"schema_version", "answer", "rollout"}
    assert {"outcome", "code", "n", "sequence", "gates", "generation", "message"} <= set(said["answer"])
    assert (said["rollout"]["version"], said["rollout"]["ready"]) == ("1", ["node-1"])
    again = cli("promote", model, "1")
    assert (again.code, "is production already" in again.out) == (0, True)


@pytest.mark.parametrize("evidence", [True, False], ids=["passes", "refused"])
def test_dry_run_says_the_same_and_writes_nothing(cli: Cli, evidence: bool) -> None:
    model = cli.model("1")
    if evidence:
        cli.good(model, "1")
    before = cli.last_sequence()
    done = cli("promote", model, "1", "--dry-run")
    assert done.code == (0 if evidence else 4)
    assert "win_rate.random" in done.out
    for command in (
        ("evidence", "set", model, "1", "parity=true"),
        ("evidence", "games", model, "1", "random=1/1"),
        ("approve", model, "1"),
        ("freeze", model, "--reason", "x"),
        ("reject", f"{model}@1", "--reason", "x"),
    ):
        assert cli(*command, "--dry-run").out.startswith("would be done: "), command
    assert cli.last_sequence() == before
    assert cli("promote", model, "1").code == (0 if evidence else 4)
    assert cli.last_sequence() > before, "this would notice that something was written"


def test_a_stale_generation_is_a_conflict_that_names_the_winner(cli: Cli) -> None:
    model = cli.model("1", "2", name="free")
    assert cli("promote", model, "1", "--wait").code == 0
    error = cli.error("promote", model, "2", "--generation", "0", code=1)
    assert error["answer"]["outcome"] == "conflict"
    assert f"{model}@1, generation 1, by /fleet/node-1/cli/{person()}" in error["why"]
    back = cli.error("rollback", model, "--generation", "7", "--reason", "x", code=1)
    assert back["answer"]["outcome"] == "conflict"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("nobody", "1"), 3),
        (("MODEL", "9"), 3),
        (("MODEL", "1", "--stage", "moon"), 2),
        (("MODEL", "1", "--percent", "0"), 2),
        (("MODEL", "1", "--percent", "101"), 2),
        (("MODEL", "1", "--percent", "10"), 4),
        (("MODEL", "1", "--stage", "canary"), 4),
        (("MODEL", "1", "--generation", "-1"), 2),
        (("MODEL", "a b"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_a_promotion_that_cannot_be_ends_with_its_code(cli: Cli, arguments: tuple[str, ...], code: int) -> None:
    model = cli.spare() if "MODEL" in arguments else ""
    done = cli("promote", *(model if part == "MODEL" else part for part in arguments))
    assert done.code == code, done
    assert "next:" in done.err or code == 2


def test_a_rollout_that_halts_ends_the_wait_and_has_two_exits(cli: Cli) -> None:
    model = cli.model("1", "2", name="whole")

    async def a_node_that_never_fetches(bus: Bus) -> None:
        status = node("node-9").model_copy(update={"at": datetime.now(UTC).isoformat()})
        await bus.kv_put("fc_nodes", "node-9.distributor", status.model_dump_json().encode())

    async def gone(bus: Bus) -> None:
        await bus.kv_delete("fc_nodes", "node-9.distributor")

    cli.do(a_node_that_never_fetches)
    try:
        error = cli.error("promote", model, "1", "--wait", "--timeout", "60s", code=1)
        assert (error["code"], error["next"].split()[:3]) == ("halted", ["fleetcast", "resume", model])
        ended = cli("resume", model, "--abandon", "--reason", "it will not be")
        assert (ended.code, "was withdrawn" in ended.out) == (0, True)
        assert cli.error("resume", model, "--reason", "x", code=4)["code"] == "rollout"
    finally:
        cli.do(gone)


def test_a_canary_is_waited_for_and_withdrawn(cli: Cli) -> None:
    model = cli.model("1", "2", name="free")
    assert cli("promote", model, "1", "--wait").code == 0
    said = cli.json("promote", model, "2", "--stage", "canary", "--percent", "50", "--wait", "--timeout", "60s")
    assert (said["rollout"]["canary"]["version"], said["rollout"]["canary"]["ready"]) == ("2", ["node-1"])
    back = cli.json("rollback", model, "--reason", "slow", "--wait", "--timeout", "60s")
    assert (back["rollout"]["canary"], back["rollout"]["version"]) == (None, "1")
    assert cli.json("info", f"{model}@2")["stage"] == "quarantined"


# -- rollback


def test_rollback_is_waited_for_and_why_names_it_first(cli: Cli) -> None:
    model = cli.model("1", "2", name="free")
    for version in "12":
        assert cli("promote", model, version, "--reason", f"take {version}", "--wait").code == 0
    said = cli.json("rollback", model, "--reason", "loses", "--wait", "--timeout", "60s")
    assert (said["rollout"]["version"], said["rollout"]["ready"]) == ("1", ["node-1"])
    facts = cli.json("why", model)["facts"]
    decision = next(fact for fact in facts if fact.startswith("decision "))
    assert "slot.rolled_back" in decision
    assert "loses" in decision
    assert any("take 1" in fact for fact in facts), "what once let the version in is told too"
    assert not any("take 2" in fact for fact in facts)
    frozen = cli.error("rollback", model, "--reason", "this one too", code=4)
    assert frozen["code"] == "none-good"
    assert "frozen" in cli("why", model).out


@pytest.mark.parametrize("arguments", [("nobody",), ("MODEL",), ("MODEL", "--to", "9")], ids=" ".join)
def test_a_rollback_of_what_is_not_served_ends_with_3(cli: Cli, arguments: tuple[str, ...]) -> None:
    model = cli.spare() if "MODEL" in arguments else ""
    done = cli("rollback", *(model if part == "MODEL" else part for part in arguments), "--reason", "x")
    assert done.code == 3, done


# -- holds


def test_a_freeze_holds_promotions_up_and_names_how_it_is_lifted(cli: Cli) -> None:
    model = cli.model("1", name="free")
    assert cli("freeze", model, "--for", "2h", "--reason", "exhibition").code == 0
    error = cli.error("promote", model, "1", code=4)
    assert (error["code"], "exhibition" in error["message"]) == ("frozen", True)
    assert error["next"] == f"fleetcast unfreeze {model} --reason …"
    assert cli("unfreeze", model, "--reason", "over").code == 0
    assert cli("freeze", "--all", "--reason", "holidays").code == 0
    try:
        assert cli.error("promote", model, "1", code=4)["next"] == "fleetcast unfreeze --all --reason …"
    finally:
        assert cli("unfreeze", "--all", "--reason", "over").code == 0
    assert cli("promote", model, "1").code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("freeze",),
        ("freeze", "m", "--all", "--reason", "x"),
        ("freeze", "m"),
        ("freeze", "m", "--until", "yesterday", "--reason", "x"),
        ("freeze", "m", "--until", "2020-01-01T00:00:00Z", "--reason", "x"),
        ("freeze", "m", "--for", "1h", "--until", "2099-01-01T00:00:00Z", "--reason", "x"),
        ("unfreeze", "--reason", "x"),
        ("reject", "m@1"),
        ("quarantine", "m", "--reason", "x"),
        ("approve", "m", "1", "--for", "-3d"),
    ],
    ids=" ".join,
)
def test_a_hold_that_says_too_little_ends_with_2(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.code == 2, done


def test_whoever_asks_does_not_count_as_approver(cli: Cli) -> None:
    model = cli.model("1", name="agreed")
    cli.good(model, "1")
    assert cli("approve", model, "1", "--reason", "I agree with myself").code == 0
    refused = cli.error("promote", model, "1", code=4)
    approvals = by_name(refused["answer"]["gates"])["approvals"]
    assert (approvals["verdict"], "by whoever asks" in approvals["actual"]) == ("insufficient", True)
    assert cli("approve", model, "1", "--as", "anna", "--reason", "so do I").code == 0
    assert cli("promote", model, "1").code == 0


def test_whoever_publishes_the_file_does_not_count_as_approver_either(cli: Cli) -> None:
    model = cli.model("1", name="agreed")
    cli.good(model, "1")
    assert cli("approve", model, "1").code == 0
    file = cli.fleet.folder / "publish" / f"{model}-1.safetensors"
    refused = cli.error("promote", model, "1", str(file), "--wait", "--timeout", "60s", code=4)
    assert by_name(refused["gates"])["approvals"]["verdict"] == "insufficient"


def test_barred_versions_are_refused_until_they_are_released(cli: Cli) -> None:
    model = cli.model("1", "2", name="free")
    assert cli("quarantine", f"{model}@1", "--reason", "trained on test games").code == 0
    error = cli.error("promote", model, "1", code=4)
    assert (error["code"], "trained on test games" in error["message"]) == ("quarantined", True)
    assert error["next"] == f"fleetcast release {model}@1 --reason …"
    assert cli("release", f"{model}@1", "--reason", "it was not").code == 0
    assert cli("promote", model, "1", "--wait").code == 0
    assert cli.error("quarantine", f"{model}@1", "--reason", "x", code=4)["code"] == "slot"
    assert cli("reject", f"{model}@2", "--reason", "weak").code == 0
    assert cli.error("promote", model, "2", code=4)["code"] == "stage"
    assert cli.error("reject", f"{model}@9", "--reason", "x", code=3)["code"] == "unknown"


# -- bundles


def test_a_bundle_passes_the_format_gate_by_what_its_origin_tested(cli: Cli) -> None:
    model = cli.model(name="tested")
    for version, files in (
        ("1", {"a.safetensors": safetensors(1), "notes.txt": b"hello"}),
        ("2", {"a.pkl": pickle.dumps([1])}),
    ):
        folder = cli.fleet.folder / "publish" / f"{model}-{version}"
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        (folder / "second.txt").write_bytes(b"a bundle has two files")
        assert cli("register", model, version, str(folder), "--wait", "--timeout", "60s").code == 0
        cli.good(model, version)
    assert cli.json("info", f"{model}@1")["format"] == "mixed"
    assert cli("promote", model, "1").code == 0
    refused = cli.error("promote", model, "2", code=4)
    gate = by_name(refused["answer"]["gates"])["format"]
    assert (gate["verdict"], "not tested" in gate["actual"]) == ("insufficient", True)


# -- look


def test_lists_and_histories_parse_and_keep_their_keys(cli: Cli) -> None:
    model = cli.model("1", "2", name="free")
    sequence = cli.json("promote", model, "1", "--reason", "good")["answer"]["sequence"]
    seq = ("--min-seq", str(sequence))
    assert {"models", "next", "as_of_seq", "behind"} <= set(cli.json("models", *seq))
    versions = cli.json("models", model, *seq)["versions"]
    assert [(v["version"], v["stage"]) for v in versions] == [("2", "development"), ("1", "production")]
    info = cli.json("info", f"{model}@1", *seq)
    assert {"facts", "flags", "approvals", "stages", "lineage", "decisions", "consumption"} <= set(info)
    compared = cli.json("compare", f"{model}@1", f"{model}@2")
    assert (compared["same_content"], {"fields", "flags", "metrics"} <= set(compared)) == (False, True)
    history = cli.json("history", model, *seq)["records"]
    assert [r["action"] for r in history] == ["slot.ordered", "version.reserved", "version.reserved"]
    assert cli.json("history", model, "--consumption")["nodes"]["1"]["installed"] == 1
    now = datetime.now(UTC).isoformat()
    (slot,) = cli.json("registry", "at", now, "--model", model)["slots"]
    assert (slot["production"], slot["generation"]) == ("1", 1)
    for command in (("models",), ("models", model), ("info", f"{model}@1")):
        assert model in cli(*command).out
    assert "slot.ordered" in cli("history", model).out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("info", "nobody@1"), 3),
        (("info", "nobody"), 3),
        (("compare", "nobody@1", "nobody@2"), 3),
        (("compare", "nobody", "nobody@2"), 2),
        (("explain", "nobody", "1"), 3),
        (("explain", "nobody", "0"), 2),
        (("registry", "at", "yesterday"), 2),
        (("models", "--order", "beauty"), 2),
        (("models", "--limit", "501"), 2),
        (("models", "--stage", "moon"), 2),
        (("card", "nobody", "1"), 3),
        (("audit", "verify", "nobody"), 3),
        (("register", "import", "missing.yaml"), 3),
        (("register", "nobody", "1"), 2),
        (("why", "nobody"), 3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_questions_without_an_answer_end_with_their_code(cli: Cli, arguments: tuple[str, ...], code: int) -> None:
    assert cli(*arguments).code == code


def test_explain_comes_to_the_same_verdict(cli: Cli) -> None:
    model = cli.model("1")
    cli.good(model, "1")
    number = cli.json("promote", model, "1")["answer"]["n"]
    said = cli.json("explain", model, str(number))
    assert (said["rejudged"], said["same"], said["differences"]) == (True, True, [])
    assert "bit for bit" in cli("explain", model, str(number)).err


def test_the_record_of_a_good_fleet_is_whole_and_can_be_exported(cli: Cli, tmp_path: Path) -> None:
    model = cli.model("1", name="free")
    assert cli("promote", model, "1").code == 0
    said = cli.json("audit", "verify")
    assert said["ok"]
    assert all(not each["problems"] for each in said["models"])
    assert cli.json("audit", "verify", model)["models"] == [{"model": model, "records": 2, "problems": []}]
    file = tmp_path / "audit.jsonl"
    assert cli.json("audit", "export", str(file), "--model", model)["records"] == 2
    assert [each["record"]["n"] for each in records(file.read_text())] == [1, 2]


def test_cards_and_entries_become_files_and_come_back(cli: Cli, tmp_path: Path) -> None:
    model = cli.model("1", name="free")
    card = tmp_path / "README.md"
    assert cli.json("card", model, "1", "-o", str(card))["file"] == str(card)
    assert f"# {model}" in card.read_text()
    file = tmp_path / "versions.json"
    assert cli.json("register", "export", str(file))["entries"] >= 1
    before = cli.last_sequence()
    assert cli.json("register", "import", str(file))["statements"] == 0
    assert cli.last_sequence() == before
    file.write_text("{")
    assert cli.error("register", "import", str(file), code=2)["code"] == "usage"


# -- who keeps it


def test_status_and_doctor_say_who_keeps_the_registry_and_when_it_is_away(cli: Cli) -> None:
    model = cli.model("1", name="free")
    assert cli("promote", model, "1", "--wait").code == 0
    kept = cli.json("status", code=cli("status").code)["registry"]
    assert (kept["kept"], kept["away"], [d["node"] for d in kept["daemons"]]) == (True, False, ["node-1"])
    assert "the registry is kept by node-1" in cli("status").out
    assert _registry(cli)["state"] == "ok"
    assert cli.fleet.keeper.stop() == 0
    try:
        away = cli.json("status", code=1)
        assert any("the registry's daemon is away: node-1 is stopped" in each for each in away["degraded"])
        assert (away["registry"]["away"], _registry(cli)["state"]) == (True, "fail")
        assert _registry(cli)["fix"].startswith("fleetcast run registry")
        assert cli("why", model).code == 0, "what happened is in the log"
        assert cli.error("models", code=1)["code"] == "no_registry"
    finally:
        cli.fleet.start(cli.fleet.keeper)


def _registry(cli: Cli) -> dict[str, str]:
    shown = cli("doctor", "--json").document["findings"]
    found: dict[str, str] = next(each for each in shown if each["name"] == "registry")
    return found


def test_without_a_registry_daemon_a_decision_fails_and_says_what_to_start(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleetcast.cli.registry.asking.ANSWER_SECONDS", 0.5)
    assert cli.fleet.keeper.stop() == 0
    try:
        error = cli.error("promote", "m", "1", code=1)
        assert (error["code"], error["next"].startswith("fleetcast run registry")) == ("no_registry", True)
    finally:
        cli.fleet.start(cli.fleet.keeper)
