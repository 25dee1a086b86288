"""A sheet takes what is declared; its text says exactly that."""

import threading
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleetcast.daemons.metrics import process
from fleetcast.daemons.metrics.catalogue import shown_by
from fleetcast.daemons.metrics.exposition import Exposition
from fleetcast.daemons.metrics.sheet import Sheet
from fleetcast.daemons.metrics.tally import MOST_KINDS, Distribution, Tally
from fleetcast.daemons.metrics.vitals import kind_of


def sheet(daemon: str = "distributor") -> Sheet:
    return Sheet("node-1", daemon)


@pytest.mark.parametrize(
    ("daemon", "name", "labels"),
    [
        ("distributor", "fleetcast_unheard_of", {}),
        ("registry", "fleetcast_disk_free_bytes", {}),
        ("distributor", "fleetcast_disk_free_bytes", {"path": "/srv"}),
        ("distributor", "fleetcast_transport_available", {}),
    ],
)
def test_what_is_not_declared_cannot_be_shown(daemon: str, name: str, labels: dict[str, str]) -> None:
    with pytest.raises(KeyError):
        sheet(daemon).put(name, 1, **labels)


def test_what_nobody_knows_is_not_shown_as_nothing() -> None:
    made = sheet()
    made.put("fleetcast_disk_free_bytes", None)
    made.put("fleetcast_spool_entries", 0)

    assert "fleetcast_disk_free_bytes" not in made.values
    assert made.values["fleetcast_spool_entries"] == {("node-1",): 0.0}


def test_the_text_has_every_family_of_the_daemon_and_the_values_of_the_newest_sheet_only() -> None:
    exposition = Exposition("registry")
    first, second = sheet("registry"), sheet("registry")
    first.put("fleetcast_node_up", 1, node='node"2\\')
    second.put("fleetcast_node_up", 0, node="node-3")

    families = {f.name: f for f in text_string_to_metric_families(exposition.write(first).decode())}
    assert families.keys() == {metric.family for metric in shown_by("registry")}
    assert [s.labels for s in families["fleetcast_node_up"].samples] == [{"node": 'node"2\\'}]
    families = {f.name: f for f in text_string_to_metric_families(exposition.write(second).decode())}
    assert [(s.labels, s.value) for s in families["fleetcast_node_up"].samples] == [({"node": "node-3"}, 0.0)]


def test_two_daemons_of_one_process_share_nothing() -> None:
    one, other = Exposition("registry"), Exposition("remedy")

    assert b"fleetcast_node_up" in one.write(sheet("registry"))
    assert b"fleetcast_node_up" not in other.write(sheet("remedy"))


def test_a_distribution_counts_each_value_below_all_bounds_that_are_not_less() -> None:
    spread = Distribution((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 7.0):
        spread.observe(value)
    made = sheet()
    made.spread("fleetcast_handler_duration_seconds", spread)

    assert spread.cumulative() == [(1.0, 2), (2.0, 3), (float("inf"), 4)]
    text = Exposition("distributor").write(made).decode()
    assert 'fleetcast_handler_duration_seconds_bucket{daemon="distributor",le="+Inf",node="node-1"} 4.0' in text
    assert 'fleetcast_handler_duration_seconds_sum{daemon="distributor",node="node-1"} 10.0' in text


def test_a_tally_of_names_that_others_choose_stays_small() -> None:
    tally: Tally[int] = Tally()
    for number in range(3 * MOST_KINDS):
        tally.note(number)
    tally.note(1)

    assert len(tally.counts) == MOST_KINDS
    assert tally.counts[1] == 2


@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        ("fc.ev.model.promoted.hex8", "model.promoted"),
        ("fc.ev.MODEL_PROMOTED.hex8", "model.promoted"),
        ("fc.work.gpu.hex8", "job"),
        ("fc.ev.secret.word.of.a.sender", "other"),
        ("", "other"),
    ],
)
def test_a_message_is_counted_under_a_name_of_the_catalogue(subject: str, kind: str) -> None:
    assert kind_of(subject) == kind


def test_a_process_is_shown_as_it_is_though_the_rest_of_proc_is_hidden(tmp_path: Path) -> None:
    hidden = tmp_path / "self"
    hidden.mkdir()
    (hidden / "stat").write_text((process.SELF / "stat").read_text())
    (hidden / "fd").mkdir()
    made = sheet()
    process.read(made, hidden)

    begun, resident = made.values["process_start_time_seconds"][()], made.values["process_resident_memory_bytes"][()]
    assert begun == pytest.approx(psutil.Process().create_time(), abs=5)
    assert resident == pytest.approx(psutil.Process().memory_info().rss, rel=0.5)
    assert made.values["process_open_fds"][()] == 0


def test_where_there_is_no_proc_nothing_is_said_of_the_process(tmp_path: Path) -> None:
    made = sheet()
    process.read(made, tmp_path / "nowhere")
    assert made.values == {}


def test_a_text_is_written_beside_the_loop() -> None:
    """The library keeps locks of its own: a text that is made in another thread is the same."""
    made = sheet()
    made.put("fleetcast_spool_entries", 3)
    exposition, found = Exposition("distributor"), list[bytes]()
    thread = threading.Thread(target=lambda: found.append(exposition.write(made)))
    thread.start()
    thread.join(30)

    assert b'fleetcast_spool_entries{node="node-1"} 3.0' in found[0]
