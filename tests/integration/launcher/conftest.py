"""A small checkout with the real launcher: a package without dependencies, pinned by an excerpt of the real lock."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BUILD_TOOLS = ("pip", "hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers")
PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "fleetcast"
version = "0.0.1"
scripts = { fleetcast = "fleetcast.cli:main" }
[tool.hatch.build.targets.wheel]
packages = ["source/fleetcast"]
dev-mode-dirs = ["source"]
"""
PROGRAM = """
import sys

def main():
    print("ran", *sys.argv[1:])
"""


@dataclass(frozen=True)
class Checkout:
    """A checkout whose program prints `ran` and its arguments."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def launcher(self) -> Path:
        return self.folder / "fleetcast"

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    def start(self, *arguments: str, launcher: Path | None = None, cwd: Path | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [launcher or self.launcher, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd or self.folder,
            env={**os.environ, **self.env},
            start_new_session=True,
        )

    def run(self, *arguments: str, launcher: Path | None = None, cwd: Path | None = None) -> "Ran":
        with self.start(*arguments, launcher=launcher, cwd=cwd) as process:
            out, err = process.communicate(timeout=110)
        return Ran(process.returncode, out, err)

    def with_env(self, **env: str) -> "Checkout":
        return Checkout(self.folder, {**self.env, **env})


@dataclass(frozen=True)
class Ran:
    """What one call of the launcher did."""

    code: int
    out: str
    err: str

    @property
    def installed(self) -> bool:
        return "installing into" in self.err


def make(folder: Path) -> Checkout:
    """Write a small checkout; nothing is installed yet."""
    program = folder / "source" / "fleetcast" / "cli.py"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "requirements.lock").write_text(excerpt((ROOT / "requirements.lock").read_text()))
    shutil.copy(ROOT / "fleetcast", folder / "fleetcast")
    return Checkout(folder)


def excerpt(lock: str) -> str:
    """The entries of the build tools."""
    entries = re.findall(r"(?m)^\S+==(?:.*\\\n)*.*\n", lock)
    return "".join(entry for entry in entries if entry.split("==")[0] in BUILD_TOOLS)


@pytest.fixture
def fresh(tmp_path: Path) -> Checkout:
    """A checkout that was never used."""
    return make(tmp_path / "check out")


@pytest.fixture(scope="session")
def first_call(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, Ran]:
    """A checkout, and what the first call of its launcher did."""
    checkout = make(tmp_path_factory.mktemp("launcher") / "check out")
    return checkout, checkout.run("status", "--json", "two words")


@pytest.fixture(scope="session")
def used(first_call: tuple[Checkout, Ran]) -> Checkout:
    """A checkout whose launcher was called before."""
    checkout, ran = first_call
    assert ran.code == 0, ran.err
    return checkout
