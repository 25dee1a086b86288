"""What counts as progress of a rung."""

from fleetcast.daemons.distributor.motion import Motion
from fleetcast.transport.protocol import Progress


def at(done: int = 0, received: int = 0, kept: int | None = None, restarts: int = 0) -> Progress:
    return Progress(done, 1000, 0, 1, received=received, kept=kept, restarts=restarts)


def moves(*seen: Progress) -> list[bool]:
    motion = Motion()
    return [motion.moved(progress) for progress in seen]


def test_bytes_that_stay_are_progress() -> None:
    assert moves(at(kept=16), at(kept=32), at(kept=32)) == [True, True, False]


def test_a_piece_that_comes_again_and_again_and_hashes_wrong_is_none() -> None:
    wrong = [at(received=100 * n, kept=500 + 100 * (n % 2)) for n in range(1, 8)]
    assert moves(*wrong) == [True] + 6 * [False]


def test_bytes_that_are_here_already_are_none() -> None:
    assert moves(at(received=100, kept=100), at(received=900, kept=100)) == [True, False]


def test_a_transport_that_does_not_say_what_it_keeps_is_taken_by_what_it_receives() -> None:
    assert moves(at(received=1), at(received=2), at(received=2), at(received=2, done=1)) == [True, True, False, True]


def test_a_check_of_the_folder_is_progress_and_what_comes_after_it_is_counted_anew() -> None:
    assert moves(at(kept=900), at(done=100), at(done=200), at(done=200, kept=300)) == [True, True, True, True]


def test_a_process_that_was_started_again_counts_anew() -> None:
    motion = Motion()
    assert motion.moved(at(received=9, kept=900))
    assert not motion.moved(at(received=9, kept=0, restarts=1))
    assert motion.moved(at(received=10, kept=16, restarts=1))
