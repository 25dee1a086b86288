"""`fleetcast fleet …`: keys made, listed and taken away from the command line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleetcast.cli.entry import run
from fleetcast.cli.problems import Exit


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet whose three servers are elsewhere."""
    folder = tmp_path_factory.mktemp("fleet") / "keys"
    hosts = [word for number in (1, 2, 3) for word in ("--host", f"nats-{number}.example.net")]
    assert run(["fleet", "init", str(folder), *hosts, "--place", "/etc/nats", "--store", "/var/lib/nats"]) == Exit.OK
    return folder


def said(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run([*argv, "--json"]) == code, capsys.readouterr()
    return json.loads(capsys.readouterr().out)


def test_a_node_is_added_and_the_servers_elsewhere_get_an_instruction_each(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (keys / "servers" / "n3" / "accounts.conf").read_text()

    answer = said(capsys, "fleet", "add-node", "gpu-1", "--trainer", "--dir", str(keys), "--reason", "bought")

    assert (answer["role"], answer["changed"], answer["servers_told"]) == ("trainer", True, [])
    assert [line.partition(" ")[0] for line in answer["by_hand"]] == ["n1", "n2", "n3"]
    assert {p.name for p in Path(answer["files"]).iterdir()} == {"nkey", "tls.pem", "ca.pem", "fleetcast.toml"}
    for server in ("n1", "n2", "n3"):
        after = (keys / "servers" / server / "accounts.conf").read_text()
        assert "# gpu-1: trainer" in after
        assert after != before


def test_what_is_to_be_typed_for_signatures_is_said_and_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:9")
    folder = tmp_path / "keys"
    assert run(["fleet", "init", str(folder)]) == Exit.OK
    steps = [line.strip() for line in capsys.readouterr().out.splitlines()]
    add = next(line for line in steps if line.startswith("fleetcast keys add PUBLISHER"))
    node = next(line for line in steps if "--signs-as PUBLISHER" in line).partition("    (")[0]
    words = node.replace("NODE", "gpu-1").replace("PUBLISHER", "team-a").split()[1:]

    refused = said(capsys, *words, code=1)
    assert refused["error"]["next"] == add.replace("PUBLISHER", "team-a")
    # Nobody is there to be told: the key is made all the same.
    made = said(capsys, "keys", "add", "team-a", "--folder", str(folder / "signing"), code=6)
    assert Path(made["file"]).is_file()
    files = Path(said(capsys, *words)["files"])

    assert (files / "publisher.key").read_bytes() == Path(made["file"]).read_bytes()
    assert 'publisher_key = "publisher.key"' in (files / "fleetcast.toml").read_text()


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()}

    for command in (
        ["add", "ada", "--role", "operator"],
        ["rotate", "operator"],
        ["revoke", "operator"],
        ["rotate", "n1"],
    ):
        answer = said(capsys, "fleet", *command, "--dir", str(keys), "--dry-run")
        assert answer["changed"] is False
        assert answer["would"].startswith("would ")

    assert {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()} == before


def test_every_secret_is_listed_with_owner_role_age_due_date_and_users(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = said(capsys, "fleet", "credentials", "--dir", str(keys))

    rows = {(row["kind"], row["owner"]): row for row in answer["secrets"]}
    assert answer["ok"] is True
    assert {"authority", "root key", "certificate", "nkey"} <= {kind for kind, _ in rows}
    operator = rows["nkey", "operator"]
    assert operator["role"] == "operator"
    assert operator["used_by"] == "people who run the fleet"
    assert operator["due"] > operator["issued"]
    assert ("certificate", "n2") in rows


def test_what_is_to_be_typed_next_keeps_the_old_key_where_that_was_asked_for(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A process of its own: here, no file may be looked at on the loop.
    words = ("fleet", "rotate", "evaluator", "--keep-old", "--dir", str(keys))
    done = subprocess.run([sys.executable, "-m", "fleetcast", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == Exit.OK, done.stderr
    assert f"fleetcast fleet rotate evaluator --keep-old --dir {keys}" in done.stdout

    capsys.readouterr()
    assert run(["fleet", "credentials", "--dir", str(keys)]) == Exit.OK
    assert f"next: fleetcast fleet rotate evaluator --dir {keys}" in capsys.readouterr().err


def test_a_secret_that_others_may_read_makes_the_list_fail(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = keys / "credentials" / "on-call" / "nkey"
    place.chmod(0o644)
    try:
        answer = said(capsys, "fleet", "credentials", "--dir", str(keys), code=Exit.FAILED)
    finally:
        place.chmod(0o600)

    assert [row["owner"] for row in answer["secrets"] if row["state"] == "damaged"] == ["on-call"]


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["init", "FOLDER"], Exit.USAGE, "is a fleet's folder already"),
        (["init", "x", "--servers", "2"], Exit.USAGE, "one NATS server, or three"),
        (["init", "x", "--servers", "3", "--host", "a"], Exit.USAGE, "1 --host for 3 servers"),
        (["add", "ada", "--role", "queen", "--dir", "FOLDER"], Exit.USAGE, "there is deploy"),
        (["add-node", "Gpu 1", "--dir", "FOLDER"], Exit.FAILED, "is no name"),
        (["add-node", "control", "--dir", "FOLDER"], Exit.FAILED, "there already"),
        (["rotate", "nobody", "--dir", "FOLDER"], Exit.FAILED, "nobody is called"),
        (["revoke", "operator", "--old", "--dir", "FOLDER"], Exit.FAILED, "no former key"),
        (["credentials", "--dir", "/nowhere"], Exit.USAGE, "no folder of a fleet"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(
    keys: Path,
    tmp_path: Path,
    argv: list[str],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()

    assert run(["fleet", *(str(keys) if word == "FOLDER" else word for word in argv)]) == code

    captured = capsys.readouterr()
    assert words in captured.err
    assert "next:" in captured.err or "why:" in captured.err or words == "no former key"
    assert list(tmp_path.iterdir()) == []


def test_no_secret_is_printed(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "fleet", "add", "bob", "--role", "on-call", "--dir", str(keys))
    capsys.readouterr()
    run(["fleet", "add", "eve", "--role", "on-call", "--dir", str(keys)])
    run(["fleet", "credentials", "--dir", str(keys)])
    shown = capsys.readouterr()

    for file in keys.rglob("nkey"):
        assert file.read_text().strip() not in shown.out + shown.err
    assert "PRIVATE" not in shown.out
