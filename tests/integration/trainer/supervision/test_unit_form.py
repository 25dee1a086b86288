"""The supervisor as the main process of a unit. systemd itself is not there in a test: a stand-in for systemd-run does
what its manual says of `--service-type=notify`."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from tests.integration.trainer.supervision.stand import Stand, ended, lives, number_in, until

from fleetcast.daemons.trainer.supervision.supervisors import SupervisionFailed, supervisor_here

pytestmark = pytest.mark.asyncio

STAND_IN = """#!{python} -I
import os, select, socket, subprocess, sys
command = sys.argv[sys.argv.index("--") + 1 :]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
    manager.bind("{place}/notify")
    unit = subprocess.Popen(command, env={{"NOTIFY_SOCKET": "{place}/notify"}}, stderr=-3)
    open("{place}/main", "w").write(str(unit.pid))
    while unit.poll() is None:
        if select.select([manager], [], [], 0.05)[0] and manager.recv(99) == b"READY=1":
            os._exit(0)
sys.exit("Job for the unit failed")
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "systemd-run").write_text(STAND_IN.format(python=sys.executable, place=folder))
    (folder / "systemd-run").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


async def test_the_unit_is_ready_when_its_command_runs_and_sigterm_to_it_stops_the_run(
    stand: Stand, place: Path
) -> None:
    spec = stand.spec("sh", "-c", "trap 'exit 0' TERM; touch ready; while true; do sleep 0.02; done")
    handle = await supervisor_here("systemd").start(spec)
    stand.handles.append(handle)
    assert handle.alive()
    assert handle.state.unit == "fleetcast-run-run-1-1.service"
    # It stays what systemd has started, and is no process of a process.
    assert handle.state.supervisor.pid == number_in(place / "main")
    await until((stand.home / "run-1/ready").exists)
    os.kill(handle.state.supervisor.pid, signal.SIGTERM)
    end = await ended(handle)
    assert (end.code, end.reason) == (0, "stopped")
    assert not lives(handle.pid or 0)


async def test_a_command_that_cannot_start_in_a_unit_is_an_end_and_no_error(stand: Stand, place: Path) -> None:
    handle = await supervisor_here("systemd").start(stand.spec("nonesuch-program"))
    end = await ended(handle)
    assert end.reason == "could_not_start"
    assert (place / "main").exists()


async def test_a_unit_that_systemd_refuses_is_said_in_systemd_s_words(stand: Stand, place: Path) -> None:
    await asyncio.to_thread((place / "systemd-run").write_text, "#!/bin/sh\necho 'Access denied' >&2; exit 1\n")
    with pytest.raises(SupervisionFailed, match="Access denied"):
        await supervisor_here("systemd").start(stand.spec("true"))
    assert await supervisor_here().adopt(stand.home / "run-1") is None
