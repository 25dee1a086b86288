"""Every bad command comes to an end that says what it was, and leaves nothing behind."""

import asyncio
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from tests.integration.trainer.supervision.stand import (
    CANNOT_GIVE_WAY,
    GIVES_UP_AT_ONCE,
    KEEPS_NO_RESERVE,
    LEAVES_THE_REST,
    LOOKS_OFTEN,
    MEETS_WHAT_NOTHING_ENDS,
    NO_CAGE,
    SIGNALS_THE_GROUP,
    Stand,
    ended,
    lives,
    number_in,
    until,
)

from fleetcast.daemons.trainer.supervision.child import TALK
from fleetcast.daemons.trainer.supervision.folder import RESERVE, read_state
from fleetcast.daemons.trainer.supervision.processes import marked
from fleetcast.daemons.trainer.supervision.supervisors import START_SECONDS, SupervisionFailed

pytestmark = pytest.mark.asyncio

DAEMON = "(setsid sh -c 'echo $$ > pid; exec sleep 300' &) ; while ! test -s pid; do sleep 0.01; done"
"""A grandchild in a session of its own, whose parent has gone."""
SAVES_WITH_A_WORKER = """
import os, signal, subprocess, sys, time
worker = subprocess.Popen(["sleep", "300"])
def save(*_):
    time.sleep(0.3)
    alive = worker.poll() is None
    open("saved", "w").write(str(alive))
    worker.kill()
    os._exit(0 if alive else 9)
signal.signal(signal.SIGTERM, save)
open("ready", "w").write("1")
while True:
    time.sleep(0.05)
"""


async def test_a_command_that_ends_says_its_status_and_its_last_words(stand: Stand) -> None:
    script = 'echo begun; i=0; while [ $i -lt 60 ]; do echo "line $i" >&2; i=$((i+1)); done; exit 3'
    end = await stand.outcome("sh", "-c", script)
    assert (end.code, end.signal, end.reason) == (3, None, "ended")
    assert end.stderr_tail == tuple(f"line {i}" for i in range(20, 60))
    assert stand.log() == b"begun\n"
    assert not end.ok


async def test_a_command_that_does_not_exist_is_an_end_and_no_error(stand: Stand) -> None:
    end = await stand.outcome("nonesuch-program")
    assert end.reason == "could_not_start"
    assert "nonesuch-program: No such file or directory" in end.text


async def test_a_folder_that_does_not_exist_is_named(stand: Stand) -> None:
    end = await stand.outcome("true", cwd="/nonesuch/place")
    assert (end.reason, end.code) == ("could_not_start", None)
    assert "/nonesuch/place" in end.text


