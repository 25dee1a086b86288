"""The supervisor process of one run: starts its command, keeps its logs and its time, and writes down how it ended.

Run as `python -I -B -m fleetcast.daemons.trainer.supervision.child FOLDER TOKEN [UNIT]`, where FOLDER holds `spec.json`
with that token, and UNIT is the systemd unit that it was started in. Standard library only. It takes no orders but
SIGTERM, before which `order.json` may have been written, and needs nobody: not the daemon that started it, not the bus.
"""

import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fleetcast.daemons.trainer.supervision.cage import Cage
from fleetcast.daemons.trainer.supervision.folder import (
    LOCK,
    RESERVE,
    RESERVE_BYTES,
    STATE,
    read_order,
    read_spec,
    write_whole,
)
from fleetcast.daemons.trainer.supervision.job import Job
from fleetcast.daemons.trainer.supervision.processes import identify
from fleetcast.daemons.trainer.supervision.spec import Exit, RunSpec, State

NOT_OURS = 75
"""Exit status: another supervisor has the folder, or another start has followed this one."""
WRITE_AGAIN_SECONDS = 1.0
WRITE_FOR_SECONDS = 600.0
"""How long it is tried to write down an end for which there is no room at all."""
TALK = "supervisor.log"


def main(arguments: list[str]) -> int:
    """Supervise one run; the exit status of this process says nothing about the run's."""
    folder, token, unit = [*arguments, ""][:3]
    ready: Callable[[], None] = _tell_service_manager
    if not unit:
        leave = _detach()
        if leave is None:
            return 0
        ready = leave
    os.chdir("/")
    lock = os.open(Path(folder) / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return NOT_OURS
    found = read_spec(Path(folder))
    if found is None or found[1] != token:
        return NOT_OURS
    if not unit:
        _keep_talk(Path(folder))
    _supervise(found[0], token, unit, ready)
    return 0


def _detach() -> Callable[[], None] | None:
    """Go on as a process of nobody, in a session of its own. None in the process that was started, once the other one
    has said that it is ready, or has ended."""
    heard, said = os.pipe()
    if os.fork():
        os.close(said)
        os.read(heard, 1)
        return None
    os.close(heard)
    os.setsid()

    def ready() -> None:
        os.close(said)

    return ready


def _keep_talk(folder: Path) -> None:
    """What this process itself has to say (a traceback) goes to a file of its own. In any case not to whoever started
    it, who waits until nobody can say anything any more."""
    flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        handle = os.open(folder / TALK, flags | os.O_CREAT | os.O_TRUNC, 0o640)
    except OSError:
        handle = os.open(os.devnull, flags)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _supervise(spec: RunSpec, token: str, unit: str, ready: Callable[[], None]) -> None:
    folder = Path(spec.folder)
    wakeup = _catch_signals()
    _reserve(folder)
    cage = Cage.make(token)
    job = Job(spec, token, cage)
    this = identify(os.getpid())
    assert this is not None
    state = State(spec.run, spec.claim, token, this, time.time(), None, job.stderr.end, unit=unit)
    state = replace(state, cage=str(cage.folder) if cage else "")
    try:
        # Before the command: whoever finds this process gone knows by what to find the rest.
        write_whole(folder / STATE, state.dump())
        job.stderr.write(f"[fleetcast] claim {spec.claim}: {json.dumps(list(spec.command))}\n".encode())
        state = replace(state, stderr_from=job.stderr.end)
        ended = _run(job, folder, state, wakeup, ready)
    finally:
        if cage is not None:
            cage.remove()
    _write_end(folder, replace(state, exit=ended), job)


def _run(job: Job, folder: Path, state: State, wakeup: int, ready: Callable[[], None]) -> Exit:
    try:
        pid = job.start()
    except OSError as fault:
        return job.could_not_start(fault)
    with suppress(OSError):
        # Without it the run is found by its token alone.
        write_whole(folder / STATE, replace(state, main=identify(pid)).dump())
    ready()
    return job.run(wakeup, lambda: read_order(folder, state.token))


def _catch_signals() -> int:
    """Have signals wake the loop; the readable end. Handlers, and none ignored: a command inherits what is ignored."""
    heard, said = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(said, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return heard


def _reserve(folder: Path) -> None:
    with suppress(OSError):
        handle = os.open(folder / RESERVE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, RESERVE_BYTES)
        finally:
            os.close(handle)


def _write_end(folder: Path, state: State, job: Job) -> None:
    """Write down how it ended; on a full disk in the room that was kept for it, then in that of the logs."""
    (folder / RESERVE).unlink(missing_ok=True)
    deadline = time.monotonic() + WRITE_FOR_SECONDS
    while True:
        try:
            write_whole(folder / STATE, state.dump())
        except OSError:
            if time.monotonic() >= deadline or not folder.is_dir():
                raise
            job.stdout.give_way()
            job.stderr.give_way()
            time.sleep(WRITE_AGAIN_SECONDS)
        else:
            return


def _tell_service_manager() -> None:
    """`READY=1` (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as talk:
        talk.connect("\0" + address[1:] if address.startswith("@") else address)
        talk.send(b"READY=1")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
