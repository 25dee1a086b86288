"""The daemon's side of a format test: one child process per file, killed when nobody waits for it any more."""

import asyncio
import contextlib
import json
import math
import os
import signal
import stat
import sys
from dataclasses import replace
from pathlib import Path

from fleetcast.config.settings import GIB, VerifySettings
from fleetcast.events.content import Format
from fleetcast.transport.checks.outcome import FormatReport
from fleetcast.transport.checks.report import Verdict
from fleetcast.transport.errors import StoreError

LIGHT_BYTES = 1 * GIB
"""Address space where only headers are read: the interpreter with numpy maps 0.3 GiB."""
_MAPS_THE_FILE = frozenset({Format.TORCH, Format.ONNX})
_COPIES = {Format.TORCH: 1, Format.ONNX: 4}
"""How often the file itself may be in the address space: torch maps it, ONNX parses and copies it."""
_ENVIRONMENT = {
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Looking at a file must not touch the GPU that serves.
    "CUDA_VISIBLE_DEVICES": "",
    "HIP_VISIBLE_DEVICES": "",
}
_INHERITED = ("LD_LIBRARY_PATH",)
"""Everything else stays behind, among it the variables that make torch.load run code."""
_TAIL = 2000


async def check(
    path: Path,
    format: Format,  # noqa: A002
    settings: VerifySettings,
    *,
    whole: bool,
    nice: int,
) -> FormatReport:
    """Run the test of *format* on a file (see the package)."""
    if format is Format.OPAQUE:
        return FormatReport(Verdict.NOT_TESTED, "opaque")
    fd = await asyncio.to_thread(_open, path)
    try:
        request = _request(fd, path, format, settings, whole=whole) | {"nice": nice}
        report = await _run(fd, request, settings.timeout_seconds)
    finally:
        os.close(fd)
    return _by_policy(report, settings)


def _open(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as fault:
        raise StoreError(f"{path} cannot be opened for its format test: {fault.strerror}") from fault
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise StoreError(f"{path} is no plain file")
    return fd


def _request(fd: int, path: Path, format: Format, settings: VerifySettings, *, whole: bool) -> dict[str, object]:  # noqa: A002
    size = os.fstat(fd).st_size
    memory = settings.memory_bytes if format in _MAPS_THE_FILE else min(settings.memory_bytes, LIGHT_BYTES)
    return {
        "fd": fd,
        "format": format.value,
        "folder": str(path.absolute().parent),
        "memory_bytes": memory + size * _COPIES.get(format, 0),
        "cpu_seconds": math.ceil(settings.timeout_seconds) + 1,
        "ratio": settings.max_inflation_ratio,
        "whole": whole,
    }


async def _run(fd: int, request: dict[str, object], timeout_seconds: float) -> FormatReport:
    child = await _start(fd, request)
    try:
        async with asyncio.timeout(timeout_seconds):
            out, err = await child.communicate()
    except TimeoutError:
        return FormatReport(Verdict.REFUSED, f"its format test took longer than {timeout_seconds:g} s")
    finally:
        await _end(child)
    return _read(out, err, child.returncode or 0)


async def _start(fd: int, request: dict[str, object]) -> asyncio.subprocess.Process:
    environment = _ENVIRONMENT | {k: os.environ[k] for k in _INHERITED if k in os.environ}
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-B", "-m", "fleetcast.transport.checks.child", json.dumps(request)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd="/",
            pass_fds=(fd,),
            start_new_session=True,
        )
    except OSError as fault:
        raise StoreError(f"the format test cannot be started: {fault}") from fault


async def _end(child: asyncio.subprocess.Process) -> None:
    """Leave no child behind, also when the waiting task is cancelled."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await asyncio.shield(child.communicate())


def _read(out: bytes, err: bytes, code: int) -> FormatReport:
    """The child says one line of JSON; anything else is a refusal."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        said = json.loads(out)
        return FormatReport(Verdict(said["verdict"]), _printable(str(said["detail"])), dict(said["facts"]))
    return FormatReport(Verdict.REFUSED, f"its format test {_ending(code)}: {_tail(err)}")


def _ending(code: int) -> str:
    if code == -signal.SIGXCPU:
        return "used more processor time than it may"
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def _tail(err: bytes) -> str:
    return _printable(err.decode(errors="replace")[-_TAIL:]) or "it said nothing"


def _printable(text: str) -> str:
    """What a hostile file made a library say goes to logs and terminals: no control characters."""
    return "".join(c if c.isprintable() else " " for c in text).strip()


def _by_policy(report: FormatReport, settings: VerifySettings) -> FormatReport:
    if report.verdict is Verdict.NOT_TESTED and settings.pickle_policy == "refuse":
        why = f"{report.detail}: it cannot be tested without running it, and verify.pickle_policy is refuse"
        return replace(report, verdict=Verdict.REFUSED, detail=why)
    return report
