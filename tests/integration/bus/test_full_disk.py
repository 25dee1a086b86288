"""A server whose disk was full: whoever publishes is told what a person has to do."""

import asyncio
import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from fleetcast.bus import Bus, connect, declare
from fleetcast.bus.errors import BusUnavailable
from fleetcast.bus.publish import STREAM_STANDS_STILL
from fleetcast.bus.testing import fast_settings, nats_server

pytestmark = pytest.mark.asyncio

SUBJECT = "fc.ev.model.promoted.m"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("a tmpfs can be mounted by root only")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path) -> Path:
    """Take all the room that there is."""
    ballast = place / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    return ballast


def quiet_bus(url: str) -> AbstractAsyncContextManager[Bus]:
    """One whose round trips write nothing meanwhile: it is the stream of events that meets the full disk."""
    return connect(fast_settings(url, canary_interval_seconds=120.0), node="n1", daemon="test")


async def publish(bus: Bus, deadline_seconds: float = 30.0) -> None:
    await bus.publish_raw(SUBJECT, b"x" * 200_000, deadline_seconds=deadline_seconds)


async def test_a_stream_that_could_not_be_written_needs_room_and_a_restart_and_the_error_says_so(
    small_disk: Path,
) -> None:
    async with nats_server(small_disk / "nats") as server, quiet_bus(server.url) as bus:
        await declare(bus, 1)
        await publish(bus)
        ballast = await asyncio.to_thread(fill, small_disk)
        with pytest.raises(BusUnavailable):
            await publish(bus, 1.0)
        ballast.unlink()

        with pytest.raises(BusUnavailable, match="was not stored") as still:
            await publish(bus, 1.0)
        assert still.value.next_step == STREAM_STANDS_STILL
        assert os.strerror(errno.ENOSPC).lower() in (await asyncio.to_thread(server.health) or "")

        await server.restart_async()
        await bus.publish_raw(SUBJECT, b"again")
        assert (await bus.last_sequence("FC_EVENTS")) == 2
