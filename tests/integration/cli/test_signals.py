"""Commands as processes: signals, closed pipes, and a stdout that holds nothing but data."""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.integration.cli.stand import Stand, ended, environment, standing, start
from tests.unit.cli.builders import held, node


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with standing(tmp_path_factory.mktemp("signals")) as made:
        yield made


def test_ctrl_c_ends_a_follower_with_130_and_every_line_is_json(stand: Stand) -> None:
    model = stand.fresh()
    follower = start(stand.home, stand.url, "events", "-f", "--model", model, "--json")
    stand.do(stand.promoted(model, "2"))
    assert follower.stdout is not None
    assert json.loads(follower.stdout.readline())["data"]["model"] == model
    stopped = ended(follower, signal.SIGINT)
    assert stopped.code == 130
    assert json.loads(stopped.out.splitlines()[-1])["error"]["code"] == "interrupted"


def test_sigterm_ends_a_watcher_with_143_after_whole_documents(stand: Stand) -> None:
    stand.do(stand.heartbeat(node("node-1")))
    watcher = start(stand.home, stand.url, "status", "--watch", "--json")
    assert watcher.stdout is not None
    assert json.loads(watcher.stdout.readline())["nodes"][0]["node"] == "node-1"
    stopped = ended(watcher, signal.SIGTERM)
    assert stopped.code == 143
    assert all(json.loads(line) for line in stopped.out.splitlines())


def test_ctrl_c_while_waiting_ends_with_130(stand: Stand) -> None:
    model = stand.fresh()
    stand.do(stand.promoted(model, "2"))
    stand.do(stand.heartbeat(node("node-1", held(model, "1", 0))))
    waiting = start(stand.home, stand.url, "wait", model)
    assert waiting.stderr is not None
    assert "0 of 1 nodes" in waiting.stderr.readline()
    stopped = ended(waiting, signal.SIGINT)
    assert (stopped.code, stopped.out) == (130, "")


def test_a_reader_that_goes_away_is_no_error(stand: Stand) -> None:
    stand.do(stand.promoted(stand.fresh(), "1"))
    command = f"exec 3>&1; {{ {shlex.quote(sys.executable)} -m fleetcast events; echo $? >&3; }} | true"
    done = subprocess.run(
        ["sh", "-c", command], env=environment(stand.home, stand.url), capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.strip() == "141"


def test_the_filter_for_the_nats_cli_makes_one_line_of_an_event(stand: Stand) -> None:
    event = stand.do(stand.promoted(stand.fresh(), "1"))
    command = [sys.executable, "-m", "fleetcast", "fmt"]
    for body, said in ((event.encode()[0], event.id), (b"not an event", "not an event")):
        done = subprocess.run(command, input=body, capture_output=True, timeout=60)
        assert done.returncode == 0
        assert said in done.stdout.decode()
        assert done.stdout.count(b"\n") == 1
