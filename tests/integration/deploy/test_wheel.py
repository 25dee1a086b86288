"""The wheel holds the whole program, typed, and nothing else."""

import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = ("config", "events", "transport", "daemons")
PACKAGES = {"examples", "config", "events", "client", "bus", "transport", "registry", "daemons", "security", "cli"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built with the pinned build tools."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["-qq", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, ROOT], check=True, timeout=100)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """The files in it."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata(wheel: Path, file: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(f".dist-info/{file}"))
        return archive.read(name).decode()


def test_wheel_holds_every_source_file_at_its_import_path(names: set[str]) -> None:
    sources = {
        str(path.relative_to(ROOT / source))
        for source in SOURCES
        for path in (ROOT / source / "fleetcast").rglob("*.py")
    }

    assert {name for name in names if name.endswith(".py")} == sources


def test_wheel_puts_nothing_beside_the_namespace(names: set[str]) -> None:
    top = {name.split("/")[0] for name in names}

    assert {name for name in top if not name.endswith(".dist-info")} == {"fleetcast"}
    # A regular package there would hide, or be hidden by, every other part of the namespace.
    assert "fleetcast/__init__.py" not in names


def test_every_package_of_the_wheel_is_typed(names: set[str]) -> None:
    assert {name.split("/")[1] for name in names if name.endswith("/py.typed")} == PACKAGES


def test_wheel_names_its_command_its_licence_and_its_extras(wheel: Path, names: set[str]) -> None:
    about = Parser().parsestr(metadata(wheel, "METADATA"))

    assert "fleetcast = fleetcast.cli:main" in metadata(wheel, "entry_points.txt")
    assert about["License-Expression"] == "Apache-2.0"
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert set(about.get_all("Provides-Extra") or []) == {
        "amd",
        "apprise",
        "demo",
        "gateway",
        "nvidia",
        "onnx",
        "otel",
        "torch",
    }


def test_packages_of_the_users_card_are_all_required(wheel: Path) -> None:
    required = Parser().parsestr(metadata(wheel, "METADATA")).get_all("Requires-Dist") or []

    for name in ("nats-py", "pydantic", "aiofiles", "libtorrent", "aria2p", "structlog"):
        assert name in {re.split(r"[<>=;, \[]", requirement)[0] for requirement in required}
    assert "torch>=2.11; extra == 'torch'" in required


def test_program_runs_from_the_wheel_without_the_sources(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = f"""
import sys
sources = [{str(ROOT)!r} + "/" + name for name in {SOURCES!r}]
sys.path = [{str(tmp_path)!r}, *(path for path in sys.path if path not in sources)]
import fleetcast.cli, fleetcast.config.loader, fleetcast.bus, fleetcast.transport, fleetcast.registry
ours = [module for name, module in sys.modules.items() if name.startswith("fleetcast.")]
print({{module.__file__.startswith({str(tmp_path)!r}) for module in ours}})
"""

    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60)

    assert ran.stdout == "{True}\n", ran.stderr
