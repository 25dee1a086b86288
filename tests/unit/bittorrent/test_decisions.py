"""What is decided without a network: stalls, sums of bytes, answers of the tracker."""

import pytest

from fleetcast.transport.bittorrent import wire
from fleetcast.transport.bittorrent.fetching import StallWatch
from fleetcast.transport.bittorrent.ledger import Ledger
from fleetcast.transport.bittorrent.profile import listen_interfaces
from fleetcast.transport.bittorrent.tracker import LoopbackTracker, announce_body

TOTAL = 1000


def status(payload: int = 0, *, peers: int = 1, state: str = "downloading", done: int = 0) -> wire.Status:
    return wire.Status("k", state, done, 0, peers, payload, 0, 0)


def test_no_byte_for_too_long_is_a_stall() -> None:
    watch = StallWatch(5.0)
    assert [watch.stalled(t, status(7), TOTAL) for t in (0.0, 4.9, 5.1)] == [False, False, True]


def test_a_byte_now_and_then_is_no_stall() -> None:
    watch = StallWatch(5.0)
    assert not any(watch.stalled(4.0 * n, status(n), TOTAL) for n in range(10))


@pytest.mark.parametrize(
    "harmless", [None, status(7, peers=0), status(7, state="checking_files"), status(7, done=TOTAL)]
)
def test_time_without_sources_or_in_a_check_or_at_the_end_does_not_count(harmless: wire.Status | None) -> None:
    watch = StallWatch(5.0)
    assert not watch.stalled(0.0, status(7), TOTAL)
    assert not watch.stalled(100.0, harmless, TOTAL)
    assert not watch.stalled(101.0, status(7), TOTAL)
    assert watch.stalled(107.0, status(7), TOTAL)


def test_bytes_of_a_sender_add_up_over_its_connections() -> None:
    ledger = Ledger()
    ledger.note((("a:1", "tag", 100), ("b:2", "", 5)))
    ledger.note((("a:1", "tag", 250),))
    ledger.note((("a:1", "tag", 30), ("c:3", "tag", 4)))
    assert set(ledger.totals()) == {("a:1", "tag", 280), ("b:2", "", 5), ("c:3", "tag", 4)}


def test_senders_that_sent_nothing_are_left_out() -> None:
    ledger = Ledger()
    ledger.note((("a:1", "", 0),))
    assert ledger.totals() == ()


def test_the_tracker_answers_in_compact_form() -> None:
    four, six = b"\x7f\x00\x00\x01\x1a\xe1", bytes(15) + b"\x01\x1a\xe1"
    expected = b"d8:intervali60e5:peers6:" + four + b"6:peers618:" + six + b"e"
    assert announce_body(("127.0.0.1:6881", "[::1]:6881")) == expected


def test_new_peers_wait_until_somebody_asked_for_them() -> None:
    tracker = LoopbackTracker()
    assert tracker.set_peers("k", ("127.0.0.1:1",))
    assert not tracker.set_peers("k", ("127.0.0.1:1",))
    assert tracker.unasked == {"k"}
    assert tracker._answer(b"GET /announce/k?info_hash=x HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert tracker.unasked == frozenset()


@pytest.mark.parametrize("target", [b"/announce/unknown", b"/", b"/announce/", b"/scrape/k"])
def test_the_tracker_answers_for_known_torrents_only(target: bytes) -> None:
    tracker = LoopbackTracker()
    tracker.set_peers("k", ())
    assert tracker._answer(b"GET " + target + b" HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize(
    ("bind", "interfaces"),
    [
        ("127.0.0.1", "127.0.0.1:7"),
        ("0.0.0.0", "0.0.0.0:7"),
        ("::", "[::]:7"),
        ("192.0.2.1", "192.0.2.1:7,127.0.0.1:0"),
    ],
)
def test_the_tracker_on_loopback_can_be_asked_wherever_we_listen(bind: str, interfaces: str) -> None:
    assert listen_interfaces(bind, 7) == interfaces
