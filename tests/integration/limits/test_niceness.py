"""What may take its time runs at low priority, and nothing else does."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from fleetcast.config.settings import BittorrentSettings
from fleetcast.transport.bittorrent import BittorrentTransport
from fleetcast.transport.niceness import lower

NICE = 7
_NICE_FIELD = 18
"""Position in /proc/PID/stat, counted from 0 (proc(5))."""


def niceness(task: Path) -> int:
    # The name of a task may contain spaces, and ends with the last parenthesis.
    _name, rest = (task / "stat").read_text().rsplit(")", 1)
    return int(rest.split()[_NICE_FIELD - 2])


def test_only_the_threads_of_the_pool_are_lowered() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with ThreadPoolExecutor(1, initializer=partial(lower, before + NICE)) as pool:
        thread = pool.submit(threading.get_native_id).result()
        assert os.getpriority(os.PRIO_PROCESS, thread) == before + NICE
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_nothing_is_ever_made_more_urgent() -> None:
    with ThreadPoolExecutor(1, initializer=partial(lower, 12)) as pool:
        pool.submit(lower, 3).result()
        thread = pool.submit(threading.get_native_id).result()
        assert os.getpriority(os.PRIO_PROCESS, thread) >= 12


@pytest.mark.asyncio
async def test_every_thread_of_the_bittorrent_process_is_lowered() -> None:
    nice = os.getpriority(os.PRIO_PROCESS, 0) + NICE
    transport = BittorrentTransport(BittorrentSettings(port=0), "127.0.0.1", "127.0.0.1", nice=nice)
    await transport.start()
    try:
        tasks = list(Path(f"/proc/{transport.stats().child_pid}/task").iterdir())
        assert len(tasks) > 1
        assert {niceness(task) for task in tasks} == {nice}
    finally:
        await transport.close()
