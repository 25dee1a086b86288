"""What daemon and child say to each other."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.transport.bittorrent import wire

MESSAGES: list[wire.Message] = [
    wire.Start("127.0.0.1", 0, "127.0.0.1", limits=(0, 5, 7), nice=10),
    wire.Limits(1, 2, 3),
    wire.Moved(1, 2, 3),
    wire.Add("ab" * 32, "ZA==", "/data/swärm", verified=True, peers=("127.0.0.1:1", "[::1]:2")),
    wire.Pieces("ab" * 32, (3, 1, 2)),
    wire.Received("ab" * 32, (("127.0.0.1:1", "-FC0100-x", 7), ("h:2", "", 9))),
    wire.Alive(),
    wire.Status("ab" * 32, "downloading", 1, 2, 3, 4, 5, 6),
]


@given(st.lists(st.sampled_from(MESSAGES)), st.integers(1, 500))
def test_messages_arrive_as_they_were_sent_however_the_stream_is_cut(sent: list[wire.Message], step: int) -> None:
    stream, decoder = b"".join(map(wire.encode, sent)), wire.Decoder()
    arrived = [m for at in range(0, len(stream), step) for m in decoder.feed(stream[at : at + step])]
    assert arrived == sent


def test_a_stream_that_is_broken_is_noticed() -> None:
    with pytest.raises(ValueError, match="a message of"):
        list(wire.Decoder().feed(b"\xff" * 8))


def test_a_peer_tag_fills_a_peer_id() -> None:
    assert len(wire.peer_tag("10.0.0.1:6881")) == 20
    assert wire.peer_tag("10.0.0.1:6881") != wire.peer_tag("10.0.0.1:6882")


def test_the_child_loads_nothing_but_the_standard_library_and_libtorrent() -> None:
    program = """
import sys
import fleetcast.transport.bittorrent.child
ours = sorted(name for name in sys.modules if name.startswith("fleetcast."))
heavy = sorted(sys.modules.keys() & {"pydantic", "structlog", "numpy", "nats", "aiofiles", "h11", "torch"})
print(ours, heavy)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    names = [
        "borrowing",
        "brake",
        "child",
        "flushing",
        "ledger",
        "line",
        "notes",
        "pardons",
        "profile",
        "purging",
        "rhythm",
        "session",
        "torrent",
        "tracker",
        "wire",
    ]
    ours = ["fleetcast.transport", "fleetcast.transport.bittorrent"]
    shared = [f"fleetcast.transport.{name}" for name in ("capped", "listening", "niceness")]
    assert said == f"{ours + [f'{ours[1]}.{name}' for name in names] + shared} []\n"
