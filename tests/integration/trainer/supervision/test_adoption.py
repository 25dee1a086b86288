"""A run outlives its daemon, is found again for what it is, and never runs twice in one folder."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.trainer.supervision.stand import (
    BELIEVES_ANY_TOKEN,
    CANNOT_DIE_WITH_IT,
    NO_CAGE,
    NO_TOKEN,
    SECONDS,
    Stand,
    changed,
    ended,
    lives,
    number_in,
    until,
)

from fleetcast.daemons.trainer.supervision import handle as handles
from fleetcast.daemons.trainer.supervision.child import NOT_OURS
from fleetcast.daemons.trainer.supervision.folder import SPEC, STATE, read_state, write_spec, write_whole
from fleetcast.daemons.trainer.supervision.spec import Exit, RunSpec, State
from fleetcast.daemons.trainer.supervision.supervisors import RunBusy, process_command, supervisor_here

pytestmark = pytest.mark.asyncio

DAEMON = """
import asyncio, json, os, signal, sys
from fleetcast.daemons.trainer.supervision.spec import RunSpec
from fleetcast.daemons.trainer.supervision.supervisors import supervisor_here
async def main():
    handle = await supervisor_here("process").start(RunSpec.load(json.loads(sys.argv[1])))
    print(handle.pid, flush=True)
    await handle.wait()
