"""Who is in which swarm."""

from fleetcast.daemons import testing
from fleetcast.daemons.distributor.swarm import SwarmBook
from fleetcast.events.payloads import Checks, Endpoints
from fleetcast.events.state import InstalledVersion, ModelStatus, NodeStatus, PeerNotice

A = "a" * 64
HERE = Endpoints(bt="10.0.0.1:1", http=None)
MOVED = Endpoints(bt="10.0.0.1:2", http=None)


def notice(node: str, endpoints: Endpoints = HERE, *, complete: bool = False, left: bool = False) -> PeerNotice:
    return PeerNotice(artifact=A, node=node, endpoints=endpoints, complete=complete, left=left)


def heartbeat(node: str, *artifacts: str) -> NodeStatus:
    installed = tuple(
        InstalledVersion(
            version=str(n),
            artifact=a,
            bytes=1,
            checks=Checks(size="ok", sha256="ok", format="ok"),
            transport="bittorrent",
            seconds=1.0,
            installed_at="2026-01-01T00:00:00Z",
        )
        for n, a in enumerate(artifacts)
    )
    return testing.heartbeat(
        node, at="", endpoints=HERE, models=(ModelStatus(model="m", path="/x", installed=installed),)
    )


def test_a_new_member_is_handed_over_once_and_again_when_it_moved() -> None:
    book = SwarmBook("me")

    assert book.take_notice(notice("n1"))
    assert not book.take_notice(notice("n1"))
    assert book.take_notice(notice("n1", MOVED))


def test_a_node_is_no_member_of_its_own_book() -> None:
    book = SwarmBook("me")

    assert not book.take_notice(notice("me"))
    assert book.sources(A) == ()


def test_complete_members_are_named_first() -> None:
    book = SwarmBook("n3")
    book.take_notice(notice("n1"))
    book.take_notice(notice("n2", complete=True))

    assert [s.node for s in book.sources(A)] == ["n2", "n1"]
    assert book.holders(A) == {"n2"}


def test_who_left_is_no_source_any_more() -> None:
    book = SwarmBook("me")
    book.take_notice(notice("n1", complete=True))
    book.take_notice(notice("n1", left=True))

    assert book.sources(A) == ()
    assert book.holders(A) == frozenset()


def test_a_heartbeat_repairs_what_messages_missed() -> None:
    book = SwarmBook("me")

    assert book.take_heartbeat(heartbeat("n1", A)) == {A}
    assert book.take_heartbeat(heartbeat("n1", A)) == frozenset()
    assert [s.node for s in book.sources(A)] == ["n1"]
    book.take_heartbeat(heartbeat("n1"))
    assert book.sources(A) == ()


def test_a_node_that_is_gone_is_a_member_of_nothing() -> None:
    book = SwarmBook("me")
    book.take_heartbeat(heartbeat("n1", A))
    book.forget_node("n1")

    assert book.members(A) == 0


def test_of_two_that_fetch_exactly_one_dials_the_other() -> None:
    one, two = SwarmBook("n1"), SwarmBook("n2")
    one.take_notice(notice("n2"))
    two.take_notice(notice("n1"))

    assert [s.node for s in one.sources(A)] == []
    assert [s.node for s in two.sources(A)] == ["n1"]


def test_who_fetches_dials_whoever_holds_it_all() -> None:
    book = SwarmBook("n1")
    book.take_notice(notice("n2", complete=True))

    assert [s.node for s in book.sources(A)] == ["n2"]


def test_late_joiner_is_served_by_finished_nodes_and_the_origin_is_spared() -> None:
    book = SwarmBook("late")
    book.set_origin(A, "n1")
    book.take_notice(notice("n1", complete=True))
    book.take_notice(notice("n2", complete=True))
    assert [s.node for s in book.sources(A)] == ["n1", "n2"]

    book.take_notice(notice("n3", complete=True))
    assert [s.node for s in book.sources(A)] == ["n2", "n3"]

    book.forget_node("n2")
    assert [s.node for s in book.sources(A)] == ["n1", "n3"]
