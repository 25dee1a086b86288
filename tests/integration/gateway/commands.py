"""Commands as people paste them: run one after the other by one process, as `fleetcast` would."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_READER: Final = """
import contextlib, io, json, shlex, sys
from fleetcast.cli.entry import run
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(json.loads(line))
    print(json.dumps([int(code), out.getvalue(), err.getvalue()]), flush=True)
"""


class Commands:
    """Runs commands about one fleet."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, line: str, *more: str) -> str:
        """What a command printed; it has to begin with `fleetcast` and to end with 0."""
        name, *arguments = shlex.split(line)
        assert name == "fleetcast", line
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([*arguments, *more]) + "\n")
        self._process.stdin.flush()
        code, out, err = json.loads(self._process.stdout.readline())
        assert code == 0, f"{line}: {code}\n{out}{err}"
        return str(out)

    def document(self, line: str) -> dict[str, Any]:
        """The same with --json."""
        found = json.loads(self.run(line, "--json"))
        assert isinstance(found, dict)
        return found


@contextmanager
def commands(config: Path) -> Iterator[Commands]:
    """Commands with the settings of *config*."""
    process = subprocess.Popen(
        [sys.executable, "-c", _READER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "FLEETCAST_CONFIG": str(config)},
    )
    try:
        yield Commands(process)
    finally:
        process.kill()
        process.communicate()
