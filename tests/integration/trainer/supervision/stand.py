"""Supervised commands for tests, and supervisors that do one thing wrong."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL

from fleetcast.daemons.trainer.supervision.handle import Handle
from fleetcast.daemons.trainer.supervision.spec import Exit, RunSpec
from fleetcast.daemons.trainer.supervision.supervisors import LocalSupervisor, process_command

SECONDS = 60.0
ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
MODULES = "fleetcast.daemons.trainer.supervision"

NO_CAGE = f"from {MODULES}.cage import Cage; Cage.make = classmethod(lambda *_: None)"
"""As where there are no control groups, or none for this user."""
LEAVES_THE_REST = f"from {MODULES}.job import Job; Job._end_rest = lambda _: set(); Job._drain = lambda *_: None"
SIGNALS_THE_GROUP = f"from {MODULES} import job; job.os.kill = job.os.killpg"
KEEPS_NO_RESERVE = f"from {MODULES} import child; child._reserve = lambda _: None"
CANNOT_GIVE_WAY = f"from {MODULES}.output import Log; Log.give_way = lambda _: None"
GIVES_UP_AT_ONCE = f"from {MODULES} import child; child.WRITE_FOR_SECONDS = 0.0"
LOOKS_OFTEN = f"from {MODULES} import job; job._TICK_SECONDS = 0.1"
MEETS_WHAT_NOTHING_ENDS = (
    f"from {MODULES} import job; job.Job._kill_all = lambda _: None; job.end_all = lambda *_: {{77}}; "
    "job.STUCK_SECONDS = 0.2"
)
"""As a process in a call to a broken driver."""
CANNOT_DIE_WITH_IT = f"from {MODULES} import job; job._PR_SET_PDEATHSIG = 9999"
NO_TOKEN = f"from {MODULES} import job; job.TOKEN_VARIABLE = 'SOMETHING_ELSE'"
NO_LOCK = f"from {MODULES} import child; child.fcntl.flock = lambda *_: None"
BELIEVES_ANY_TOKEN = (
    f"from {MODULES} import child, folder; child.read_spec = lambda path: (folder.read_spec(path)[0], sys.argv[2])"
)


def changed(*changes: str) -> Callable[[RunSpec, str], list[str]]:
    """How a supervisor process is started that does something in another way."""

    def command(spec: RunSpec, token: str) -> list[str]:
        code = "; ".join(("import sys", *changes, f"from {MODULES}.child import main", "sys.exit(main(sys.argv[1:]))"))
        return [sys.executable, "-I", "-B", "-c", code, spec.folder, token]

    return command


@dataclass
class Stand:
    """Starts commands in folders of a test, and leaves nothing of them behind."""

    home: Path
    handles: list[Handle] = field(default_factory=list)

    def spec(self, *command: str, name: str = "run-1", claim: int = 1, **more: object) -> RunSpec:
        """A command as a run of this test."""
        given: dict[str, object] = {
            "cwd": "", "env": ENVIRONMENT, "folder": str(self.home / name), "grace_seconds": 30.0, "log_bytes": 1 << 20,
        }  # fmt: skip
        return RunSpec(name, claim, command, **given | more)  # type: ignore[arg-type]

    async def start(self, spec: RunSpec, *changes: str) -> Handle:
        """Start it, under a supervisor with these changes."""
        handle = await LocalSupervisor(changed(*changes) if changes else process_command).start(spec)
        self.handles.append(handle)
        return handle

    async def outcome(self, *command: str, changes: tuple[str, ...] = (), **more: object) -> Exit:
        """How a command ends."""
        return await ended(await self.start(self.spec(*command, **more), *changes))  # type: ignore[arg-type]

    def log(self, stream: str = "stdout", name: str = "run-1") -> bytes:
        """What a run's newest log file holds, without the notes of its supervisor."""
        lines = (self.home / name / f"{stream}.log").read_bytes().splitlines(keepends=True)
        return b"".join(line for line in lines if not line.startswith(b"[fleetcast] "))

    def clean(self) -> None:
        """End everything that was started here."""
        for handle in self.handles:
            if handle.alive():
                os.kill(handle.state.supervisor.pid, SIGKILL)
            while handle.alive():
                time.sleep(0.01)
            # What a handle does about a supervisor that was killed.
            handle._conclude()


async def ended(handle: Handle) -> Exit:
    """How it ended, within the patience of a test."""
    async with asyncio.timeout(SECONDS):
        return await handle.wait()


async def until(true: Callable[[], object]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(SECONDS):
        while not await asyncio.to_thread(true):  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0.02)


def lives(pid: int) -> bool:
    """Whether a process runs: a zombie does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def number_in(file: Path) -> int:
    """A process id that a command has written; 0: not yet."""
    with suppress(OSError, ValueError):
        return int(file.read_text())
    return 0
