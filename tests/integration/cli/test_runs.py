"""`fleetcast runs` and `fleetcast sync`, as a person types them, after a job that knew nothing of NATS."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.cli.stand import Cli, Ended, Stand, called_here, environment, standing, start

from fleetcast.client.spool import SpoolReader

JOB = """
import math
from fleetcast.client import run
with run("hex8_2p", config={"lr": LR}, run_id="NAME") as r:
    for epoch in range(3):
        for batch in r.steps(range(4)):
            pass
        r.log_epoch(epoch, loss=LR / (epoch + 1), diverged=math.nan)
"""


def job(home: Path, name: str, lr: float, mode: str = "online") -> None:
    script = JOB.replace("NAME", name).replace("LR", str(lr))
    own = {**environment(home), "FLEETCAST_MODE": mode}
    subprocess.run([sys.executable, "-c", script], env=own, check=True, cwd=home, capture_output=True)


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with standing(tmp_path_factory.mktemp("runs")) as found:
        yield found


@pytest.fixture
def cli(stand: Stand, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Commands in this process, which has imported already what each process would import again."""

    def call(home: Path, *arguments: str, url: str = stand.url) -> Ended:
        return called_here(home, url, arguments, monkeypatch, capsys)

    return call


def spool_of(home: Path) -> Path:
    return home / "state" / "fleetcast" / "spool"


def test_what_jobs_left_is_sent_and_seen_as_runs(stand: Stand, cli: Cli) -> None:
    job(stand.home, "run-a", 0.1)
    job(stand.home, "run-b", 0.4, mode="offline")
    counted = cli(stand.home, "sync", "--dry-run", "--json")
    waiting = {spool["spool"]: spool["waiting"] for spool in counted.document["spools"]}
    spool = spool_of(stand.home)
    assert (counted.code, waiting) == (0, {str(spool): 5, str(spool.with_name("offline")): 5})
    sent = cli(stand.home, "sync")
    assert (sent.code, sent.err) == (0, "")
    assert [line.split()[1:6] for line in sent.out.strip().split("\n")[1:]] == [["5", "0", "0", "0", "0"]] * 2

    listed = cli(stand.home, "runs", "--lane", "hex8_2p", "--json")
    assert listed.code == 0, listed.out + listed.err
    assert [row["run_id"] for row in listed.document["runs"]] == ["run-b", "run-a"]
    assert cli(stand.home, "runs", "--state", "failed", "--json").document["runs"] == []
    shown = cli(stand.home, "runs", "show", "run-a")
    assert "diverged nan, loss 0.1" in shown.out
    assert "config.lr" in shown.out
    compared = cli(stand.home, "runs", "compare", "run-a", "run-b")
    assert "config.lr  0.1    0.4" in compared.out
    assert ["loss", "0.0333333", "0.133333", "0.1"] in [line.split() for line in compared.out.split("\n")]


def test_runs_are_watched_as_they_go(stand: Stand, cli: Cli) -> None:
    watching = start(stand.home, stand.url, "runs", "--lane", "watched", "--watch", "--json")
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["runs"] == []
    words = ("emit", "run.started", "run_id=run-w", "lane=watched", "node=n1")
    assert cli(stand.home, *words).code == 0
    assert json.loads(watching.stdout.readline())["runs"][0]["run_id"] == "run-w"
    watching.terminate()
    watching.communicate(timeout=60)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("runs", "show", "nothing"), 3, "there is no run nothing"),
        (("runs", "--limit", "3", "show", "run-a"), 2, "stand behind it"),
        (("sync", "--spool", "/nowhere"), 3, "there is no folder /nowhere"),
    ],
)
def test_what_cannot_be_answered_is_said_with_its_exit_code(
    stand: Stand, cli: Cli, words: tuple[str, ...], code: int, told: str
) -> None:
    done = cli(stand.home, *words)
    assert done.code == code
    assert told in done.err


def test_damage_is_an_exit_code_and_named(cli: Cli, tmp_path: Path) -> None:
    job(tmp_path, "run-d", 0.1)
    (segment,) = spool_of(tmp_path).glob("*.jsonl")
    data = segment.read_bytes()
    segment.write_bytes(data[:700] + b"\x00" * 5 + data[705:])
    done = cli(tmp_path, "sync", "--json")
    (spool,) = done.document["spools"]
    assert (done.code, spool["sent"], spool["damaged"], spool["waiting"]) == (1, 4, 1, 0)


def test_spool_that_somebody_forwards_is_left_to_them(cli: Cli, tmp_path: Path) -> None:
    job(tmp_path, "run-e", 0.1)
    with SpoolReader(spool_of(tmp_path)):
        done = cli(tmp_path, "sync")
    assert done.code == 1
    assert "another process forwards it already" in done.out


def test_without_nats_nothing_is_lost_and_the_exit_code_says_so(cli: Cli, tmp_path: Path) -> None:
    job(tmp_path, "run-f", 0.1)
    done = cli(tmp_path, "sync", "--json", url="nats://127.0.0.1:9")
    assert done.code == 6
    with SpoolReader(spool_of(tmp_path)) as reader:
        assert reader.waiting() == 5


def test_user_without_a_spool_is_told_so(cli: Cli, tmp_path: Path) -> None:
    done = cli(tmp_path, "sync")
    assert (done.code, done.out.strip()) == (0, "no spool of this user has anything")
    assert os.listdir(tmp_path) == []  # noqa: PTH208
