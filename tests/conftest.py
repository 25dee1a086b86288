"""What holds for every test: no blocking call of ours on an event loop, no task left behind, no warning."""

import asyncio
import importlib
import importlib.util
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import pytest_asyncio
import structlog
from blockbuster import blockbuster_ctx
from hypothesis import settings

from fleetcast.cli.running import ENDING

PACKAGES = ("config", "events", "client", "bus", "transport", "registry", "daemons", "cli")
HARNESSES = ("fleetcast.daemons.testing", "fleetcast.transport.testing")
"""What starts fleets for tests may wait for files: nothing else runs on its loop."""
STANDARD_STREAMS = "daemons/runtime/logs.py"

# Machines that run this suite are small and busy: how long one example takes says nothing about the code.
settings.register_profile("fleetcast", deadline=None)
settings.register_profile("brief", deadline=None, max_examples=50)

# Up to Python 3.13, pytest-asyncio asks for the current loop before its first test; with none set, asyncio makes one
# that nobody closes, which is a ResourceWarning at the end of the run. With None set, there is nothing to make.
asyncio.set_event_loop(None)


def pytest_configure(config: pytest.Config) -> None:
    """Fewer examples of each property where the long versions are left out as well."""
    settings.load_profile("brief" if config.getoption("markexpr") == "not soak" else "fleetcast")


@pytest.fixture(scope="session", autouse=True)
def blocking_calls_are_refused() -> Iterator[None]:
    """Raise BlockingError where code of ours waits for a file, a socket, a lock or a sleep on an event loop.

    Tests themselves may: the rule looks for a frame of ours on the stack. Logs may write to their stream.
    """
    excluded = [importlib.import_module(name) for name in HARNESSES]
    with blockbuster_ctx([_folder(name) for name in PACKAGES], excluded_modules=excluded) as rules:
        for write in ("io.TextIOWrapper.write", "io.BufferedWriter.write", "os.write"):
            rules.functions[write].can_block_in(STANDARD_STREAMS, "write")
        yield


@pytest.fixture(autouse=True)
def process_as_before() -> Iterator[None]:
    """Put back what running the command line in this process changes for the process."""
    handlers = {number: signal.getsignal(number) for number in ENDING}
    logging = structlog.get_config()
    yield
    structlog.configure(**logging)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest_asyncio.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Fail a test that leaves a task running: in a daemon it would be work that nobody owns."""
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before - {asyncio.current_task()} if not task.done()}
    assert not left, f"tasks left behind: {sorted(task.get_name() for task in left)}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", place], check=False).returncode:
        pytest.skip("this machine does not let us mount a file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Watch every asyncio test for tasks left behind; first in line, so that it looks when all other fixtures are
    gone.
    """
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("asyncio"):
            item.fixturenames.insert(0, "no_task_left")


def _folder(name: str) -> ModuleType:
    """A stand-in for one of our packages that has its folder, without importing what the package imports."""
    spec = importlib.util.find_spec(f"fleetcast.{name}")
    assert spec is not None
    package = ModuleType(spec.name)
    package.__path__ = list(spec.submodule_search_locations or ())
    return package
