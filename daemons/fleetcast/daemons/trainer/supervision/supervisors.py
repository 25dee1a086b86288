"""Starting what is supervised, and finding it again after the daemon was gone.

Two forms, which differ only in how the supervisor process itself is started: as a transient systemd unit where systemd
runs and lets this user start one, and otherwise as a process in a session of its own.
"""

import asyncio
import fcntl
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Protocol
from weakref import WeakValueDictionary

from fleetcast.config import environment
from fleetcast.daemons.trainer.supervision.child import TALK
from fleetcast.daemons.trainer.supervision.folder import LOCK, ORDER, SPEC, read_spec, read_state, write_spec
from fleetcast.daemons.trainer.supervision.handle import Handle
from fleetcast.daemons.trainer.supervision.spec import RunSpec, State

START_SECONDS = 60.0
"""For a supervisor process to have started its command: generous, for a machine that swaps is slow and not broken."""
UNIT_SECONDS = 30.0
"""What systemd gives a unit beyond the command's own grace before it kills all of it."""
_LOCK_SECONDS = 5.0
"""For somebody else who looks into the folder at the same moment."""
_LOOK_SECONDS = 0.05
_CHILD = "fleetcast.daemons.trainer.supervision.child"
_NO_UNIT_NAME = re.compile(r"[^A-Za-z0-9:_.-]")

Form = Literal["auto", "systemd", "process"]


class SupervisionFailed(Exception):
    """The command could not be put under supervision; it was not started."""


class RunBusy(SupervisionFailed):
    """Another start of the run is still going on in its folder."""


class Supervisor(Protocol):
    """Starts commands of runs and finds them again."""

    async def start(self, spec: RunSpec) -> Handle:
        """Start a run's command. The same claim again gives a handle of what runs already. A command that cannot be
        started is no error here: `Handle.wait` says so.

        Raises:
            RunBusy: an earlier claim of the run still runs in this folder.
            SupervisionFailed: there is no supervisor for it (full disk, no more processes).
        """
        ...

    async def adopt(self, folder: Path) -> Handle | None:
        """What was last started in a run's folder, whether it still runs or not; None: nothing was.

        Raises:
            SupervisionFailed: something is being started there and does not come to a state.
        """
        ...


async def is_alive(supervisor: Supervisor, folder: Path) -> bool:
    """Whether something of a run still runs in its folder; yes where that cannot be seen."""
    try:
        handle = await supervisor.adopt(folder)
    except SupervisionFailed:
        return True
    return handle is not None and handle.alive()


class LocalSupervisor:
    """`Supervisor` on this machine.

    Args:
        command: how the supervisor process of a run is started: from its spec and the token of this start.
    """

    def __init__(self, command: Callable[[RunSpec, str], list[str]]) -> None:
        self._command = command
        self._one_at_a_time: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    async def start(self, spec: RunSpec) -> Handle:
        """See `Supervisor`. Cancelled, what was begun goes on; `adopt` finds it."""
        folder = Path(spec.folder)
        async with self._one_at_a_time.setdefault(folder, asyncio.Lock()):
            earlier = await asyncio.to_thread(_adopt, folder)
            if earlier is not None:
                if earlier.alive() and earlier.claim != spec.claim:
                    raise RunBusy(f"claim {earlier.claim} of {earlier.run} still runs in {folder}")
                if earlier.alive():
                    return earlier
                # Ends what a supervisor that was killed has left.
                await earlier.wait()
            return await asyncio.to_thread(self._start, spec)

    async def adopt(self, folder: Path) -> Handle | None:
        """See `Supervisor`."""
        async with self._one_at_a_time.setdefault(folder, asyncio.Lock()):
            return await asyncio.to_thread(_adopt, folder)

    def _start(self, spec: RunSpec) -> Handle:
        folder, token = Path(spec.folder), secrets.token_hex(10)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder, _LOCK_SECONDS):
                (folder / ORDER).unlink(missing_ok=True)
                write_spec(spec, token)
            said = _launch(self._command(spec, token))
        except OSError as e:
            raise SupervisionFailed(f"{spec.run} cannot be put under supervision: {e}") from e
        handle = _adopt(folder)
        if handle is None or handle.state.token != token:
            raise SupervisionFailed(f"{spec.run} got no supervisor: {said or _talk(folder) or 'it said nothing'}")
        return handle


