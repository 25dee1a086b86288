"""A command or a signal carried out within limits of time and output; nothing of it is left running afterwards."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleetcast.config.hooks import HookRule

GRACE_SECONDS = 0.5
"""Between SIGTERM and SIGKILL: a hook that is stopped holds up the newer order that stops it."""
OUTPUT_KEPT = 4096
"""Bytes of a command's output that are kept: the end of it. The rest is read and forgotten."""
_CHUNK = 65536
_LOOK_SECONDS = 5.0
"""For asking systemd which process a unit's main one is."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a hook ended.

    Attributes:
        error: in one line; None: it ended well.
        output: the end of what it printed; for a signal, what was done.
    """

    seconds: float
    error: str | None = None
    output: str = ""


async def carry_out(rule: HookRule, environment: Mapping[str, str]) -> Ended:
    """Do what a rule says. Cancelled, it ends what it started before it returns."""
    if rule.command:
        return await run(rule.command, environment, timeout_seconds=rule.timeout_seconds)
    return await _signal(rule, environment)


async def run(
    command: Sequence[str], environment: Mapping[str, str], *, timeout_seconds: float, cwd: str = "/"
) -> Ended:
    """Run a command without a shell; at its time limit it is ended with its process group."""
    began = asyncio.get_running_loop().time()
    with _Tail() as tail:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=tail.write_end,
                stderr=tail.write_end,
                env=dict(environment),
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as fault:
            return Ended(0.0, f"cannot start {command[0]}: {fault.strerror}")
        tail.follow()
        error: str | None
        try:
            async with asyncio.timeout(timeout_seconds):
                error = _error(await process.wait())
        except TimeoutError:
            error = f"no end after {timeout_seconds:g} s, killed"
        finally:
            await asyncio.shield(_end(process))
        seconds = asyncio.get_running_loop().time() - began
        output = tail.text()
    last = output.rstrip().rpartition("\n")[2][:200]
    return Ended(seconds, f"{error}: {last}" if error and last else error, output)


def _error(code: int) -> str | None:
    if code == 0:
        return None
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"


async def _end(process: asyncio.subprocess.Process) -> None:
    """End what is left of a command's process group, its main process and any child that it left behind."""
    if process.returncode is None:
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                await process.wait()
    _signal_group(process.pid, signal.SIGKILL)
    await process.wait()


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


class _Tail:
    """The end of what is written into a pipe. It is read as it comes, so that the writer never waits, and for no longer
    than the command runs: a child that keeps the pipe open holds nothing up."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._kept = b""
        self._size = 0

    def __enter__(self) -> "_Tail":
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._read_end)
        self._close_write_end()
        os.close(self._read_end)

    def follow(self) -> None:
        """Read from now on; the writer has its own end of the pipe."""
        self._close_write_end()
        asyncio.get_running_loop().add_reader(self._read_end, self._take)

    def _close_write_end(self) -> None:
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def _take(self) -> bool:
        """Read once; whether there may be more."""
        try:
            chunk = os.read(self._read_end, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._read_end)
            return False
        self._size += len(chunk)
        self._kept = (self._kept + chunk)[-OUTPUT_KEPT:]
        return True

    def text(self) -> str:
        """What was kept, with a word on what was not."""
        for _ in range(_CHUNK):
            if not self._take():
                break
        said = self._kept.decode(errors="replace")
        return said if self._size <= OUTPUT_KEPT else f"[{self._size - OUTPUT_KEPT} bytes before this]\n{said}"


async def _signal(rule: HookRule, environment: Mapping[str, str]) -> Ended:
    """Signal the process that a pid file or a unit names."""
    assert rule.signal is not None
    number = signal.Signals[f"SIG{rule.signal}"]
    try:
        pid, source = await _process_of(rule, environment)
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return Ended(0.0, f"no process {pid}, which {source} names")
    except (OSError, ValueError) as fault:
        return Ended(0.0, str(fault))
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return Ended(0.0, f"no process {pid}, which {source} names")
    except PermissionError:
        return Ended(0.0, f"process {pid} of {source} belongs to another user, who alone may signal it")
    finally:
        os.close(handle)
    return Ended(0.0, None, f"{number.name} to process {pid} of {source}")


async def _process_of(rule: HookRule, environment: Mapping[str, str]) -> tuple[int, str]:
    """The process to signal, and who names it.

    Raises:
        ValueError: nobody names one.
        OSError: the pid file cannot be read.
    """
    if rule.pid_file is not None:
        text, source = await asyncio.to_thread(_first_line, rule.pid_file), str(rule.pid_file)
    else:
        assert rule.unit is not None
        asked = ("systemctl", "show", "--property=MainPID", "--value", rule.unit)
        ended = await run(asked, environment, timeout_seconds=_LOOK_SECONDS)
        if ended.error:
            raise ValueError(f"systemctl does not say the main process of {rule.unit}: {ended.error}")
        text, source = ended.output.strip(), rule.unit
    if not text.isdecimal() or int(text) <= 1:
        raise ValueError(f"{source} names no running process, but {text[:40]!r}")
    return int(text), source


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(64).decode(errors="replace").strip()
