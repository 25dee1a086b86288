"""The command of a run from its start to its end, and nothing of it afterwards. Standard library only.

SIGTERM goes to the main process alone: a save needs the workers that load its data, and whoever signals the whole group
kills them first. When the main process has ended, or its grace has, SIGKILL goes to all that is left: everything in the
cage where there is one, and all processes below this one, which is their parent once their own has gone (prctl(2),
PR_SET_CHILD_SUBREAPER).
"""

import ctypes
import fcntl
import os
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fleetcast.daemons.trainer.supervision.cage import Cage
from fleetcast.daemons.trainer.supervision.folder import LOGS
from fleetcast.daemons.trainer.supervision.output import Log, Tail
from fleetcast.daemons.trainer.supervision.processes import TOKEN_VARIABLE, below, end_all
from fleetcast.daemons.trainer.supervision.spec import Exit, Reason, RunSpec

LEFT_SECONDS = 10.0
"""For what is left after the main process to end by SIGKILL."""
STUCK_SECONDS = 60.0
"""After SIGKILL: a process in a call to a broken driver ends by nothing at all, and its run is given up."""
DRAIN_SECONDS = 2.0
"""For what the command has said before its end and nobody has read yet."""
_READ_BYTES = 256 * 1024
_PIPE_BYTES = 1024 * 1024
_TICK_SECONDS = 2.0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Stop:
    """Why and by when the command is to end.

    Attributes:
        kill_at: on the monotonic clock, when SIGKILL follows.
    """

    reason: Reason
    detail: str
    kill_at: float


