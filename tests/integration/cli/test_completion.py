"""The Tab key: names of the fleet, quickly, or nothing at all."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from tests.integration.cli.stand import Stand, live_in, standing
from tests.unit.cli.builders import node as status

from fleetcast.cli.completing import ASK_SECONDS, completer


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with standing(tmp_path_factory.mktemp("completion")) as found:
        found.do(found.order("chess", "1", "event-1", 1))
        found.do(found.order("checkers", "1", "event-2", 2))
        found.do(found.heartbeat(status("node-1")))
        yield found


def offered(metavar: str, typed: str, home: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    live_in(home, url, monkeypatch)
    complete = completer(metavar)
    assert complete is not None
    context = typer.Context.__new__(typer.Context)
    context.params = {}
    return complete(context, typed)


@pytest.mark.parametrize(
    ("metavar", "typed", "names"),
    [
        ("MODEL", "che", ["checkers", "chess"]),
        ("MODEL[@VERSION]", "ches", ["chess"]),
        ("NODE", "", ["node-1"]),
        ("MODEL|NODE", "", ["checkers", "chess", "node-1"]),
        ("RUN", "", []),
    ],
)
def test_names_of_the_fleet_are_offered(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metavar: str, typed: str, names: list[str]
) -> None:
    # A busy machine may need more than the third of a second that a person is made to wait.
    monkeypatch.setattr("fleetcast.cli.completing.ASK_SECONDS", 30.0)

    assert offered(metavar, typed, tmp_path, stand.url, monkeypatch) == names


def test_what_has_no_names_is_completed_by_nothing() -> None:
    assert completer("FILE") is None
    assert completer("DURATION") is None


def test_a_bus_that_is_away_or_says_nothing_costs_a_moment_and_not_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        assert offered("MODEL", "", tmp_path, f"nats://127.0.0.1:{port}", monkeypatch) == []
        took = time.monotonic() - began
    assert offered("MODEL", "", tmp_path, f"nats://127.0.0.1:{port}", monkeypatch) == []

    # The promise is ASK_SECONDS; the rest is for machines that do much else.
    assert took < ASK_SECONDS + 10
    assert capfd.readouterr() == ("", "")
