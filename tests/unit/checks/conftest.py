"""A task as the child process has it, over bytes in memory."""

import io
from collections.abc import Callable

import pytest

from fleetcast.transport.checks.child import Task


@pytest.fixture
def task() -> Callable[..., Task]:
    def make(data: bytes, *, whole: bool = False, folder: str = "/nowhere") -> Task:
        return Task(io.BytesIO(data), len(data), folder, 200.0, whole, {})

    return make