asyncio.run(main())
"""
WORKS_ON = "i=0; while ! test -e enough; do i=$((i+1)); echo $i; sleep 0.02; done; echo done >&2; exit 4"


async def state_of(folder: Path) -> State:
    found = await asyncio.to_thread(read_state, folder)
    assert found is not None
    return found


async def daemon_that_starts(spec: RunSpec) -> "tuple[subprocess.Popen[bytes], int]":
    """A daemon that has started a run; with the number of its process."""
    process = subprocess.Popen(  # noqa: ASYNC220  # the test kills it and goes on
        [sys.executable, "-c", DAEMON, json.dumps(spec.dump())], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    process.stdout.close()
    return process, int(line)


async def test_a_killed_daemon_leaves_its_run_running_and_the_next_one_sees_its_end(stand: Stand) -> None:
    spec = stand.spec("sh", "-c", WORKS_ON)
    daemon, pid = await daemon_that_starts(spec)
    daemon.kill()
    daemon.wait(SECONDS)
    said = len(stand.log())

    handle = await supervisor_here().adopt(Path(spec.folder))
    assert handle is not None
    stand.handles.append(handle)
    assert handle.alive()
    assert (handle.run, handle.claim, handle.pid) == ("run-1", 1, pid)
    await until(lambda: len(stand.log()) > said + 4)
    (stand.home / "run-1/enough").touch()
    end = await ended(handle)
    assert (end.code, end.reason, end.stderr_tail) == (4, "ended", ("done",))


async def test_a_run_that_ended_while_nobody_looked_is_found_with_its_end(stand: Stand) -> None:
    spec = stand.spec("sh", "-c", "echo bye >&2; exit 7")
    first = await ended(await stand.start(spec))
    for _ in range(2):
        handle = await supervisor_here().adopt(Path(spec.folder))
        assert handle is not None
        assert not handle.alive()
        assert await ended(handle) == first
    assert first.code == 7


async def test_a_run_is_stopped_by_a_daemon_that_did_not_start_it(stand: Stand) -> None:
    spec = stand.spec("sh", "-c", "trap 'exit 0' TERM; touch ready; while true; do sleep 0.02; done")
    await stand.start(spec)
    await until((stand.home / "run-1/ready").exists)
    handle = await supervisor_here().adopt(Path(spec.folder))
    assert handle is not None
    end = await handle.stop(30.0, "claim 2 has it")
    assert (end.code, end.reason, end.detail) == (0, "stopped", "claim 2 has it")


async def test_nothing_is_found_where_nothing_was_started(stand: Stand) -> None:
    assert await supervisor_here().adopt(stand.home / "nonesuch") is None
    (stand.home / "run-1").mkdir()
    (stand.home / "run-1" / SPEC).write_text("{ not json")
    assert await supervisor_here().adopt(stand.home / "run-1") is None


async def test_a_killed_supervisor_takes_its_command_with_it_and_the_run_is_lost(stand: Stand) -> None:
    handle = await stand.start(stand.spec("sh", "-c", "echo last words >&2; touch ready; exec sleep 300"))
    await until((stand.home / "run-1/ready").exists)
    assert handle.pid is not None
    os.kill(handle.state.supervisor.pid, signal.SIGKILL)
    await until(lambda: not lives(handle.pid or 0))
    end = await ended(handle)
    assert (end.code, end.signal, end.reason) == (None, None, "lost")
    assert end.stderr_tail == ("last words",)
    again = await supervisor_here().adopt(Path(handle.spec.folder))
    assert again is not None
    assert await ended(again) == end


LEAVES = "setsid sleep 300 & echo $! > pid; touch ready; wait"


@pytest.mark.parametrize("changes", [(), (NO_CAGE,), (NO_CAGE, CANNOT_DIE_WITH_IT)])
async def test_what_a_killed_supervisor_left_is_ended_before_the_run_starts_again(
    stand: Stand, changes: tuple[str, ...]
) -> None:
    spec = stand.spec("sh", "-c", LEAVES)
    handle = await stand.start(spec, *changes)
    await until(lambda: number_in(stand.home / "run-1/pid") and (stand.home / "run-1/ready").exists())
    left = number_in(stand.home / "run-1/pid")
    os.kill(handle.state.supervisor.pid, signal.SIGKILL)
    await until(lambda: not handle.alive())
    assert lives(left)
    again = await stand.start(replace(spec, claim=2, command=("true",)))
    assert not lives(left)
    assert (await ended(again)).ok


async def test_a_supervisor_that_marks_nothing_is_caught(stand: Stand) -> None:
    handle = await stand.start(stand.spec("sh", "-c", LEAVES), NO_CAGE, NO_TOKEN)
    await until(lambda: number_in(stand.home / "run-1/pid") and (stand.home / "run-1/ready").exists())
    left = number_in(stand.home / "run-1/pid")
    os.kill(handle.state.supervisor.pid, signal.SIGKILL)
    await ended(handle)
    survived = lives(left)
    os.kill(left, signal.SIGKILL)
    assert survived


async def test_the_same_claim_is_not_started_twice_and_another_one_is_refused(stand: Stand) -> None:
    spec = stand.spec("sh", "-c", "echo $$ >> pids; sleep 300")
    first = await stand.start(spec)
    assert (await stand.start(spec)).pid == first.pid
    with pytest.raises(RunBusy, match="claim 1 of run-1 still runs"):
        await stand.start(replace(spec, claim=2))
    await first.stop(10.0)
    await stand.start(replace(spec, claim=2))
    await until(lambda: len((stand.home / "run-1/pids").read_text().split()) == 2)


async def test_of_starts_at_the_same_moment_one_command_runs_and_all_hold_it(stand: Stand) -> None:
    spec = stand.spec("sh", "-c", "echo $$ >> pids; sleep 300")
    supervisor = supervisor_here("process")
    stand.handles += await asyncio.gather(*(supervisor.start(spec) for _ in range(4)))
    assert len({handle.pid for handle in stand.handles}) == 1
    await until((stand.home / "run-1/pids").exists)
    assert (stand.home / "run-1/pids").read_text().split() == [str(stand.handles[0].pid)]


async def test_of_starts_by_several_daemons_at_the_same_moment_at_most_one_command_runs(stand: Stand) -> None:
    spec = stand.spec("sh", "-c", "echo $$ >> pids; sleep 300")
    await asyncio.gather(*(stand.start(spec) for _ in range(4)), return_exceptions=True)
    # Whatever became of those, the run can be started.
    handle = await stand.start(spec)
    await until((stand.home / "run-1/pids").exists)
    assert (stand.home / "run-1/pids").read_text().split() == [str(handle.pid)]


async def late_start(stand: Stand, *changes: str) -> int:
    """A daemon is killed after it wrote what it starts; the next one looks; then the supervisor comes."""
    spec = stand.spec("sh", "-c", "touch ran; sleep 300")
    Path(spec.folder).mkdir()
    await asyncio.to_thread(write_spec, spec, "token-of-the-dead")
    assert await supervisor_here().adopt(Path(spec.folder)) is None
    await asyncio.to_thread(write_spec, replace(spec, claim=2), "token-of-another")
    command = changed(*changes) if changes else process_command
    starter = await asyncio.create_subprocess_exec(*command(spec, "token-of-the-dead"))
    async with asyncio.timeout(SECONDS):
        return await starter.wait()


async def test_a_start_that_nobody_waits_for_any_more_starts_nothing(stand: Stand) -> None:
    await late_start(stand)
    assert not (stand.home / "run-1" / STATE).exists()
    assert not (stand.home / "run-1/ran").exists()


async def test_a_supervisor_that_believes_any_start_is_caught(stand: Stand) -> None:
    await late_start(stand, BELIEVES_ANY_TOKEN)
    state = await state_of(stand.home / "run-1")
    await until((stand.home / "run-1/ran").exists)
    os.kill(state.supervisor.pid, signal.SIGTERM)
    await until(lambda: not lives(state.supervisor.pid))


async def test_a_second_supervisor_of_a_folder_ends_at_once(stand: Stand) -> None:
    handle = await stand.start(stand.spec("sleep", "300"))
    second = [*process_command(handle.spec, handle.state.token), "a.unit"]
    starter = await asyncio.create_subprocess_exec(*second)
    async with asyncio.timeout(SECONDS):
        assert await starter.wait() == NOT_OURS
    assert handle.alive()


async def test_after_a_restart_of_the_machine_a_run_is_lost_and_no_stranger_is_touched(stand: Stand) -> None:
    handle = await stand.start(stand.spec("true"))
    await ended(handle)
    with subprocess.Popen(["sleep", "300"]) as stranger:  # noqa: ASYNC220  # it only exists
        here = handle.state.supervisor
        process = replace(here, pid=stranger.pid)
        for told in (replace(process, boot="another-boot"), replace(process, start_ticks=here.start_ticks)):
            state = replace(handle.state, supervisor=told, main=told, exit=None, cage="")
            await asyncio.to_thread(write_whole, stand.home / "run-1" / STATE, state.dump())
            found = await supervisor_here().adopt(stand.home / "run-1")
            assert found is not None
            assert not found.alive()
            end = await ended(found)
            assert end.reason == "lost"
            assert ("started again" in end.detail) == (told.boot == "another-boot")
            assert stranger.poll() is None
        stranger.kill()


async def test_a_supervisor_that_hangs_is_ended_with_its_run(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "FORCE_SECONDS", 0.5)
    handle = await stand.start(stand.spec("sleep", "300"))
    os.kill(handle.state.supervisor.pid, signal.SIGSTOP)
    end = await handle.stop(0.1, "test")
    assert end.reason == "lost"
    assert not lives(handle.pid or 0)


async def test_a_service_manager_s_sigterm_stops_the_run_with_the_grace_of_its_spec(stand: Stand) -> None:
    handle = await stand.start(
        stand.spec("sh", "-c", "trap 'exit 0' TERM; touch ready; while true; do sleep 0.02; done")
    )
    await until((stand.home / "run-1/ready").exists)
    os.kill(handle.state.supervisor.pid, signal.SIGTERM)
    end = await ended(handle)
    assert (end.code, end.reason) == (0, "stopped")


async def test_many_wait_for_one_end(stand: Stand) -> None:
    handle = await stand.start(stand.spec("sleep", "0.2"))
    found: list[Exit] = await asyncio.gather(*(ended(handle) for _ in range(5)))
    assert len(set(found)) == 1
    assert found[0].ok
