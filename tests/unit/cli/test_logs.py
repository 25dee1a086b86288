"""`fleetcast logs`: log files merged by time, in every form that processes write."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from fleetcast.cli.entry import run
from fleetcast.cli.logs import Reader, parse_line


def entry(at: str, event: str, **more: object) -> str:
    said = {
        "timestamp": f"2026-01-05T{at}Z",
        "level": "info",
        "event": event,
        "node": "node-1",
        "daemon": "distributor",
    }
    return json.dumps(said | more) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "node-1.distributor.log").write_text(
        entry("12:00:01.000", "transfer.started", correlation_id="01ABC")
        + "Traceback (most recent call last):\n"
        + entry("12:00:03.000", "version.installed", correlation_id="01ABC")
    )
    (logs / "node-2.distributor.log").write_text(entry("12:00:02.000", "transfer.started", node="node-2"))
    return tmp_path


def test_lines_of_all_files_come_in_the_order_of_their_times(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["logs", "--folder", str(folder)]) == 0
    lines = [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()]
    assert [node for _day, _time, node, _rest in lines] == ["node-1", "node-1", "node-2", "node-1"]
    assert [day for day, *_ in lines] == ["2026-01-05"] * 4, "a day that is not today is named"
    assert "Traceback" in lines[1][-1]


def test_lines_are_chosen_by_node_daemon_and_the_start_of_the_correlation_id(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["logs", "--folder", str(folder), "--cid", "01AB", "--json"])
    assert [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()] == [
        "transfer.started",
        "version.installed",
    ]
    run(["logs", "--folder", str(folder), "--node", "node-2"])
    assert len(capsys.readouterr().out.splitlines()) == 1
    run(["logs", "--folder", str(folder), "--daemon", "nats"])
    assert capsys.readouterr().out == ""


def test_only_the_newest_lines_are_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["logs", "--folder", str(folder), "-n", "1"])
    assert "version.installed" in capsys.readouterr().out


def test_a_line_that_is_still_being_written_waits_for_its_end(tmp_path: Path) -> None:
    log = tmp_path / "node-1.distributor.log"
    log.write_text('{"event": "ha')
    with closing(Reader(log)) as reader:
        assert list(reader.lines()) == []
        with log.open("a") as more:
            more.write('lf"}\n')
        assert [line.fields["event"] for line in reader.lines()] == ["half"]


def test_the_server_s_own_lines_are_understood() -> None:
    fields = parse_line("[71] 2026/11/21 02:14:15.100215 [WRN] Filestore slow", "nats")
    assert (fields["level"], fields["event"], fields["daemon"]) == ("warning", "Filestore slow", "nats")
    assert str(fields["timestamp"]).endswith("+00:00")