def supervisor_here(form: Form = "auto", *, root: Path = Path("/")) -> LocalSupervisor:
    """The form for this machine. `auto`: a systemd unit where systemd is the first process and this user is root, whom
    it obeys without asking; else a process. Looked for at each start."""

    def command(spec: RunSpec, token: str) -> list[str]:
        by_systemd = form == "systemd" or (form == "auto" and systemd_obeys(root))
        return unit_command(spec, token) if by_systemd else process_command(spec, token)

    return LocalSupervisor(command)


def systemd_obeys(root: Path = Path("/")) -> bool:
    """Whether systemd is the first process here and this user is root."""
    return os.geteuid() == 0 and (root / "run/systemd/system").is_dir() and shutil.which("systemd-run") is not None


def process_command(spec: RunSpec, token: str) -> list[str]:
    """A supervisor process that leaves this one's session and goes on without it."""
    return [sys.executable, "-I", "-B", "-m", _CHILD, spec.folder, token]


def unit_command(spec: RunSpec, token: str) -> list[str]:
    """A supervisor process as the main process of a transient unit (systemd-run(1)), in which it keeps order itself."""
    unit = unit_name(spec)
    properties = {
        "NotifyAccess": "main",
        # SIGTERM to the supervisor alone, which knows whom to tell; SIGKILL to all that is left when it has gone.
        "KillMode": "mixed",
        "TimeoutStopSec": f"{spec.grace_seconds + UNIT_SECONDS:.0f}",
        "TimeoutStartSec": f"{START_SECONDS:.0f}",
        # The supervisor makes a group for the command, and sees that the kernel ended it for lack of memory.
        "Delegate": "yes",
        "OOMPolicy": "continue",
        "Restart": "no",
    }
    return [
        *("systemd-run", "--quiet", "--collect", "--no-ask-password", "--service-type=notify"),
        *(f"--unit={unit}", f"--description=fleetcast run {spec.run}, claim {spec.claim}"),
        *(f"--uid={os.geteuid()}", f"--gid={os.getegid()}"),
        *(f"--property={name}={value}" for name, value in properties.items()),
        *("--", *process_command(spec, token), unit),
    ]


def unit_name(spec: RunSpec) -> str:
    """`fleetcast-run-<run>-<claim>.service`."""
    return f"fleetcast-run-{_NO_UNIT_NAME.sub('_', spec.run)[:180]}-{spec.claim}.service"


def _launch(command: list[str]) -> str:
    """Run the starter to its end; what it said on standard error, in short. Whether it worked, the state tells."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment.for_program(os.environ),
            cwd="/",
            timeout=START_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no start within {START_SECONDS:g} s"
    return done.stderr.decode(errors="replace").strip()[-400:]


def _adopt(folder: Path) -> Handle | None:
    """The newest start. One of which there is no state yet is waited for, or taken back: nothing may begin after this
    has said that there is nothing."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        found = read_spec(folder)
        if found is None:
            return None
        state = _state_of(folder, found[1])
        if state is not None:
            return Handle(found[0], state)
        with suppress(RunBusy), _locked(folder):
            state = _state_of(folder, found[1])
            if state is None:
                (folder / SPEC).unlink(missing_ok=True)
                return None
        if time.monotonic() >= deadline:
            raise SupervisionFailed(f"what is being started in {folder} has no state after {START_SECONDS:g} s")
        time.sleep(_LOOK_SECONDS)


def _state_of(folder: Path, token: str) -> State | None:
    state = read_state(folder)
    return state if state is not None and state.token == token else None


@contextmanager
def _locked(folder: Path, patience_seconds: float = 0.0) -> Iterator[None]:
    """While nobody supervises in this folder.

    Raises:
        RunBusy: somebody does.
    """
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(handle, folder, time.monotonic() + patience_seconds)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as e:
            if time.monotonic() >= deadline:
                raise RunBusy(f"something is supervised in {folder}") from e
        time.sleep(_LOOK_SECONDS)


def _talk(folder: Path) -> str:
    with suppress(OSError):
        lines = (folder / TALK).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""
    return ""
