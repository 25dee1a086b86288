"""What a banned peer sent is thrown away, and nobody else pays for it."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

import pytest

from fleetcast.transport.bittorrent import purging, wire
from fleetcast.transport.bittorrent.child import Child
from fleetcast.transport.bittorrent.flushing import Flushing
from fleetcast.transport.bittorrent.ledger import Ledger
from fleetcast.transport.bittorrent.notes import PeerBanned, Remainder
from fleetcast.transport.bittorrent.session import Session, _sorted
from fleetcast.transport.bittorrent.torrent import Torrent
from fleetcast.transport.bittorrent.tracker import LoopbackTracker

EVIL, GOOD, LENDER = "10.0.0.9:6881", "10.0.0.2:6881", "10.0.0.1:6881"
HOSTS = frozenset({"10.0.0.9"})


def torrent(**fields: object) -> Torrent:
    order = wire.Add("k", "", "/folder", verified=False, peers=())
    made = Torrent("k", verified=False, born=0.0, order=order, checking=False, added=True)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_a_banned_host_is_not_let_in_again() -> None:
    assert purging.blocked([torrent(peers=(EVIL, GOOD), banned={EVIL})]) == HOSTS


@pytest.mark.parametrize("other", ["10.0.0.9:7000", "10.0.0.9:1"])
def test_a_host_with_somebody_else_on_it_is_not_blocked(other: str) -> None:
    assert purging.blocked([torrent(peers=(EVIL,), banned={EVIL}), torrent(peers=(other,))]) == frozenset()
    assert purging.blocked([torrent(lend_peer=other, banned={EVIL})]) == frozenset()


def test_a_visitor_with_a_port_of_its_own_is_blocked_by_its_host() -> None:
    assert purging.blocked([torrent(peers=(EVIL,), banned={EVIL, "10.0.0.9:51234"})]) == HOSTS
    assert purging.blocked([torrent(banned={"[fd00::9]:51234"})]) == {"fd00::9"}


def test_nobody_is_blocked_while_nobody_is_banned() -> None:
    assert purging.blocked([torrent(peers=(EVIL, GOOD), lend_peer=LENDER)]) == frozenset()


def test_who_was_banned_is_not_dialled() -> None:
    assert torrent(peers=(EVIL, GOOD), banned={EVIL}).dialled == (GOOD,)


@pytest.mark.asyncio
@pytest.mark.parametrize("over", [True, False])
async def test_nobody_is_pardoned_when_nothing_is_to_come_any_more(over: bool) -> None:
    reports: list[wire.Report] = []
    child = Child(cast("Session", Sessions(None)), LoopbackTracker(), reports.append, "me")
    child._torrents["k"] = taken = torrent(peers=(EVIL, GOOD), finished=over)
    taken.pardon(GOOD, "")
    child._on_banned(PeerBanned("k", EVIL, ""))
    assert reports == [wire.Banned("k", EVIL, "", () if over else (GOOD,))]
    await asyncio.gather(*child._asking)


def block(state: int, host: str) -> dict[str, object]:
    return {"state": state, "peer": (host, 6881), "block_size": 16384}


def test_blocks_of_a_liar_are_dropped_and_those_of_others_are_kept() -> None:
    queue = [
        {"piece_index": 3, "blocks": [block(3, "good"), block(2, "evil"), block(1, "good"), block(0, "evil")]},
        {"piece_index": 7, "blocks": [block(3, "evil"), block(0, "good")]},
        {"piece_index": 9, "blocks": [block(2, "good"), block(2, "other")]},
    ]
    kept, dropped = _sorted(queue, lambda peer: peer[0] == "evil")
    assert kept == {3: (True, False, False, False), 9: (True, True)}
    assert dropped == 2 * 16384


@dataclass
class Sessions:
    """Takes torrents out and in; `left` is what it says that is left."""

    left: Remainder | None
    asked: list[tuple[str, str, frozenset[str]]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    added: list[tuple[str, Remainder | None]] = field(default_factory=list)

    def remainder(self, key: str, banned: str, hosts: frozenset[str]) -> Remainder | None:
        self.asked.append((key, banned, hosts))
        return self.left

    def remove(self, key: str) -> None:
        self.removed.append(key)

    def add(
        self, metainfo: bytes, folder: str, tracker: str, *, verified: bool, remainder: Remainder | None = None
    ) -> None:
        assert not verified
        assert (metainfo, folder) == (b"", "/folder")
        self.added.append((tracker.rpartition("/")[2], remainder))

    def flush(self, key: str) -> None:
        pass

    def block(self, hosts: Iterable[str]) -> None:
        pass

    def announce(self, key: str) -> None:
        pass


def left(payload: int = 0, failed: int = 0, dropped: int = 0) -> Remainder:
    status = wire.Status("k", "downloading", 0, 0, 0, payload=payload, uploaded=5, failed=failed)
    return Remainder(status, ((EVIL, "", 70), (GOOD, "", 30)), {4: (True, False)}, dropped)


async def purged(t: Torrent, session: Sessions) -> None:
    """Take *t* out and put it back, as the child does."""
    t.steady.clear()
    await purging.take_out(session, t, EVIL, HOSTS)
    tracker = LoopbackTracker()
    await tracker.start()
    purging.put_back(session, tracker, t)
    await tracker.stop()


@pytest.mark.asyncio
async def test_a_torrent_is_put_back_with_its_pieces_and_what_others_sent() -> None:
    session, t = Sessions(left()), torrent()
    t.claim((0, 2))
    await purged(t, session)
    assert session.asked == [("k", EVIL, HOSTS)]
    assert session.removed == ["k"]
    [(key, remainder)] = session.added
    assert key == "k"
    assert remainder is not None
    assert (remainder.have, remainder.blocks) == (0b101, {4: (True, False)})


@pytest.mark.asyncio
async def test_blocks_of_a_piece_that_hashed_wrong_meanwhile_are_not_taken_for_there() -> None:
    session, t = Sessions(left()), torrent()
    t.spoiled.add(4)
    await purged(t, session)
    [(_, remainder)] = session.added
    assert remainder is not None
    assert remainder.blocks == {}
    assert t.spoiled == set()


@pytest.mark.asyncio
async def test_a_folder_that_is_to_be_checked_meanwhile_is_put_back_without_belief() -> None:
    session, t = Sessions(left()), torrent()
    t.steady.clear()
    await purging.take_out(session, t, EVIL, HOSTS)
    t.forget()
    tracker = LoopbackTracker()
    await tracker.start()
    purging.put_back(session, tracker, t)
    await tracker.stop()
    assert session.added == [("k", None)]


@pytest.mark.asyncio
async def test_what_was_counted_before_counts_on() -> None:
    t = torrent()
    await purged(t, Sessions(left(payload=100, failed=20, dropped=3)))
    now = t.counted(wire.Status("k", "downloading", 0, 0, 0, payload=10, uploaded=1, failed=2), 0.0)
    assert (now.payload, now.uploaded, now.failed) == (110, 6, 25)
    assert {address: count for address, _, count in t.ledger.totals()} == {EVIL: 70, GOOD: 30}


@pytest.mark.asyncio
@pytest.mark.parametrize("state", ["verified", "checking", "ending", "finished", "removing"])
async def test_a_torrent_that_needs_nothing_more_stays_where_it_is(state: str) -> None:
    session, t = Sessions(left()), torrent(**{state: True})
    t.steady.clear()
    await purging.take_out(session, t, EVIL, HOSTS)
    assert session.removed == []
    assert t.steady.is_set()


@pytest.mark.asyncio
async def test_a_torrent_that_is_gone_meanwhile_is_left_alone() -> None:
    session, t = Sessions(None), torrent()
    t.steady.clear()
    await purging.take_out(session, t, EVIL, HOSTS)
    assert session.removed == []
    assert t.steady.is_set()


def test_a_ledger_adds_up_over_connections_that_all_ended() -> None:
    ledger = Ledger()
    ledger.note((("a", "", 10),))
    ledger.close()
    ledger.note((("a", "", 15), ("b", "", 1)))
    assert ledger.totals() == (("a", "", 25), ("b", "", 1))


@pytest.mark.asyncio
async def test_a_flush_whose_answer_is_lost_is_asked_for_again() -> None:
    said: list[wire.Report] = []
    flushing = Flushing(Sessions(None), said.append, lambda _: None)
    t = torrent(tokens_waiting=[7])
    t.claim((0,))
    flushing.plan(t)
    flushing.again(t)
    t.claim((1,))
    flushing.plan(t)
    flushing.done(t)
    assert said == [wire.Pieces("k", (0, 1)), wire.Flushed("k", 7)]
    assert not t.flush_pending
    await asyncio.sleep(0)
