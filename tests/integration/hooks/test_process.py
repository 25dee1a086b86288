"""Real commands and real signals, each trying what a careless hook does."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path

import pytest

from fleetcast.config.hooks import HookRule
from fleetcast.daemons.distributor.hooks.process import OUTPUT_KEPT, Ended, carry_out, run
from fleetcast.daemons.distributor.hooks.rules import Telling, environment

ENVIRONMENT = {"PATH": os.environ["PATH"]}
GENEROUS_SECONDS = 60.0

pytestmark = pytest.mark.asyncio


async def shell(script: str, *, timeout_seconds: float = GENEROUS_SECONDS, **environment: str) -> Ended:
    return await run(("sh", "-c", script), ENVIRONMENT | environment, timeout_seconds=timeout_seconds)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until_gone(pid: int) -> None:
    deadline = time.monotonic() + GENEROUS_SECONDS
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        await asyncio.sleep(0.01)


async def until_written(path: Path) -> str:
    deadline = time.monotonic() + GENEROUS_SECONDS
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"{path} was not written"
        await asyncio.sleep(0.01)
    return path.read_text().strip()


async def test_command_that_ends_well_is_ok_and_what_it_printed_is_kept() -> None:
    ended = await shell('echo "$FLEETCAST_MODEL loaded"; echo warning >&2', FLEETCAST_MODEL="hex8")
    assert ended.error is None
    assert ended.output == "hex8 loaded\nwarning\n"


async def test_exit_status_and_last_line_are_the_error() -> None:
    ended = await shell("echo reloading; echo port 8080 is taken >&2; exit 3")
    assert ended.error == "exit 3: port 8080 is taken"


async def test_command_that_kills_itself_is_an_error_that_names_the_signal() -> None:
    assert (await shell("kill -SEGV $$")).error == "killed by SIGSEGV"


async def test_command_has_what_it_is_told_and_no_secret_of_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NATS_PASSWORD", "FLEETCAST_BUS_TOKEN", "HF_TOKEN", "CREDENTIALS_DIRECTORY"):
        monkeypatch.setenv(name, "secret")
    told = Telling(model="hex8", version="43", artifact="a" * 64, generation=8, slot="production")
    surroundings = environment(told, path=tmp_path, previous="42", why="activated", inherited=os.environ)
    ended = await run(("env",), surroundings, timeout_seconds=GENEROUS_SECONDS)
    assert ended.error is None
    assert {"FLEETCAST_VERSION=43", f"PATH={os.environ['PATH']}"} <= set(ended.output.splitlines())
    assert "secret" not in ended.output


async def test_program_that_is_not_there_is_an_error_and_no_exception() -> None:
    ended = await run(("/no/such/program",), ENVIRONMENT, timeout_seconds=1)
    assert ended.error == "cannot start /no/such/program: No such file or directory"


async def test_hook_that_hangs_and_ignores_sigterm_is_killed_at_its_limit_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    began = time.monotonic()
    script = f"trap '' TERM; sleep 600 & echo $$ $! > {note}; while :; do sleep 1; done"
    ended = await shell(script, timeout_seconds=1)
    assert ended.error == "no end after 1 s, killed"
    assert 1 <= ended.seconds <= time.monotonic() - began < GENEROUS_SECONDS
    for pid in (await until_written(note)).split():
        await until_gone(int(pid))


async def test_child_that_a_hook_leaves_behind_neither_holds_it_up_nor_outlives_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    ended = await shell(f"sleep 600 & echo $! > {note}; echo done")
    assert (ended.error, ended.output) == (None, "done\n")
    assert ended.seconds < GENEROUS_SECONDS
    await until_gone(int(await until_written(note)))


@pytest.mark.parametrize("size", [64 * 2**20, pytest.param(2**30, marks=pytest.mark.soak)])
async def test_gigabyte_of_output_is_read_and_forgotten_but_for_its_end(size: int) -> None:
    script = f"head -c {size} /dev/zero | tr '\\0' x; echo; echo the end; exit 1"
    before = _peak_kib()
    slowest, ended = await _with_ticks(shell(script))
    assert ended.error == "exit 1: the end"
    assert len(ended.output) < OUTPUT_KEPT + 100
    assert ended.output.startswith(f"[{size + 1 + 8 - OUTPUT_KEPT} bytes before this]\n")
    assert _peak_kib() - before < 32 * 1024
    assert slowest < 1.0, "the loop was held up"


def _peak_kib() -> int:
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


async def _with_ticks(work: Coroutine[object, object, Ended]) -> tuple[float, Ended]:
    """The result of work, and the longest time that the loop was away meanwhile."""
    task = asyncio.ensure_future(work)
    slowest, last = 0.0, time.monotonic()
    while not task.done():
        await asyncio.sleep(0.01)
        slowest, last = max(slowest, time.monotonic() - last), time.monotonic()
    return slowest, task.result()


async def test_hook_that_is_cancelled_ends_with_all_that_it_started(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    task = asyncio.create_task(shell(f"sleep 600 & echo $$ $! > {note}; wait"))
    pids = (await until_written(note)).split()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for pid in pids:
        await until_gone(int(pid))


# -- signals


SERVER = """
import pathlib, signal, sys
def reload(*_):
    with open(sys.argv[1], "a") as note: note.write("reloaded\\n")