async def test_a_file_that_is_no_program_is_named(stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    end = await stand.outcome(str(tmp_path / "notes.txt"))
    assert end.reason == "could_not_start"
    assert "Permission denied" in end.text


async def test_a_name_that_is_taken_holds_no_start_up(stand: Stand) -> None:
    for name in (TALK, "stdout.log", "stderr.log"):
        (stand.home / "run-1" / name).mkdir(parents=True)
    began = asyncio.get_running_loop().time()
    end = await stand.outcome("sh", "-c", "echo hello; echo oops >&2")
    assert (end.code, end.stderr_tail) == (0, ("oops",))
    assert end.log_lost_bytes > 0
    assert asyncio.get_running_loop().time() - began < START_SECONDS / 2


async def test_a_command_that_exits_at_once_has_ended_before_anybody_asks(stand: Stand) -> None:
    handle = await stand.start(stand.spec("true"))
    await until(lambda: not handle.alive())
    assert (await ended(handle)).ok


async def test_a_crash_of_the_runtime_is_seen_as_its_signal(stand: Stand) -> None:
    end = await stand.outcome("sh", "-c", "echo 'HSA_STATUS_ERROR code: 0x29' >&2; kill -ABRT $$")
    assert (end.code, end.signal) == (None, signal.SIGABRT)
    assert end.text == "killed by SIGABRT"
    assert end.stderr_tail[-1] == "HSA_STATUS_ERROR code: 0x29"
    assert not list(stand.home.glob("run-1/core*"))


@pytest.mark.parametrize("changes", [(), (NO_CAGE,)], ids=["with control groups", "without"])
async def test_children_that_a_command_leaves_behind_are_ended_with_it(stand: Stand, changes: tuple[str, ...]) -> None:
    end = await stand.outcome("sh", "-c", f"{DAEMON}; exit 0", changes=changes)
    assert end.ok
    assert not lives(number_in(stand.home / "run-1/pid"))


async def test_a_supervisor_that_ends_nothing_after_the_main_process_is_caught(stand: Stand) -> None:
    assert (await stand.outcome("sh", "-c", f"{DAEMON}; exit 0", changes=(NO_CAGE, LEAVES_THE_REST))).ok
    assert lives(number_in(stand.home / "run-1/pid"))


@pytest.mark.parametrize("changes", [(), (NO_CAGE,)], ids=["with control groups", "without"])
async def test_a_command_that_ignores_sigterm_is_killed_after_its_grace_with_all_its_children(
    stand: Stand, changes: tuple[str, ...]
) -> None:
    script = f"trap '' TERM; {DAEMON}; touch ready; while true; do sleep 1; done"
    handle = await stand.start(stand.spec("sh", "-c", script), *changes)
    await until((stand.home / "run-1/ready").exists)
    began = asyncio.get_running_loop().time()
    end = await handle.stop(0.4, "the lease was lost")
    assert (end.signal, end.reason, end.detail) == (signal.SIGKILL, "stopped", "the lease was lost")
    assert asyncio.get_running_loop().time() - began >= 0.4
    assert not lives(number_in(stand.home / "run-1/pid"))
    assert not await asyncio.to_thread(marked, handle.state.token)


async def test_sigterm_reaches_the_main_process_alone_so_that_it_can_save_with_its_workers(stand: Stand) -> None:
    handle = await stand.start(stand.spec("python3", "-c", SAVES_WITH_A_WORKER))
    await until((stand.home / "run-1/ready").exists)
    end = await handle.stop(30.0, "drill")
    assert (end.code, end.reason) == (0, "stopped")
    assert (stand.home / "run-1/saved").read_text() == "True"


async def test_a_supervisor_that_signals_the_whole_group_is_caught(stand: Stand) -> None:
    handle = await stand.start(stand.spec("python3", "-c", SAVES_WITH_A_WORKER), SIGNALS_THE_GROUP)
    await until((stand.home / "run-1/ready").exists)
    await handle.stop(30.0, "drill")
    assert (stand.home / "run-1/saved").read_text() == "False"


async def test_a_command_is_stopped_at_its_time_limit(stand: Stand) -> None:
    end = await stand.outcome("sleep", "300", time_limit_seconds=0.2)
    assert (end.reason, end.signal) == ("time_limit", signal.SIGTERM)
    assert end.seconds >= 0.2
    assert "0.2 s" in end.detail


async def test_a_second_order_can_only_shorten_the_grace(stand: Stand) -> None:
    handle = await stand.start(stand.spec("sh", "-c", "trap '' TERM; touch ready; while true; do sleep 1; done"))
    await until((stand.home / "run-1/ready").exists)
    first = asyncio.create_task(handle.stop(600.0, "spot notice"))
    await until(lambda: b"spot notice" in (stand.home / "run-1/stderr.log").read_bytes())
    end = await handle.stop(0.0, "the node is going")
    assert end.signal == signal.SIGKILL
    assert await first == end
    assert end.detail == "spot notice"


async def test_a_command_that_nothing_can_end_is_given_up_and_named(stand: Stand) -> None:
    spec = stand.spec("sh", "-c", "trap '' TERM; touch ready; while true; do sleep 0.1; done")
    handle = await stand.start(spec, MEETS_WHAT_NOTHING_ENDS)
    await until((stand.home / "run-1/ready").exists)
    end = await handle.stop(0.1, "drill")
    assert (end.code, end.signal, end.reason) == (None, None, "lost")
    assert end.detail == "drill; processes that SIGKILL does not end: 77"


async def test_binary_output_is_kept_byte_for_byte(stand: Stand) -> None:
    script = "import os; os.write(1, bytes(range(256)) * 64); os.write(2, b'\\xff\\x00\\xfe' * 30)"
    end = await stand.outcome("python3", "-c", script)
    assert end.ok
    assert stand.log() == bytes(range(256)) * 64
    assert end.stderr_tail == ("\ufffd\0\ufffd" * 30,)


@pytest.mark.parametrize("mebibytes", [64, pytest.param(1024, marks=pytest.mark.soak)], ids=["64 MiB", "a gigabyte"])
async def test_endless_output_leaves_its_beginning_and_its_end_in_a_bounded_log(stand: Stand, mebibytes: int) -> None:
    script = f"echo first >&2; head -c {mebibytes}M /dev/zero | tr '\\0' x >&2; echo; echo >&2; echo last >&2"
    end = await stand.outcome("sh", "-c", script, log_bytes=1 << 20)
    files = sorted((stand.home / "run-1").glob("stderr.log*"))
    assert end.ok
    assert end.stderr_tail[-1] == "last"
    assert end.log_lost_bytes == 0
    assert sum(file.stat().st_size for file in files) <= 1 << 20
    assert b"first\n" in files[1].read_bytes()
    assert (stand.home / "run-1/stderr.log").read_bytes().endswith(b"last\n")


FILLS_THE_DISK = (
    "head -c 64M /dev/zero > big 2>/dev/null; echo 'OSError: No space left on device' >&2; head -c 3M /dev/zero; exit 5"
)


async def test_a_command_that_fills_the_disk_ends_like_any_other(small_stand: Stand) -> None:
    end = await small_stand.outcome("sh", "-c", FILLS_THE_DISK, log_bytes=8 << 20)
    assert (end.code, end.reason) == (5, "ended")
    assert end.stderr_tail[-1] == "OSError: No space left on device"
    assert end.log_lost_bytes > 0
    state = await asyncio.to_thread(read_state, small_stand.home / "run-1")
    assert state is not None
    assert state.exit == end
    assert not (small_stand.home / "run-1" / RESERVE).exists()


async def test_a_supervisor_without_a_reserve_is_caught_on_a_full_disk(small_stand: Stand) -> None:
    broken = (KEEPS_NO_RESERVE, CANNOT_GIVE_WAY, GIVES_UP_AT_ONCE)
    end = await small_stand.outcome("sh", "-c", FILLS_THE_DISK, log_bytes=8 << 20, changes=broken)
    assert (end.code, end.reason) == (None, "lost")


async def test_a_disk_that_was_full_before_the_start_is_said_to_be(small_stand: Stand) -> None:
    (small_stand.home / "run-1").mkdir()
    with suppress(OSError), (small_stand.home / "big").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with pytest.raises(SupervisionFailed, match="No space left on device"):
        await small_stand.outcome("true")


async def test_a_command_whose_folder_is_taken_away_is_ended(stand: Stand, tmp_path: Path) -> None:
    spec = stand.spec("sh", "-c", f"{DAEMON}; cat pid > {tmp_path}/pid; sleep 300")
    handle = await stand.start(spec, LOOKS_OFTEN)
    await until(lambda: number_in(tmp_path / "pid"))
    await asyncio.to_thread(shutil.rmtree, tmp_path / "run-1")
    end = await ended(handle)
    assert (end.code, end.reason) == (None, "lost")
    assert not lives(number_in(tmp_path / "pid"))
