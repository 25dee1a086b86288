"""How other commands find a running `up`, and how two of them are kept apart."""

from pathlib import Path

import pytest

from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, target
from fleetcast.cli.local.layout import Layout, node_names, node_settings, write_settings
from fleetcast.cli.local.ups import announced, held, running_ups
from fleetcast.cli.output import Output
from fleetcast.cli.problems import Problem
from fleetcast.config.loader import load


@pytest.fixture(autouse=True)
def a_home_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NATS_URL", "NATS_CONTEXT", "FLEETCAST_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


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


def aim(*, server: str | None = None, config: Path | None = None) -> Target:
    return target(Call(Output(json_mode=False), config=config, server=server))


def fleet_at(folder: Path, url: str) -> Layout:
    layout = Layout(folder)
    write_settings(layout.config, node_settings(layout, "node-1", url))
    return layout


def test_a_command_means_the_running_up_when_nothing_else_is_said(tmp_path: Path) -> None:
    layout = fleet_at(tmp_path / "fleet", "nats://127.0.0.1:1")
    assert aim().up is None
    with held(layout), announced(layout, "nats://127.0.0.1:1"):
        assert (aim().settings.bus.url, aim().node) == ("nats://127.0.0.1:1", "node-1")


def test_the_address_of_a_running_up_means_that_up_with_all_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = fleet_at(tmp_path / "fleet", "nats://127.0.0.1:1")
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    with held(layout), announced(layout, "nats://127.0.0.1:1"):
        assert aim().node == "node-1"
        assert aim(server="nats://elsewhere:4222").up is None


def test_a_settings_file_is_never_overruled_by_a_running_up(tmp_path: Path) -> None:
    layout = fleet_at(tmp_path / "fleet", "nats://127.0.0.1:1")
    (tmp_path / "fleetcast.toml").write_text('[node]\nid = "gpu-1"\n')
    with held(layout), announced(layout, "nats://127.0.0.1:1"):
        assert (aim().up, aim().node) == (None, "gpu-1")


def test_between_two_ups_the_person_chooses(tmp_path: Path) -> None:
    one, two = (fleet_at(tmp_path / name, f"nats://127.0.0.1:{port}") for name, port in (("a", 1), ("b", 2)))
    with held(one), held(two), announced(one, "nats://127.0.0.1:1"), announced(two, "nats://127.0.0.1:2"):
        with pytest.raises(Problem) as refused:
            aim()
        assert str(two.config) in refused.value.next_step
        assert aim(config=two.config).settings.bus.url == "nats://127.0.0.1:2"


def test_half_a_note_is_passed_over(tmp_path: Path) -> None:
    notes = tmp_path / "state" / "fleetcast" / "up"
    notes.mkdir(parents=True)
    (notes / "x.json").write_text('{"folder": ')
    assert running_ups() == ()


def test_the_settings_of_a_local_node_come_back_as_they_were_written(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    settings = node_settings(
        layout, "node-2", "nats://127.0.0.1:4242", publish=(tmp_path / "x",), download_limit=65_536
    )
    write_settings(layout.node_config("node-2"), settings)
    assert load(layout.node_config("node-2"), env={}).settings == settings


def test_nodes_are_numbered_from_one() -> None:
    assert node_names(3) == ("node-1", "node-2", "node-3")
