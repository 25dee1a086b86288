"""What a node keeps because somebody asked for it to be brought there."""

from datetime import UTC, datetime

from fleetcast.daemons.distributor.distributions import DistributionBook
from fleetcast.daemons.distributor.rules import Urgency
from fleetcast.events.content import Kind
from fleetcast.events.state import Cause, DistributionState
from fleetcast.transport.store import Line

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LATER, EARLIER = "2026-11-21T13:00:00Z", "2026-11-21T11:00:00Z"
ARTIFACT = "a" * 64
LINE = Line(Kind.MODEL, "hex8")


def order(*to: str, until: str | None = LATER, origin: str = "node-1", version: str = "44") -> DistributionState:
    return DistributionState(
        model="hex8",
        version=version,
        artifact=ARTIFACT,
        origin=origin,
        to=to,
        until=until,
        cause=Cause(event="e", sequence=1, by="/t", correlation="e"),
        at="now",
    )


def book(*orders: DistributionState, node: str = "gpu-2", **labels: str) -> DistributionBook:
    made = DistributionBook(node, labels)
    for each in orders:
        made.take(each)
    return made


def test_a_node_that_is_addressed_fetches_behind_everything_that_is_served() -> None:
    ((line, goal),) = book(order("gpu-*")).goals(NOW)
    assert line == (Kind.MODEL, "hex8")
    assert (goal.version, goal.artifact, goal.urgency) == ("44", ARTIFACT, Urgency.OFFERED)


def test_a_node_that_is_not_addressed_neither_fetches_nor_keeps_it() -> None:
    other = book(order("gpu-*"), node="cpu-1")
    assert other.goals(NOW) == ()
    assert other.pins(NOW).versions == frozenset()


def test_labels_address_nodes_as_names_do() -> None:
    assert book(order("gpu=nvidia"), node="n1", gpu="nvidia").goals(NOW)
    assert not book(order("gpu=nvidia"), node="n1", gpu="amd").goals(NOW)


def test_it_is_pinned_until_its_time_is_over_and_released_then() -> None:
    kept, over = book(order("gpu-*")).pins(NOW), book(order("gpu-*", until=EARLIER)).pins(NOW)
    assert (kept.versions, kept.released) == (frozenset({(LINE, "44")}), frozenset())
    assert (over.versions, over.released) == (frozenset(), frozenset({(LINE, "44")}))
    assert book(order("gpu-*", until=EARLIER)).goals(NOW) == ()


def test_without_an_end_it_is_kept_for_good() -> None:
    assert book(order("gpu-*", until=None)).pins(datetime(2099, 1, 1, tzinfo=UTC)).versions


def test_the_origin_keeps_the_bytes_while_others_may_have_to_fetch_them() -> None:
    origin = book(order("gpu-*"), node="node-1")
    assert origin.pins(NOW).artifacts == frozenset({ARTIFACT})
    assert origin.goals(NOW) == ()


def test_the_newest_order_for_a_version_counts() -> None:
    made = book(order("gpu-*"), order("cpu-*"))
    assert made.goals(NOW) == ()


def test_why_it_is_kept_is_told_in_words() -> None:
    made = book(order("gpu-*", "gpu=nvidia"))
    assert made.reason((Kind.MODEL, "hex8"), "44", NOW) == f"distributed to gpu-*, gpu=nvidia until {LATER}"
    assert made.reason((Kind.MODEL, "hex8"), "43", NOW) is None


def test_orders_that_do_not_concern_this_node_are_not_remembered() -> None:
    made = book(*(order("cpu-*", version=str(n)) for n in range(50)))
    assert not made._orders
    made.take(order("gpu-*", version="7"))
    made.take(order("cpu-*", version="7"))
    assert not made._orders
