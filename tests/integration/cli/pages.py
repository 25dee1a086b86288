"""Pages whose commands people copy: read, and run as they stand, beside the `up` that the page starts."""

import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.cli.stand import ended, live_in, start
from tests.integration.cli.weights import safetensors

from fleetcast.cli.entry import run

ROOT = Path(__file__).parents[3]
_EXIT = re.compile(r"#.*\bexit (\d)")


@dataclass(frozen=True)
class Line:
    """A command of a page, and the exit code that it names."""

    text: str
    code: int

    @property
    def words(self) -> list[str]:
        """The command's words; the first is the program."""
        return shlex.split(self.text, comments=True)


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)


def lines(block: str) -> Iterator[Line]:
    """The commands of a block: one a line, or several parted by `; `."""
    for text in block.splitlines():
        said, _, comment = text.partition("  #")
        for part in said.split("; "):
            found = _EXIT.search(f"#{comment}")
            yield Line(part.strip(), int(found[1]) if found else 0)


@contextmanager
def running_up(home: Path, *arguments: str, models: Iterable[str]) -> Iterator[None]:
    """`fleetcast up` in *home*, with the files that a page names in its publish root: small models, each another."""
    process = start(home, None, "up", *arguments, "--json")
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), ended(process).err
        for number, name in enumerate(models, 1):
            (home / ".fleetcast-up" / "publish" / name).write_bytes(safetensors(number))
        yield
    finally:
        _end(process)


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        ended(process, signal.SIGINT)


def wrong_lines(
    home: Path, asked: Iterable[Line], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Run commands in this process, in *home*; what ended otherwise than the page says, with its output."""
    live_in(home, None, monkeypatch)
    monkeypatch.setenv("FLEETCAST_CONFIG", str(home / ".fleetcast-up" / "fleetcast.toml"))
    wrong = []
    for line in asked:
        capsys.readouterr()
        code = _ran(line)
        said = capsys.readouterr()
        if code != line.code:
            wrong.append(f"{line.text}\n  ended with {code}\n{said.out}{said.err}")
    return wrong


def _ran(line: Line) -> int:
    program, *arguments = line.words
    if program == "cp":
        shutil.copy(*arguments)
        return 0
    assert program in {"fleetcast", "./fleetcast"}, line.text
    return run(arguments)
