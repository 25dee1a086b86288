"""`fleetcast logs --all-nodes`, as a person types it: the lines of every daemon by time, and who does not answer."""

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.cli.stand import Cli, Stand, commands_in, ended, standing, start
from tests.unit.cli.builders import node as status

from fleetcast.daemons.runtime.recent import Recent, log_service


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with standing(tmp_path_factory.mktemp("logs-of-all")) as found:
        yield found


@pytest.fixture
def cli(stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return commands_in(tmp_path, stand.url, monkeypatch, capsys)


@contextmanager
def distributor(stand: Stand, node: str, recent: Recent) -> Iterator[None]:
    """A daemon that is heard from, and answers with what *recent* has."""

    async def beat() -> None:
        while True:
            await stand.heartbeat(status(node))
            await asyncio.sleep(1)

    stand.do(stand.heartbeat(status(node)))
    beating = stand.later(beat())
    running = stand.do(stand.bus.serve(log_service(node, "distributor", recent)))
    try:
        yield
    finally:
        beating.cancel()
        stand.do(running.stop())
        stand.do(stand.forget_nodes())


def said(recent: Recent, event: str, cid: str = "") -> None:
    recent(None, "info", {"event": event, "level": "info", **({"correlation_id": cid} if cid else {})})


def test_lines_of_all_nodes_stand_in_the_order_of_their_times_with_who_said_them(stand: Stand, cli: Cli) -> None:
    one, two = Recent(), Recent()
    for number, recent in enumerate((one, two, two, one)):
        said(recent, f"line.{number}", cid="01KAG" if number % 2 else "")
    with distributor(stand, "node-1", one), distributor(stand, "node-2", two):
        shown = cli("logs", "--all-nodes", "--json")
        last = cli("logs", "-a", "-n", "2")
        of_one = cli("logs", "-a", "--node", "node-1", "--json")
        of_cause = cli("logs", "-a", "--cid", "01K", "--json")
        other = cli("logs", "-a", "--daemon", "trainer")

    documents = [json.loads(line) for line in shown.out.splitlines()]
    assert [(d["node"], d["daemon"], d["event"]) for d in documents] == [
        ("node-1", "distributor", "line.0"),
        ("node-2", "distributor", "line.1"),
        ("node-2", "distributor", "line.2"),
        ("node-1", "distributor", "line.3"),
    ]
    assert [line.split()[1:5] for line in last.out.splitlines()] == [
        ["node-2", "distributor", "info", "line.2"],
        ["node-1", "distributor", "info", "line.3"],
    ]
    assert [json.loads(line)["event"] for line in of_one.out.splitlines()] == ["line.0", "line.3"]
    assert [json.loads(line)["event"] for line in of_cause.out.splitlines()] == ["line.1", "line.3"]
    assert (other.code, other.out) == (3, "")


def test_a_node_that_does_not_answer_is_named_and_the_others_are_shown(stand: Stand, cli: Cli) -> None:
    one = Recent()
    said(one, "here")
    with distributor(stand, "node-1", one):
        stand.do(stand.heartbeat(status("node-3")))
        shown = cli("logs", "--all-nodes")

    assert (shown.code, shown.err) == (0, "node-3 distributor does not answer\n")
    assert "here" in shown.out


def test_nobody_to_ask_ends_with_3(cli: Cli) -> None:
    assert cli("logs", "--all-nodes").code == 3


def test_a_line_that_says_it_is_of_another_node_is_shown_as_of_the_one_that_answered(stand: Stand, cli: Cli) -> None:
    recent = Recent()
    recent(None, "info", {"event": "lie", "node": "node-9", "daemon": "registry"})
    with distributor(stand, "node-1", recent):
        (line,) = cli("logs", "-a", "--json").out.splitlines()

    assert (json.loads(line)["node"], json.loads(line)["daemon"]) == ("node-1", "distributor")


def test_following_shows_every_line_once_also_of_a_daemon_that_was_started_anew(stand: Stand, tmp_path: Path) -> None:
    first = Recent()
    said(first, "before")
    with distributor(stand, "node-1", first):
        process = start(tmp_path, stand.url, "logs", "-a", "-f")
        assert process.stdout is not None
        shown = [process.stdout.readline()]
        for number in range(3):
            said(first, f"line.{number}")
            shown.append(process.stdout.readline())
    second = Recent()
    said(second, "again")
    with distributor(stand, "node-1", second):
        shown.append(process.stdout.readline())
        stopped = ended(process, signal.SIGINT)

    assert [line.split()[4] for line in shown] == ["before", "line.0", "line.1", "line.2", "again"]
    assert stopped.out == ""
    assert "node-1 distributor was started anew" in stopped.err
