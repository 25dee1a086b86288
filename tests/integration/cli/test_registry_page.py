"""docs/registry.md: every command on the page runs as written, in its order, and ends as the page says."""

import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.cli.helpers import ended, environment, start
from tests.integration.cli.weights import safetensors

from fleetcast.cli.entry import run

PAGE = (Path(__file__).parents[3] / "docs" / "registry.md").read_text()
EXIT = re.compile(r"#.*\bexit (\d)")


@dataclass(frozen=True)
class Line:
    """A command of the page, and the exit code that it names."""

    text: str
    code: int

    @property
    def arguments(self) -> list[str]:
        name, *arguments = shlex.split(self.text, comments=True)
        assert name == "fleetcast"
        return arguments


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def lines() -> list[Line]:
    texts = [text for block in blocks("sh") for text in block.splitlines()]
    return [Line(text, int(found[1]) if (found := EXIT.search(text)) else 0) for text in texts]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder in which the `up` of the page runs, with the files that the page names."""
    (gates,) = blocks("toml")
    (tmp_path / "gates.toml").write_text(gates)
    (tmp_path / "review.pdf").write_bytes(b"%PDF-1.7 all well")
    process = start(tmp_path, None, "up", "--gates", "gates.toml", "--json")
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), ended(process).err
        for number in (41, 42, 43):
            path = tmp_path / ".fleetcast-up" / "publish" / f"hex8-{number}.safetensors"
            path.write_bytes(safetensors(number))
        yield tmp_path
    finally:
        _end(process)


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        ended(process, signal.SIGINT)


def test_every_command_of_the_page_ends_as_it_says(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment(home).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FLEETCAST_CONFIG", str(home / ".fleetcast-up" / "fleetcast.toml"))
    monkeypatch.chdir(home)
    wrong = []
    asked = lines()
    assert len(asked) > 50
    for line in asked:
        capsys.readouterr()
        code = run(line.arguments)
        said = capsys.readouterr()
        if code != line.code:
            wrong.append(f"{line.text}\n  ended with {code}\n{said.out}{said.err}")
    assert not wrong, "\n".join(wrong)
    assert {line.code for line in asked} == {0, 1, 2, 3, 4}
