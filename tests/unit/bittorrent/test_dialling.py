"""Whom a node dials, and from whom it borrows."""

from fleetcast.transport.bittorrent.dialling import Dialling, dialling
from fleetcast.transport.protocol import Source

ORIGIN = Source("origin", "10.0.0.1:1", http="http://10.0.0.1:2/x", complete=True)
OTHER = Source("n1", "10.0.0.2:1", http="http://10.0.0.2:2/x", complete=False)
FINISHED = Source("n2", "10.0.0.3:1", http="http://10.0.0.3:2/x", complete=True)


def test_the_only_node_that_has_everything_lends_and_is_not_dialled() -> None:
    assert dialling([ORIGIN, OTHER], lender=None) == Dialling((OTHER,), ORIGIN)


def test_where_several_have_everything_all_are_dialled() -> None:
    assert dialling([ORIGIN, OTHER, FINISHED], lender=None) == Dialling((ORIGIN, OTHER, FINISHED))


def test_a_lender_stays_one_when_others_complete() -> None:
    assert dialling([ORIGIN, FINISHED], lender=ORIGIN.bt) == Dialling((FINISHED,), ORIGIN)


def test_a_node_that_serves_no_http_is_dialled() -> None:
    silent = Source("origin", "10.0.0.1:1", complete=True)
    assert dialling([silent], lender=None) == Dialling((silent,))


def test_who_sent_wrong_bytes_is_neither_dialled_nor_borrowed_from() -> None:
    assert dialling([ORIGIN, OTHER], lender=ORIGIN.bt, banned=["10.0.0.1:1"]) == Dialling((OTHER,))
