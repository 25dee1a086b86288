"""GPU nodes fetch data sets first, and nobody waits for ever."""

from hypothesis import given
from hypothesis import strategies as st

from fleetcast.daemons.distributor.precedence import gpu_nodes, turn
from fleetcast.events.content import Kind
from fleetcast.events.payloads import DaemonState, Endpoints, Wants
from fleetcast.events.state import NodeStatus

NODES = st.frozensets(st.sampled_from(["a", "b", "c", "d"]))


def status(node: str, labels: dict[str, str], **more: object) -> NodeStatus:
    fields = {
        "node": node,
        "daemon": "distributor",
        "version": "1",
        "state": DaemonState.READY,
        "status": "",
        "pid": 1,
        "started_at": "now",
        "at": "now",
        "endpoints": Endpoints(),
        "labels": labels,
        "wants": Wants(),
        "data": "/data",
    }
    return NodeStatus.model_validate(fields | more)


@given(first=NODES, holders=NODES, known=st.floats(0, 1000), head_start=st.floats(0, 500))
def test_the_head_start_is_bounded_whatever_others_do(
    first: frozenset[str], holders: frozenset[str], known: float, head_start: float
) -> None:
    found = turn(
        Kind.DATASET, has_gpu=False, first=first, holders=holders, known_seconds=known, head_start_seconds=head_start
    )
    assert found.now or found.waits_seconds <= head_start - known
    assert found.now == (known >= head_start or first <= holders)
    assert set(found.waits_for) <= first - holders


@given(first=NODES, holders=NODES, known=st.floats(0, 1000))
def test_gpu_nodes_and_models_wait_for_nobody(first: frozenset[str], holders: frozenset[str], known: float) -> None:
    for kind, has_gpu in ((Kind.DATASET, True), (Kind.MODEL, False)):
        assert turn(
            kind, has_gpu=has_gpu, first=first, holders=holders, known_seconds=known, head_start_seconds=60.0
        ).now


def test_gpu_nodes_that_are_away_or_want_something_else_get_no_head_start() -> None:
    gpu = {"gpu": "nvidia"}
    statuses = [
        status("here", gpu),
        status("plain", {}),
        status("stopped", gpu, state=DaemonState.STOPPED),
        status("draining", gpu, state=DaemonState.DRAINING),
        status("cut-off", gpu, state=DaemonState.DEGRADED),
        status("elsewhere", gpu, wants=Wants(lanes=("other",))),
    ]
    assert gpu_nodes(statuses, Kind.DATASET, "lane") == {"here"}
