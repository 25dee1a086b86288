"""Signals mean something to the daemon inside the block only."""

import asyncio
import os
import signal

import pytest

from fleetcast.daemons.runtime import signals


@pytest.mark.asyncio
async def test_signal_is_heard_inside_the_block_and_the_old_handler_is_back_outside() -> None:
    def old(*_: object) -> None: ...

    before = signal.signal(signal.SIGHUP, old)
    heard: asyncio.Queue[signal.Signals] = asyncio.Queue()
    try:
        with signals.handled(heard.put_nowait, (signal.SIGHUP,)):
            os.kill(os.getpid(), signal.SIGHUP)
            assert await asyncio.wait_for(heard.get(), 5) is signal.SIGHUP
        assert signal.getsignal(signal.SIGHUP) is old
    finally:
        signal.signal(signal.SIGHUP, before)
