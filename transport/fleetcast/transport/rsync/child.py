"""One run of rsync: started under its guard, ended with its whole process group."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from fleetcast.transport.errors import TransferFailed
from fleetcast.transport.niceness import lower
from fleetcast.transport.rsync import guard
from fleetcast.transport.rsync.plan import version_in

_INHERITED = ("PATH", "HOME", "LANG", "SSH_AUTH_SOCK")
"""Nothing else: RSYNC_PROXY, RSYNC_CONNECT_PROG and RSYNC_RSH would lead the bytes another way."""
_TAIL = 400
_VERSION_SECONDS = 5.0


class RsyncChild:
    """A running rsync."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._talk = asyncio.create_task(self._listen(), name=f"rsync {process.pid} stderr")
        self._said = b""

    @classmethod
    async def start(cls, command: Sequence[str], *, nice: int = 0) -> Self:
        """Start *command*, with this niceness.

        Raises:
            TransferFailed: this machine cannot start a process.
        """
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ} | {"LC_ALL": "C.UTF-8"}
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-B", str(Path(guard.__file__))),
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as e:
            raise TransferFailed(f"rsync cannot be started: {e}") from e
        # The guard has not come so far as to start anything.
        lower(nice, thread=process.pid)
        return cls(process)

    @property
    def pid(self) -> int:
        """Process id of the guard, which leads the group."""
        return self._process.pid

    async def ended(self, within_seconds: float) -> bool:
        """Wait until it has ended, for so long at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), within_seconds)
        return self._process.returncode is not None

    @property
    def problem(self) -> str:
        """What went wrong, in its own words; empty when nothing did."""
        code = self._process.returncode
        if code == 0:
            return ""
        if code is not None and code < 0:
            return f"rsync was killed by {signal.Signals(-code).name}"
        lines = [line for line in self._said.decode(errors="replace").splitlines() if line.strip()]
        shown = "".join(c if c.isprintable() else " " for c in lines[0][-_TAIL:]) if lines else "it said nothing"
        return f"rsync ended with status {code}: {shown}"

    async def end(self) -> None:
        """End every process of it; returns when the group is gone from the process table."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        # The pipe ends with the last process that holds it.
        await self._talk

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(4096):
            self._said = (self._said + data)[: 8 * _TAIL]


def look_for(name: str = "rsync") -> tuple[str | None, tuple[int, ...] | None]:
    """Where rsync is, and its version. Blocks for a run of it."""
    path = shutil.which(name)
    if path is None:
        return None, None
    try:
        shown = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return path, None
    return path, version_in(shown.stdout)