class Job:
    """One command. `start`, then `run` until it returns how the command ended.

    Attributes:
        stdout, stderr: its logs.
    """

    def __init__(self, spec: RunSpec, token: str, cage: Cage | None) -> None:
        folder = Path(spec.folder)
        self.stdout = Log(folder / LOGS["stdout"], spec.log_bytes)
        self.stderr = Log(folder / LOGS["stderr"], spec.log_bytes)
        self._spec = spec
        self._token = token
        self._cage = cage
        self._tail = Tail()
        self._began = time.monotonic()
        self._supervisor = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._status: int | None = None
        self._stop: Stop | None = None
        self._selector = selectors.DefaultSelector()

    def start(self) -> int:
        """Start the command; its process id.

        Raises:
            OSError: it cannot be started.
        """
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        spec = self._spec
        self._began = time.monotonic()
        try:
            self._process = subprocess.Popen(
                spec.command,
                cwd=spec.cwd or spec.folder,
                env={**spec.env, TOKEN_VARIABLE: self._token},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                preexec_fn=self._prepare,  # noqa: PLW1509  # this process has one thread
            )
        except subprocess.SubprocessError as fault:
            raise OSError(0, f"it cannot be prepared: {fault}") from fault
        self._follow(self._process.stdout, self.stdout.write)
        self._follow(self._process.stderr, self._take_stderr)
        return self._process.pid

    def _prepare(self) -> None:
        # In the child, between fork and exec.
        with suppress(OSError):
            # Outside of it, it is found below this process.
            if self._cage is not None:
                self._cage.enter()
        # A command whose supervisor was killed has nobody who knows its limits: it goes too.
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._supervisor:
            os._exit(1)
        # What a GPU runtime leaves when it aborts is as large as the memory of the process. A job may raise it again.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))

    def could_not_start(self, fault: OSError) -> Exit:
        """The end of a command that never ran."""
        named = fault.filename and str(fault.filename) != self._spec.command[0]
        name = f": {fault.filename}" if named else ""
        detail = f"{self._spec.command[0]}: {fault.strerror or fault}{name}"
        self.stderr.write(f"[fleetcast] cannot start {detail}\n".encode())
        return Exit(None, None, 0.0, (f"cannot start {detail}",), "could_not_start", detail, self._lost)

    def run(self, wakeup: int, orders: Callable[[], tuple[float | None, str] | None]) -> Exit:
        """Watch the command until nothing of it is left.

        Args:
            wakeup: readable whenever a signal came.
            orders: asked after each signal: the order to stop, if there is one.
        """
        self._selector.register(wakeup, selectors.EVENT_READ, lambda: self._woken(wakeup, orders))
        while self._status is None and not self._given_up():
            self._turn(self._patience())
            self._keep_time()
        ended = time.monotonic()
        left = self._end_rest()
        self._drain(wakeup)
        return self._exit(ended - self._began, left)

    def _turn(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            key.data()
        # SIGCHLD may come before its handler is looked for; reaping costs one system call.
        self._reap()

    def _patience(self) -> float:
        """Seconds until something is due."""
        now = time.monotonic()
        if self._stop is not None:
            return min(max(self._stop.kill_at - now, 0.05), _TICK_SECONDS)
        limit = self._spec.time_limit_seconds
        return _TICK_SECONDS if limit is None else min(max(self._began + limit - now, 0.0), _TICK_SECONDS)

    def _keep_time(self) -> None:
        now, limit = time.monotonic(), self._spec.time_limit_seconds
        if self._status is not None:
            return
        if self._stop is None and not Path(self._spec.folder).is_dir():
            # Nobody can find it any more, nor be told how it ends.
            self._ask_to_end("lost", "its folder is gone", 0.0)
        if self._stop is not None and now >= self._stop.kill_at:
            self._kill_all()
        elif self._stop is None and limit is not None and now >= self._began + limit:
            self._ask_to_end("time_limit", f"its time limit of {limit:g} s was over", self._spec.grace_seconds)

    def _woken(self, wakeup: int, orders: Callable[[], tuple[float | None, str] | None]) -> None:
        with suppress(BlockingIOError):
            numbers = os.read(wakeup, 4096)
            # Also when there is no order that can be read: somebody signalled us, a service manager for example.
            if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                self._reap()
                grace, reason = orders() or (None, "the supervisor was told to stop")
                self._ask_to_end("stopped", reason, self._spec.grace_seconds if grace is None else grace)

    def _ask_to_end(self, reason: Reason, detail: str, grace_seconds: float) -> None:
        assert self._process is not None
        if self._status is not None:
            return
        kill_at = time.monotonic() + grace_seconds
        if self._stop is not None:
            # Asked again: the shorter grace holds, the first reason stays.
            self._stop = Stop(self._stop.reason, self._stop.detail, min(self._stop.kill_at, kill_at))
            return
        self._stop = Stop(reason, detail, kill_at)
        self.stderr.write(f"[fleetcast] to be stopped: {detail}; SIGKILL follows in {grace_seconds:g} s\n".encode())
        if grace_seconds > 0:
            # It has not been reaped: its number is still its own. It may have become another user's.
            with suppress(OSError):
                os.kill(self._process.pid, signal.SIGTERM)

    def _given_up(self) -> bool:
        return self._stop is not None and time.monotonic() >= self._stop.kill_at + STUCK_SECONDS

    def _kill_all(self) -> None:
        if self._cage is not None:
            self._cage.kill()
        end_all(lambda: below(os.getpid()), 0.0, self._reap)

    def _end_rest(self) -> set[int]:
        """End what the main process left behind; what does not end even so."""
        if self._cage is not None:
            self._cage.kill()
        return end_all(lambda: below(os.getpid()), LEFT_SECONDS, self._reap)

    def _reap(self) -> None:
        assert self._process is not None
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._process.pid:
                    self._status = self._process.returncode = os.waitstatus_to_exitcode(status)

    def _follow(self, pipe: IO[bytes] | None, take: Callable[[bytes], None]) -> None:
        assert pipe is not None
        handle = pipe.fileno()
        os.set_blocking(handle, False)
        with suppress(OSError):
            # Fewer wake-ups for a command that says much; refused where the user has too many pipes.
            fcntl.fcntl(handle, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

        def read() -> None:
            try:
                data = os.read(handle, _READ_BYTES)
            except BlockingIOError:
                return
            if data:
                take(data)
            else:
                self._selector.unregister(handle)

        self._selector.register(handle, selectors.EVENT_READ, read)

    def _take_stderr(self, data: bytes) -> None:
        self._tail.add(data)
        self.stderr.write(data)

    def _drain(self, wakeup: int) -> None:
        """Read what was said before the end. A pipe that somebody holds who cannot be ended is left alone."""
        deadline = time.monotonic() + DRAIN_SECONDS
        self._selector.unregister(wakeup)
        while self._selector.get_map() and time.monotonic() < deadline:
            for key, _ in self._selector.select(max(deadline - time.monotonic(), 0)):
                key.data()

    @property
    def _lost(self) -> int:
        return self.stdout.lost + self.stderr.lost

    def _exit(self, seconds: float, left: set[int]) -> Exit:
        detail = self._stop.detail if self._stop is not None else ""
        if left:
            numbers = ", ".join(str(pid) for pid in sorted(left)[:8])
            detail = f"{detail}; ".lstrip("; ") + f"processes that SIGKILL does not end: {numbers}"
        reason: Reason = self._stop.reason if self._stop is not None else "ended"
        if self._status is None:
            reason = "lost"
        code = self._status if self._status is not None and self._status >= 0 else None
        number = -self._status if self._status is not None and self._status < 0 else None
        return Exit(code, number, round(seconds, 3), self._tail.lines(), reason, detail, self._lost)
