"""Who is not told, and which nodes are lost."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleetcast.config.incidents import IncidentSettings, MaintenanceWindow
from fleetcast.daemons.remedy.incidents.attendance import Attendance
from fleetcast.daemons.remedy.incidents.silences import ended, hush, in_force
from fleetcast.events.incidents import IncidentState, SilenceState
from fleetcast.events.payloads import DaemonState

NOW = datetime(2026, 11, 22, 2, 30, tzinfo=UTC)  # a Sunday


def incident(**changes: Any) -> IncidentState:
    base: dict[str, Any] = {
        "incident": "inc-0000000000",
        "source": "monitor",
        "resource_type": "ml_model",
        "resource_id": "hex8_2p",
        "trigger": "error_rate",
        "severity": "high",
        "title": "t",
        "began_at": "2026-11-22T02:00:00Z",
        "opened_at": "2026-11-22T02:00:00Z",
        "updated_at": "2026-11-22T02:00:00Z",
    }
    return IncidentState.model_validate(base | changes)


def silence(**changes: Any) -> SilenceState:
    base: dict[str, Any] = {
        "silence": "sil-1",
        "at": "2026-11-22T02:00:00Z",
        "until": "2026-11-22T03:00:00Z",
        "by": "ana",
        "reason": "known",
    }
    return SilenceState.model_validate(base | changes)


@pytest.mark.parametrize(
    ("rule", "about", "holds"),
    [
        ({"resource": "hex8_*"}, {}, True),
        ({"resource": "go*"}, {}, False),
        ({"trigger": "latency_*"}, {}, False),
        ({"resource": "hex8_2p", "trigger": "error_rate"}, {}, True),
        ({"node": "gpu-*"}, {}, False),
        ({"node": "gpu-*"}, {"context": {"node": "gpu-1"}}, True),
        ({"node": "gpu-*"}, {"affected": ["gpu-1"]}, True),
        ({"node": "gpu-*"}, {"resource_type": "node", "resource_id": "gpu-7"}, True),
        ({"resource": "*", "below": "critical"}, {}, True),
        ({"resource": "*", "below": "high"}, {}, False),
        ({"resource": "*", "until": "2026-11-22T02:30:00Z"}, {}, False),
        ({"resource": "*", "ended_at": "2026-11-22T02:10:00Z", "ended_by": "bob"}, {}, False),
    ],
)
def test_a_silence_holds_for_what_it_names(rule: dict[str, Any], about: dict[str, Any], holds: bool) -> None:
    assert (hush(incident(**about), [silence(**rule)], (), NOW) is not None) is holds


def test_a_silence_says_who_and_why_and_ends_when_somebody_ends_it() -> None:
    found = hush(incident(), [silence(resource="*")], (), NOW)
    assert found is not None
    assert (found.by, found.reason) == ("sil-1", "known (by ana, until 2026-11-22T03:00:00Z)")
    assert not in_force(ended(silence(resource="*"), by="bob", at=NOW), NOW)


def test_a_maintenance_window_holds_in_its_zone_and_comes_back_every_week() -> None:
    window = MaintenanceWindow.model_validate({"days": ["sun"], "from": "02:00", "to": "04:00", "node": "gpu-*"})
    about = incident(resource_type="node", resource_id="gpu-1", trigger="node_lost")
    found = hush(about, (), (window,), NOW)
    assert found is not None
    assert found.by == "maintenance"
    assert hush(about, (), (window,), NOW + timedelta(days=7)) is not None
    assert hush(about, (), (window,), NOW + timedelta(hours=2)) is None
    berlin = window.model_copy(update={"zone": "Europe/Berlin"})
    assert hush(about, (), (berlin,), NOW) is not None
    assert hush(about, (), (berlin,), NOW + timedelta(minutes=40)) is None


def test_windows_are_read_from_the_settings_and_a_wrong_one_is_refused() -> None:
    table = {"days": ["sun"], "from": "02:00", "to": "04:00", "resource": "hex8_*"}
    assert IncidentSettings.model_validate({"maintenance": [table]}).maintenance[0].resource == "hex8_*"
    with pytest.raises(ValueError, match="no time zone"):
        IncidentSettings.model_validate({"maintenance": [{**table, "zone": "Mars/Olympus"}]})


READY, STOPPED = DaemonState.READY, DaemonState.STOPPED


def attendance(now: float = 0.0) -> Attendance:
    made = Attendance(lost_after_seconds=60)
    made.listens(True, now)
    return made


def test_a_node_is_lost_once_it_is_silent_for_long_enough() -> None:
    made = attendance()
    made.hear("gpu-1", READY, 7, NOW, 0.0)
    assert made.lost(60.0) == []
    assert [(each.node, each.sequence, each.since) for each in made.lost(60.5)] == [("gpu-1", 7, NOW)]
    assert made.present("gpu-1", 60.5) is None
    made.hear("gpu-1", READY, 8, NOW, 61.0)
    assert made.lost(62.0) == []
    assert made.present("gpu-1", 62.0) is not None


def test_a_node_that_stopped_in_order_is_never_lost() -> None:
    made = attendance()
    made.hear("gpu-1", STOPPED, 7, NOW, 0.0)
    assert made.lost(1e6) == []
    assert made.present("gpu-1", 1e6) is not None


def test_nobody_is_lost_because_we_were_cut_off() -> None:
    made = attendance()
    made.hear("gpu-1", READY, 7, NOW, 0.0)
    made.listens(False, 30.0)
    assert made.lost(500.0) == []
    made.listens(True, 500.0)
    assert made.lost(559.0) == []
    assert [each.node for each in made.lost(561.0)] == ["gpu-1"]


def test_a_heartbeat_from_before_that_is_read_again_says_nothing_new() -> None:
    made = attendance()
    made.hear("gpu-1", READY, 7, NOW, 0.0)
    made.hear("gpu-1", READY, 7, NOW, 50.0)
    assert [each.node for each in made.lost(61.0)] == ["gpu-1"]


def test_a_node_never_heard_of_is_neither_lost_nor_there() -> None:
    assert attendance().present("gpu-9", 0.0) is None
