"""Who is far behind the others, and why; and the fleet as a whole."""

from tests.unit.cli.builders import transfer

from fleetcast.events.state import TransferStatus
from fleetcast.registry.picture.pace import newest, slow_nodes, summary

MIB = 2.0**20


def running(node: str, rate: float, **more: object) -> TransferStatus:
    return transfer(node, seconds=10.0, rate_bytes_per_second=rate * MIB, peers=2, **more)  # type: ignore[arg-type]


def test_a_node_below_half_of_the_median_is_named_with_both_rates() -> None:
    found = slow_nodes([running("a", 30), running("b", 32), running("c", 4)])
    assert found == {
        "c": "its link: 2 sources are connected, and neither its disk nor verification holds it up"
        " (4.0 MiB/s, median 30.0 MiB/s)"
    }


def test_what_a_node_says_of_itself_counts_more_than_the_comparison() -> None:
    disk = "its disk: 40 MiB wait to be written"
    found = slow_nodes([running("a", 30), running("b", 32), running("c", 4, slow=disk)])
    assert found["c"] == f"{disk} (4.0 MiB/s, median 30.0 MiB/s)"


def test_a_node_that_knows_its_reason_is_named_without_any_comparison() -> None:
    assert slow_nodes([running("a", 30, slow="its link: its own cap of 30.0 MiB/s ([limits])")]) == {
        "a": "its link: its own cap of 30.0 MiB/s ([limits])"
    }


def test_two_nodes_are_too_few_to_say_who_is_slow() -> None:
    assert slow_nodes([running("a", 30), running("c", 1)]) == {}


def test_nodes_that_are_done_say_how_fast_it_can_go() -> None:
    done = [transfer(n, state="installed", done=100, seconds=1e-6, bytes_by_source={"o": 100}) for n in ("a", "b", "c")]
    assert "d" in slow_nodes([*done, running("d", 1)])


def test_the_first_second_of_a_transfer_is_not_judged() -> None:
    young = transfer("c", seconds=1.0, rate_bytes_per_second=1.0)
    assert slow_nodes([running("a", 30), running("b", 32), young]) == {}


def test_the_newest_transfer_of_a_node_stands_for_it_and_a_running_one_before_all() -> None:
    old = transfer("a", state="failed", transfer="t1", started_at="2026-11-21T12:00:05Z")
    now = transfer("a", transfer="t2", started_at="2026-11-21T12:00:00Z")
    assert [t.transfer for t in newest([now, old])] == ["t2"]


def test_a_fleet_of_300_is_summed_up() -> None:
    fleet = [running(f"n{i:03}", 10, done=50, eta_seconds=float(i % 7)) for i in range(290)]
    fleet += [transfer(f"m{i}", state="installed", done=100) for i in range(10)]
    whole = summary(fleet)
    assert whole.states == {"fetching": 290, "installed": 10}
    assert (whole.percent, whole.left_seconds) == (50, 6.0)
    assert whole.rate == 2900 * MIB
