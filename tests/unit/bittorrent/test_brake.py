"""What is received and not written yet stays within bounds."""

import asyncio

from fleetcast.transport.bittorrent.brake import BRAKED_BYTES_PER_SECOND, HIGH_BYTES, LOW_BYTES, Brake
from fleetcast.transport.bittorrent.notes import Load


class Torrents:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.caps: dict[str, int] = {}
        self.looks = 0
        self.looked = asyncio.Event()

    def ask_load(self) -> None:
        self.looks += 1
        self.looked.set()

    def brake(self, key: str, bytes_per_second: int) -> None:
        self.caps[key] = bytes_per_second


def test_too_much_in_memory_slows_all_torrents_down_until_little_is_left() -> None:
    torrents = Torrents()
    brake = Brake(torrents, lambda: ("one", "two"))
    brake.take(Load(HIGH_BYTES, 0, 0))
    assert torrents.caps == {}
    brake.take(Load(HIGH_BYTES + 1, 0, 0))
    assert torrents.caps == dict.fromkeys(("one", "two"), BRAKED_BYTES_PER_SECOND)
    assert not brake.room.is_set()
    brake.take(Load(LOW_BYTES + 1, 0, 0))
    assert not brake.room.is_set()
    brake.take(Load(LOW_BYTES, 0, 0))
    assert torrents.caps == dict.fromkeys(("one", "two"), 0)
    assert brake.room.is_set()


def test_the_last_look_is_what_is_told_of_the_queue() -> None:
    brake = Brake(Torrents(), tuple)
    brake.take(Load(4711, 0, 0))
    assert brake.queued_bytes == 4711


def test_nobody_looks_while_nothing_is_fetched() -> None:
    async def looks_before_and_after() -> tuple[int, int]:
        torrents, busy = Torrents(), asyncio.Event()
        watching = asyncio.create_task(Brake(torrents, tuple).watch(busy))
        for _ in range(10):
            await asyncio.sleep(0)
        still = torrents.looks
        busy.set()
        await asyncio.wait_for(torrents.looked.wait(), 30)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        return still, torrents.looks

    assert asyncio.run(looks_before_and_after()) == (0, 1)
