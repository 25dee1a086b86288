"""Whether the GPUs of this node compute: asked of a child process, which a broken GPU may abort, hang or kill."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fleetcast.config import environment

CHILD: Final = Path(__file__).with_name("probe_child.py")
SECONDS: Final = 90.0
"""Importing torch from a cold disk and starting a driver took up to 40; a GPU that hangs never answers."""
END_SECONDS: Final = 5.0
MOST_BYTES: Final = 64 * 1024
_HIDING: Final = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe found.

    Attributes:
        ok: every GPU computed as it should; None: nothing could be asked (no torch, no driver).
        detail: in one line.
        arch_list: what torch was built for; empty: there is no torch.
        gpus: of each: `index`, `ok`, `error`, `seconds`.
    """

    ok: bool | None
    detail: str
    arch_list: tuple[str, ...] = ()
    gpus: tuple[Mapping[str, Any], ...] = ()


async def probe(
    python: str = sys.executable,
    *,
    env: Mapping[str, str] | None = None,
    seconds: float = SECONDS,
    child: Path = CHILD,
) -> Probed:
    """Have a child process use every GPU once; never raises for what the child does.

    Args:
        python: an interpreter that has the torch of the jobs; without torch the driver alone is asked.
        env: its environment; None: that of a job here, without what hides GPUs.
    """
    surroundings = environment.for_job(os.environ) if env is None else dict(env)
    for name in _HIDING if env is None else ():
        surroundings.pop(name, None)
    try:
        process = await asyncio.create_subprocess_exec(
            python,
            "-I",
            str(child),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=surroundings,
            start_new_session=True,
        )
    except OSError as e:
        return Probed(None, f"the probe could not be started with {python}: {e.strerror}")
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    except TimeoutError:
        return Probed(False, f"the GPU did not answer within {seconds:g} s")
    finally:
        if process.returncode is None:
            await _end(process)
    return read(process.returncode or 0, out[-MOST_BYTES:], err[-MOST_BYTES:])


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # One that hangs inside the driver does not end for a SIGKILL either.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            await process.communicate()


def read(code: int, out: bytes, err: bytes) -> Probed:
    """What the child's end and its output say."""
    if code != 0:
        said = err.decode(errors="replace").strip().splitlines()
        how = f"killed by signal {-code}" if code < 0 else f"exit {code}"
        return Probed(False, f"the probe ended with {how}: {said[-1][:300] if said else 'it said nothing'}")
    try:
        found = json.loads(out.decode().strip().splitlines()[-1])
        gpus = tuple(dict(each) for each in found["gpus"])
    except (ValueError, KeyError, TypeError, IndexError) as e:
        return Probed(False, f"the probe's answer cannot be read: {e}")
    arch_list = tuple(str(each) for each in found.get("arch_list") or ())
    if not gpus:
        return Probed(None, str(found.get("error") or "no GPU was found"), arch_list)
    return Probed(all(each.get("ok") for each in gpus), _sentence(str(found.get("with")), gpus), arch_list, gpus)


def _sentence(means: str, gpus: Sequence[Mapping[str, Any]]) -> str:
    broken = [f"GPU {each.get('index')}: {each.get('error')}" for each in gpus if not each.get("ok")]
    if broken:
        return f"{'; '.join(broken)} ({means})"
    return f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''} computed as they should ({means})"
