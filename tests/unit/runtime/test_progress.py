"""The watchdog is fed by proven progress and by nothing else."""

from typing import Any

from fleetcast.daemons.runtime.notify import Notifier
from fleetcast.daemons.runtime.progress import Progress, Watchdog, unproven


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ready_watchdog(manager: Any, **proofs: Any) -> Watchdog:
    watchdog = Watchdog(Notifier(address=manager.address, watchdog_seconds=30), proofs)
    watchdog.ready = True
    return watchdog


def test_progress_is_proven_for_a_while_after_it_was_made() -> None:
    clock = Clock()
    progress = Progress(within_seconds=30, clock=clock)

    clock.now += 30
    assert progress()
    clock.now += 1
    assert not progress()
    progress.made()
    assert progress()


def test_watchdog_is_fed_as_long_as_progress_is_made(manager: Any) -> None:
    clock = Clock()
    progress = Progress(within_seconds=30, clock=clock)
    watchdog = ready_watchdog(manager, bus=progress)

    for _ in range(3):
        clock.now += 25
        progress.made()
        watchdog.feed()

    assert manager.waiting() == [b"WATCHDOG=1"] * 3


def test_watchdog_starves_when_one_part_makes_no_progress(manager: Any) -> None:
    clock = Clock()
    stuck = Progress(within_seconds=30, clock=clock)
    watchdog = ready_watchdog(manager, bus=lambda: True, transfers=stuck)

    clock.now += 31

    assert not watchdog.feed()
    assert manager.waiting() == []
    stuck.made()
    assert watchdog.feed()


def test_proof_that_fails_proves_nothing(manager: Any) -> None:
    watchdog = ready_watchdog(manager, bus=lambda: bool(1 / 0))

    assert not watchdog.feed()
    assert manager.waiting() == []


def test_parts_without_progress_are_named() -> None:
    assert unproven({"bus": lambda: True, "transfers": lambda: False, "intake": lambda: False}) == [
        "intake",
        "transfers",
    ]


def test_daemon_that_waits_for_its_bus_prolongs_its_start_instead_of_being_killed(manager: Any) -> None:
    watchdog = Watchdog(Notifier(address=manager.address), {})

    watchdog.feed()

    assert manager.waiting() == [b"EXTEND_TIMEOUT_USEC=30000000"]


def test_watchdog_is_fed_three_times_in_its_time() -> None:
    assert Watchdog(Notifier(address="/x", watchdog_seconds=30), {}).interval_seconds == 10
