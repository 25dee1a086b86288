"""How other commands find a running `up`, and how two of them are kept apart."""

from pathlib import Path

import pytest

from fleetcast.cli.local.layout import Layout, node_names, node_settings, write_settings
from fleetcast.cli.local.ups import announced, held, running_ups
from fleetcast.cli.problems import Problem
from fleetcast.config.loader import load


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_a_running_up_is_found_and_one_that_ended_is_not(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "fleet")
    with held(layout), announced(layout, "nats://127.0.0.1:1"):
        (found,) = running_ups()
        assert (found.folder, found.url) == (layout.folder, "nats://127.0.0.1:1")
    assert running_ups() == ()


def test_a_note_left_by_a_killed_up_finds_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "fleet")
    with announced(layout, "nats://127.0.0.1:1"):
        # The lock, which the kernel gives back when a process is killed, is not held.
        assert running_ups() == ()


def test_a_second_up_on_one_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "fleet")
    with held(layout), pytest.raises(Problem) as refused, held(layout):
        pass
    assert refused.value.code == "already_up"
    assert "--folder" in refused.value.next_step


def test_half_a_note_is_passed_over(tmp_path: Path) -> None:
    notes = tmp_path / "state" / "fleetcast" / "up"
    notes.mkdir(parents=True)
    (notes / "x.json").write_text('{"folder": ')
    assert running_ups() == ()


def test_the_settings_of_a_local_node_come_back_as_they_were_written(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    settings = node_settings(layout, "node-2", "nats://127.0.0.1:4242", publish=(tmp_path / "x",), download_limit=5)
    write_settings(layout.node_config("node-2"), settings)
    assert load(layout.node_config("node-2"), env={}).settings == settings


def test_nodes_are_numbered_from_one() -> None:
    assert node_names(3) == ("node-1", "node-2", "node-3")
