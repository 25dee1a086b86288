"""Running `fleetcast` as a person does: a process, its output, its exit code."""

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 60.0


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What it printed with --json: exactly one document."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True)
class Cli:
    """The command line, against one server, with a home of its own."""

    home: Path
    url: str | None = None

    @property
    def env(self) -> dict[str, str]:
        """The environment of its commands."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("NATS_", "FLEETCAST_"))}
        own = {"HOME": str(self.home), "XDG_STATE_HOME": str(self.home / "state")}
        return kept | own | ({"NATS_URL": self.url} if self.url else {})

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Begin a command."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "fleetcast",
            *arguments,
            env=self.env,
            cwd=self.home,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *arguments: str) -> Ended:
        """Run a command to its end."""
        return await ended(await self.start(*arguments))


async def ended(process: asyncio.subprocess.Process, number: signal.Signals | None = None) -> Ended:
    """Wait for the end of *process*, after sending it *number* where given."""
    if number is not None:
        process.send_signal(number)
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    assert "Traceback" not in err.decode(), err.decode()
    return Ended(process.returncode, out.decode(), err.decode())
