"""ULIDs: unique and growing within a process, in threads, after fork, inside signal handlers."""

import os
import signal
import subprocess
import sys
import threading

from fleetcast.client.ulid import UlidFactory, crockford, new_ulid

ALPHABET = set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


def test_ulid_has_26_digits_of_crockford() -> None:
    assert len(new_ulid()) == 26
    assert set(new_ulid()) <= ALPHABET


def test_ulid_begins_with_its_time() -> None:
    # The example of the ULID specification.
    assert UlidFactory()(1469918176385).startswith("01ARYZ6S41")


def test_ulids_grow_within_a_millisecond_and_when_the_clock_goes_back() -> None:
    factory = UlidFactory()
    made = [factory(ms) for ms in (1000, 1000, 1001, 5, 1001, 2000, 0)]
    assert made == sorted(set(made))


def test_ulids_grow_over_the_carry_into_their_constant_part() -> None:
    factory = UlidFactory()
    factory._low = 2**20 - 3
    made = [factory(1000) for _ in range(5)]
    assert made == sorted(set(made))


def test_two_processes_do_not_begin_alike() -> None:
    assert UlidFactory()(1000) != UlidFactory()(1000)


def test_threads_share_no_ulid() -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend(new_ulid() for _ in range(500))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4000


def test_parent_and_child_share_no_ulid_after_fork() -> None:
    script = """
import os
from fleetcast.client.ulid import new_ulid
new_ulid()
child = os.fork()
made = [new_ulid(1000) for _ in range(50)] + [new_ulid() for _ in range(50)]
os.write(1, ("\\n".join(made) + "\\n").encode())
if child:
    os.waitpid(child, 0)
"""
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert len(made) == 200
    assert len(set(made)) == 200


def test_a_signal_handler_may_make_an_id_while_its_thread_makes_one() -> None:
    made: list[str] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: made.append(new_ulid()))
    try:
        with new_ulid._lock:
            os.kill(os.getpid(), signal.SIGUSR1)
            made.append(new_ulid())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(set(made)) == 2


def test_crockford_pads_to_its_width() -> None:
    assert crockford(31, 4) == "000Z"
