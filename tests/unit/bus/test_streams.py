import copy
from typing import Any

import pytest

from fleetcast.bus.streams import (
    CANARY_STREAM,
    DECLARATION,
    DECLARATION_KEY,
    EVENTS,
    STREAMS,
    StreamSpec,
    differences,
    plan,
)

SPEC = StreamSpec("FC_X", "test", subjects=("fc.x.>",), max_age_seconds=3600)


def as_server_says(config: dict[str, Any]) -> dict[str, Any]:
    """What a server makes of a configuration: empty fields left out, fields and metadata of its own added."""
    found = {name: value for name, value in copy.deepcopy(config).items() if value not in (False, [], 0, "", None)}
    found["metadata"]["_nats.ver"] = "2.15.1"
    found["mirror_direct"] = False
    found["persist_mode"] = "default"
    return found


def test_what_the_server_adds_and_leaves_out_is_no_difference() -> None:
    config = SPEC.config(1)

    assert differences(config, as_server_says(config)) == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [("duplicate_window", 120 * 10**9), ("deny_purge", True), ("subjects", ["fc.y.>"]), ("max_bytes", 5)],
)
def test_a_field_that_differs_is_named(name: str, value: object) -> None:
    config = SPEC.config(1)

    assert (name,) == differences(config, {**as_server_says(config), name: value})


def test_a_duplicate_window_that_is_missing_is_a_difference() -> None:
    config = SPEC.config(1)
    found = as_server_says(config)
    del found["duplicate_window"]

    assert differences(config, found) == ("duplicate_window",)


def test_a_source_that_differs_in_its_transform_is_a_difference() -> None:
    config = next(spec for spec in STREAMS if spec.name == EVENTS).config(1)
    found = as_server_says(config)
    found["sources"][0]["subject_transforms"][0]["dest"] = "fc.ev.>"

    assert differences(config, found) == ("sources",)


def test_a_workstation_never_takes_replicas_from_a_fleet() -> None:
    found = as_server_says(SPEC.config(3))

    config, change = plan(SPEC, 1, found)

    assert config is None
    assert change is not None
    assert (change.action, change.fields) == ("kept", ("num_replicas",))


def test_a_change_from_a_workstation_keeps_the_replicas_of_a_fleet() -> None:
    found = {**as_server_says(SPEC.config(3)), "max_age": 1}

    config, change = plan(SPEC, 1, found)

    assert config is not None
    assert config["num_replicas"] == 3
    assert change is not None
    assert change.fields == ("max_age",)


def test_replicas_are_added_when_the_settings_ask_for_more() -> None:
    config, _ = plan(SPEC, 3, as_server_says(SPEC.config(1)))

    assert config is not None
    assert config["num_replicas"] == 3


def test_an_older_fleetcast_leaves_a_newer_declaration_alone() -> None:
    found = {**as_server_says(SPEC.config(1)), "max_age": 1, "metadata": {DECLARATION_KEY: str(DECLARATION + 1)}}

    config, change = plan(SPEC, 1, found)

    assert config is None
    assert change is not None
    assert change.action == "kept"


def test_every_stream_states_its_duplicate_window() -> None:
    windows = {spec.name: spec.config(1)["duplicate_window"] // 10**9 for spec in STREAMS}

    assert windows.pop("KV_fc_leases") == 30
    assert set(windows.values()) == {1800}


def test_no_stream_answers_from_followers() -> None:
    assert not any(spec.config(3)["allow_direct"] for spec in STREAMS)


def test_every_stream_has_a_limit_or_is_a_record_for_ever() -> None:
    unlimited = {spec.name for spec in STREAMS if spec.max_bytes < 0 and not spec.deny_purge}

    assert unlimited == set()


def test_sources_come_before_the_streams_that_copy_them() -> None:
    names = [spec.name for spec in STREAMS]

    assert all(names.index(s.stream) < names.index(spec.name) for spec in STREAMS for s in spec.sources)


def test_the_canary_is_one_message_per_daemon() -> None:
    assert CANARY_STREAM.max_messages_per_subject == 1


def test_a_fleet_of_thousands_may_read_every_stream_although_servers_stop_at_a_thousand_readers() -> None:
    assert all(spec.config(3)["max_consumers"] > 10_000 for spec in STREAMS)
