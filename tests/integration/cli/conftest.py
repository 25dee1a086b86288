"""Puts back what running the command line in this process changes for the process."""

import signal
from collections.abc import Iterator

import pytest
import structlog

from fleetcast.cli.running import ENDING


@pytest.fixture(autouse=True)
def process_as_before() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in ENDING}
    logging = structlog.get_config()
    yield
    structlog.configure(**logging)
    for number, handler in handlers.items():
        signal.signal(number, handler)
