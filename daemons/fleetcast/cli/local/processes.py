"""Child processes of a local fleet: born with a log file and a leash, ended in order, or by force."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

STOP_SECONDS = 15.0
"""Time for an orderly end: a distributor drains for 10 s at most."""
KILL_SECONDS = 5.0
_TAIL_LINES = 15
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Become the parent of every orphan below this process (prctl(2), PR_SET_CHILD_SUBREAPER): what a killed node
    leaves behind stays where `end_leftovers` finds it."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_leftovers() -> tuple[str, ...]:
    """Kill every process below this one; returns what they were. Empty when everything ended by itself."""
    left = psutil.Process().children(recursive=True)
    named = []
    for process in left:
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                named.append(f"{process.pid} {' '.join(process.cmdline()[:6])}")
            process.kill()
    psutil.wait_procs(left, timeout=KILL_SECONDS)
    return tuple(named)


def _ends_with_parent() -> None:
    # In the child, between fork and exec: a killed `up` has nobody left to end its nodes. They can take a SIGKILL.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """One child process, alone in its session: the terminal's Ctrl-C reaches `up`, which ends its children in order.

    Must be started from a thread that lives as long as the child shall: the kernel takes that thread for its parent.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._env = dict(env if env is not None else os.environ)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended; None: it runs, or was never started."""
        return self._process.poll() if self._process is not None else None

    def start(self) -> None:
        """Start it; what it says is added to its log."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
                preexec_fn=_ends_with_parent,  # noqa: PLW1509  # one prepared system call
            )

    def kill(self) -> None:
        """End it and its children at once, as a power cut would (SIGKILL to its whole process group)."""
        self._signal_group(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(KILL_SECONDS)

    async def stop(self) -> bool:
        """End it in order, by force when that takes too long; False: force was needed."""
        process = self._process
        if process is None:
            return True
        orderly = True
        if process.poll() is None:
            process.terminate()
            orderly = await _ended(process, STOP_SECONDS)
        self._signal_group(signal.SIGKILL)
        await _ended(process, KILL_SECONDS)
        self._process = None
        return orderly

    def _signal_group(self, number: signal.Signals) -> None:
        # The group outlives its leader: this also ends children that a killed daemon left.
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def tail(self) -> str:
        """The last lines of its log."""
        with suppress(OSError):
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:])
        return ""


async def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        await asyncio.to_thread(process.wait, seconds)
    return process.poll() is not None


def daemon_command(config: Path, daemon: str = "distributor") -> list[str]:
    """How a daemon of a local fleet is started: with this very Python."""
    return [sys.executable, "-m", "fleetcast", "run", daemon, "--config", str(config)]


def clean_environment() -> dict[str, str]:
    """This environment without what would change the settings of a local fleet: those come from its files alone."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("NATS_", "FLEETCAST_"))}
    return kept | {"PYTHONUNBUFFERED": "1"}
