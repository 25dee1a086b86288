"""Why a transfer is slow, from what its own node measures."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.daemons.distributor.pressure import disk_stall
from fleetcast.daemons.distributor.slowness import BACKLOG_BYTES, DISK_QUEUE_BYTES, MIB, Held, Vitals, diagnose

HEALTHY = Vitals(
    state="fetching",
    bytes_total=1000 * MIB,
    bytes_done=400 * MIB,
    bytes_proven=396 * MIB,
    rate=30.0 * MIB,
    proves_on_the_way=True,
    peers=3,
    known=3,
    disk_queue=2 * MIB,
    disk_stall=0.01,
)


def held(vitals: Vitals) -> Held | None:
    slow = diagnose(vitals)
    return None if slow is None else slow.held


def test_a_transfer_that_runs_well_is_not_called_slow() -> None:
    assert diagnose(HEALTHY) is None


def test_a_transfer_whose_turn_has_not_come_says_how_many_run() -> None:
    slow = diagnose(Vitals(state="waiting", bytes_total=1, bytes_done=0, bytes_proven=0, running=4))
    assert str(slow) == "waiting for its turn: 4 transfers run at once here (distributor.parallel_transfers)"


def test_nobody_who_can_be_reached_is_named_with_how_many_are_known() -> None:
    alone = replace(HEALTHY, peers=0, rate=0.0, idle_seconds=7.0)
    assert str(diagnose(alone)) == "its sources: none of 3 that are known can be reached, for 7 s"
    assert str(diagnose(replace(alone, known=0))) == "its sources: no node is known to have it, for 7 s"
    assert str(diagnose(replace(alone, answering=0))) == "its sources: no node that has all of it answers, for 7 s"


def test_a_short_silence_is_no_fault_of_anybody() -> None:
    assert diagnose(replace(HEALTHY, peers=0, idle_seconds=2.9)) is None
    assert diagnose(replace(HEALTHY, idle_seconds=2.9)) is None


def test_connected_sources_that_send_nothing_are_told_from_sources_that_are_away() -> None:
    silent = diagnose(replace(HEALTHY, idle_seconds=4.0, peers=1))
    assert str(silent) == "its sources: the one that is connected has sent no byte for 4 s"


def test_sources_that_have_nothing_more_are_told_from_those_that_send_nothing() -> None:
    alone = replace(HEALTHY, idle_seconds=6.0, peers=2)
    assert str(diagnose(replace(alone, answering=1))).endswith("the 2 that are connected have sent no byte for 6 s")
    assert str(diagnose(replace(alone, answering=0))) == (
        "its sources: no node that has all of it answers, and the 2 that are connected have nothing that is missing "
        "here, for 6 s"
    )


@pytest.mark.parametrize("measured", [{"disk_queue": DISK_QUEUE_BYTES}, {"disk_stall": 0.4}])
def test_a_disk_that_does_not_keep_up_is_named_by_either_measure(measured: dict[str, float]) -> None:
    assert held(replace(HEALTHY, **measured)) is Held.DISK  # type: ignore[arg-type]


def test_what_is_not_measured_accuses_nobody() -> None:
    assert diagnose(replace(HEALTHY, disk_queue=None, disk_stall=None, cap=None)) is None


def test_bytes_that_are_here_and_not_proven_are_the_fault_of_verification() -> None:
    whole = replace(HEALTHY, bytes_done=1000 * MIB, verifying_seconds=5.0, idle_seconds=5.0)
    assert str(diagnose(whole)) == ("verification: all bytes are here, 396 of 1000 MiB proven 5 s after the last one")
    assert diagnose(replace(whole, verifying_seconds=1.0)) is None


def test_a_backlog_counts_only_where_pieces_are_proven_while_the_rest_arrives() -> None:
    behind = replace(HEALTHY, bytes_proven=HEALTHY.bytes_done - BACKLOG_BYTES, rate=1.0 * MIB)
    assert held(behind) is Held.VERIFICATION
    # A transport that hands over whole files has a backlog of everything, and nothing is wrong with that.
    assert diagnose(replace(behind, proves_on_the_way=False)) is None


def test_pieces_in_flight_on_a_fast_link_are_no_backlog() -> None:
    assert diagnose(replace(HEALTHY, bytes_proven=HEALTHY.bytes_done - BACKLOG_BYTES, rate=500.0 * MIB)) is None


def test_a_transfer_at_its_own_cap_is_slow_by_order() -> None:
    capped = replace(HEALTHY, cap=5 * MIB, rate=4.9 * MIB)
    assert str(diagnose(capped)) == "its link: its own cap of 5.0 MiB/s ([limits])"
    assert diagnose(replace(capped, rate=1.0 * MIB)) is None


def test_a_transport_that_uses_up_its_share_of_the_cap_is_held_by_the_cap() -> None:
    shared = replace(HEALTHY, cap=4 * MIB, share=1 * MIB, rate=0.9 * MIB)
    assert str(diagnose(shared)) == "its link: its own cap of 4.0 MiB/s ([limits]), 1.0 of it for this transport now"


def test_who_moves_as_much_as_its_cap_allows_is_held_by_nothing_else() -> None:
    busy = replace(HEALTHY, cap=5 * MIB, rate=5.0 * MIB, disk_queue=DISK_QUEUE_BYTES)
    assert held(busy) is Held.LINK
    assert held(replace(busy, rate=1.0 * MIB)) is Held.DISK


@pytest.mark.parametrize("state", ["installed", "failed", "stopped", "superseded"])
def test_what_has_ended_is_not_slow(state: str) -> None:
    assert diagnose(replace(HEALTHY, state=state, peers=0, idle_seconds=99.0)) is None


@given(
    state=st.sampled_from(["waiting", "fetching", "verifying", "installed"]),
    done=st.integers(0, 100),
    proven=st.integers(0, 100),
    rate=st.floats(0, 1e10),
    idle=st.floats(0, 1e6),
    peers=st.integers(0, 300),
    stall=st.none() | st.floats(0, 1),
)
def test_every_reason_is_one_line_that_begins_with_what_is_to_blame(
    state: str, done: int, proven: int, rate: float, idle: float, peers: int, stall: float | None
) -> None:
    slow = diagnose(
        Vitals(
            state=state,
            bytes_total=100,
            bytes_done=done,
            bytes_proven=proven,
            rate=rate,
            idle_seconds=idle,
            verifying_seconds=idle,
            peers=peers,
            disk_stall=stall,
        )
    )
    if slow is not None:
        assert str(slow).startswith(f"{slow.held.value}: ")
        assert "\n" not in str(slow)


def test_the_kernels_pressure_is_read_as_a_share_of_time() -> None:
    shown = "some avg10=52.10 avg60=0.29 avg300=0.50 total=1\nfull avg10=37.50 avg60=0.14 avg300=0.40 total=2\n"
    assert disk_stall(shown) == 0.375
    assert disk_stall("some avg10=1.00\n") is None