signal.signal(signal.SIGHUP, reload)
pathlib.Path(sys.argv[1]).write_text("")
pathlib.Path(sys.argv[2]).write_text(f"{__import__('os').getpid()}\\n")
while True: signal.pause()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A process that reloads on SIGHUP: where it says so, and its pid file."""
    note, pid_file = tmp_path / "note", tmp_path / "server.pid"
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(note), str(pid_file)])
    try:
        yield note, pid_file
    finally:
        process.kill()
        process.wait()


async def test_signal_reaches_the_process_of_the_pid_file(server: tuple[Path, Path]) -> None:
    note, pid_file = server
    await until_written(pid_file)
    ended = await carry_out(HookRule(signal="HUP", pid_file=pid_file), ENVIRONMENT)
    assert ended.error is None
    assert ended.output == f"SIGHUP to process {pid_file.read_text().strip()} of {pid_file}"
    assert await until_written(note) == "reloaded"


@pytest.mark.parametrize("text", ["", "0\n", "1\n", "-1\n", "gunicorn\n"])
async def test_pid_file_that_names_no_process_of_its_own_signals_nobody(tmp_path: Path, text: str) -> None:
    pid_file = tmp_path / "pid"
    pid_file.write_text(text)
    ended = await carry_out(HookRule(signal="TERM", pid_file=pid_file), ENVIRONMENT)
    assert ended.error is not None
    assert "names no running process" in ended.error


async def test_process_that_has_ended_is_an_error(tmp_path: Path) -> None:
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()
    pid_file = tmp_path / "pid"
    pid_file.write_text(f"{gone.pid}\n")
    ended = await carry_out(HookRule(signal="HUP", pid_file=pid_file), ENVIRONMENT)
    assert ended.error == f"no process {gone.pid}, which {pid_file} names"


async def test_missing_pid_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    ended = await carry_out(HookRule(signal="HUP", pid_file=tmp_path / "none"), ENVIRONMENT)
    assert ended.error is not None
    assert str(tmp_path / "none") in ended.error


async def test_unit_is_asked_for_its_main_process(server: tuple[Path, Path], tmp_path: Path) -> None:
    note, pid_file = server
    pid = await until_written(pid_file)
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$*" = "show --property=MainPID --value web.service" ] && echo {pid}\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    ended = await carry_out(HookRule(signal="HUP", unit="web.service"), {"PATH": path})
    assert ended.error is None, ended
    assert await until_written(note) == "reloaded"
    refused = await carry_out(HookRule(signal="HUP", unit="other.service"), {"PATH": path})
    assert refused.error == "systemctl does not say the main process of other.service: exit 1"
