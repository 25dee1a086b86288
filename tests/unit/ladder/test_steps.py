"""Where a transfer goes on when a transport fails: forward, or it waits; never in circles."""

from hypothesis import given
from hypothesis import strategies as st

from fleetcast.config.settings import LadderSettings
from fleetcast.transport.ladder import (
    ENDPOINTS,
    PATIENT,
    Climb,
    Fault,
    GiveUp,
    GoOn,
    Ladder,
    Left,
    Rung,
    better,
    next_step,
)

SETTINGS = LadderSettings()
THREE = Ladder(tuple(Rung(t) for t in ENDPOINTS), "")
SILENT: dict[str, int] = {}


def left(transport: str, fault: Fault, brought: int = 0, reason: str = "broken") -> Left:
    return Left(transport, fault, reason, brought)


def step(*faults: Left, live: dict[str, int], ladder: Ladder = THREE, now: float = 0.0) -> GoOn | GiveUp:
    climb = Climb()
    for fault in faults:
        climb = climb.after(fault, now, SETTINGS)
    return next_step(ladder, climb, faults[-1], live, now)


def test_a_stall_moves_on_to_the_next_rung_that_has_a_source_that_answers() -> None:
    assert step(left("bittorrent", Fault.STALLED), live={"aria2": 0, "rsync": 2}) == GoOn("rsync")
    assert step(left("bittorrent", Fault.STALLED), live={"aria2": 1, "rsync": 2}) == GoOn("aria2")


def test_a_crash_moves_on_as_well() -> None:
    assert step(left("bittorrent", Fault.CRASHED, brought=10), live={"aria2": 1}) == GoOn("aria2")


def test_a_stall_without_another_live_source_stays_where_it_is_and_waits() -> None:
    assert step(left("bittorrent", Fault.STALLED), live=SILENT) == GoOn("bittorrent", 1.0)
    assert step(left("aria2", Fault.STALLED, brought=5), live=SILENT) == GoOn("aria2", 0.0)


def test_what_failed_yields_to_the_swarm_which_can_wait_for_a_source() -> None:
    assert step(left("aria2", Fault.FAILED), live=SILENT) == GoOn("bittorrent", 0.0)


def test_the_swarm_is_waited_in_even_after_it_stalled() -> None:
    assert step(left("bittorrent", Fault.STALLED), left("aria2", Fault.FAILED), live=SILENT) == GoOn("bittorrent", 1.0)


def test_when_every_rung_has_failed_the_transfer_does_and_says_why() -> None:
    faults = (
        left("bittorrent", Fault.FAILED, reason="no space"),
        left("aria2", Fault.FAILED, reason="connection refused"),
        left("rsync", Fault.FAILED, reason="no such module"),
    )

    assert step(*faults, live={"bittorrent": 1, "aria2": 1}) == GiveUp(
        "bittorrent: no space; aria2: connection refused; rsync: no such module"
    )


def test_a_rung_that_brought_nothing_is_not_taken_again_before_it_has_rested() -> None:
    climb = Climb().after(left("bittorrent", Fault.STALLED), 0.0, SETTINGS)
    for barren in (1, 2, 4, 8, 16, 32, 60, 60):
        now = climb.of("bittorrent").rests_until
        climb = climb.after(left("aria2", Fault.FAILED), now, SETTINGS)
        rests_until = climb.of("aria2").rests_until
        assert rests_until == now + barren
        assert better(THREE, climb, "bittorrent", {"aria2": 1}, rests_until - 0.01) is None
        assert better(THREE, climb, "bittorrent", {"aria2": 1}, rests_until) == "aria2"
        climb = climb.after(left("bittorrent", Fault.STALLED), rests_until, SETTINGS)


def test_a_rung_that_brought_something_may_be_taken_again_at_once() -> None:
    climb = Climb().after(left("aria2", Fault.FAILED, brought=1), 7.0, SETTINGS)

    assert better(THREE, climb, "bittorrent", {"aria2": 1}, 7.0) == "aria2"


def test_a_rung_that_cannot_be_used_now_is_never_chosen() -> None:
    ladder = Ladder((Rung("bittorrent"), Rung("aria2", "aria2c is not installed: apt install aria2")), "")

    assert step(left("bittorrent", Fault.STALLED), live={"aria2": 3}, ladder=ladder) == GoOn("bittorrent", 1.0)
    assert isinstance(step(left("bittorrent", Fault.FAILED), live={"aria2": 3}, ladder=ladder), GiveUp)


usable = st.lists(st.sampled_from(list(ENDPOINTS)), min_size=1, unique=True)
faults = st.sampled_from(list(Fault))
sources = st.dictionaries(st.sampled_from(list(ENDPOINTS)), st.integers(0, 3))


@given(usable, st.lists(st.tuples(faults, sources, st.floats(0.0, 5.0)), min_size=1, max_size=60))
def test_without_progress_rungs_are_entered_ever_more_slowly_and_only_with_a_cause(
    names: list[str], story: list[tuple[Fault, dict[str, int], float]]
) -> None:
    """Whatever goes wrong: a rung that brings nothing is entered n times only after the first n - 1 rests."""
    ladder = Ladder(tuple(Rung(t) for t in names), "")
    climb, current, now = Climb(), names[0], 0.0
    entered = dict.fromkeys(names, 0) | {current: 1}
    for fault, live, ran in story:
        now += ran
        fell = Left(current, fault, "nothing came")
        climb = climb.after(fell, now, SETTINGS)
        found = next_step(ladder, climb, fell, live, now)
        if isinstance(found, GiveUp):
            assert not [t for t in names if live.get(t) and t != current and climb.of(t).rests_until <= now]
            return
        assert found.transport in names
        now += found.pause_seconds
        assert climb.of(found.transport).rests_until <= now
        if fault is Fault.FAILED:
            assert found.transport != current
        # A move has a cause: a source that answers there, or nothing left but to wait in the swarm.
        assert found.transport == current or live.get(found.transport) or found.transport in PATIENT
        current = found.transport
        entered[current] += 1
    for count in entered.values():
        rests = sum(min(60.0, 2.0**n) for n in range(max(0, count - 1)))
        assert now >= rests - 1e-6
