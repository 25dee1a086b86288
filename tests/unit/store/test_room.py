"""Room on the disk: what is promised to one transfer is not promised to another."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.transport.errors import StoreFull
from fleetcast.transport.store.room import Hold, Room, unwritten

MIB = 2**20


class Disk(Room):
    """Room on a disk that is a number."""

    def __init__(self, free: int, reserve: int = 0) -> None:
        super().__init__(Path("/nowhere"), reserve)
        self.free = free

    def free_bytes(self) -> int:
        return self.free


@dataclass
class Transfer:
    """Writes its bytes bit by bit."""

    disk: Disk
    left: int
    hold: Hold = field(init=False)

    def __post_init__(self) -> None:
        self.hold = self.disk.hold("t", lambda: self.left)

    def write(self, count: int) -> None:
        count = min(count, self.left)
        self.disk.free -= count
        self.left -= count


def test_two_transfers_do_not_both_see_the_same_free_bytes() -> None:
    disk = Disk(free=100)
    Transfer(disk, 60)
    with pytest.raises(StoreFull, match="no room for second: 60 bytes, 60 promised to t and 0 in reserve, but 100"):
        disk.hold("second", lambda: 60)


def test_what_is_written_already_is_not_promised_twice() -> None:
    disk = Disk(free=100)
    Transfer(disk, 60).write(50)
    assert disk.free == 50
    Transfer(disk, 40)


def test_released_room_is_free_for_the_next_one() -> None:
    disk = Disk(free=100)
    with disk.hold("first", lambda: 100):
        pass
    disk.hold("second", lambda: 100)


@given(
    st.integers(0, 1000),
    st.integers(0, 100),
    st.lists(
        st.tuples(st.sampled_from(["start", "write", "end"]), st.integers(0, 9), st.integers(0, 400)), max_size=40
    ),
)
def test_reserve_stays_free_whatever_transfers_do(free: int, reserve: int, acts: list[tuple[str, int, int]]) -> None:
    disk, running = Disk(free, reserve), list[Transfer]()
    for act, which, count in acts:
        if act == "start":
            try:
                running.append(Transfer(disk, count))
            except StoreFull:
                continue
        elif running and act == "write":
            running[which % len(running)].write(count)
        elif running:
            running.pop(which % len(running)).hold.release()
        assert disk.free >= min(reserve, free)
        assert disk.needed_bytes(0) == reserve + sum(t.left for t in running)


def test_sparse_file_still_needs_its_room_and_an_allocated_one_has_it(tmp_path: Path) -> None:
    sparse, allocated, absent = (tmp_path / name for name in ("sparse", "allocated", "absent"))
    with sparse.open("wb") as file:
        file.truncate(4 * MIB)
    with allocated.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 4 * MIB)
    assert unwritten([(sparse, 4 * MIB)]) == 4 * MIB
    assert unwritten([(allocated, 4 * MIB)]) == 0
    assert unwritten([(absent, MIB), (sparse, 4 * MIB), (allocated, 5 * MIB)]) == 6 * MIB
