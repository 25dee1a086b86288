"""Whether a version is on a node that does not go with the machine of this one, by heartbeats."""

from typing import Any, cast

from tests.unit.trainer.claims.values import NOW

from fleetcast.bus import Bus, Entry
from fleetcast.bus.streams import NODES_BUCKET
from fleetcast.daemons.testing import heartbeat
from fleetcast.daemons.trainer.claims.watching import DISTRIBUTOR, TRAINER, NodeWatch
from fleetcast.events.payloads import Checks, DaemonState
from fleetcast.events.state import InstalledVersion, ModelStatus, NodeStatus

AT = "2026-11-21T12:00:00Z"
INSTALLED = InstalledVersion(
    version="43",
    artifact="a" * 64,
    bytes=1,
    checks=Checks(size="ok", sha256="ok", format="ok"),
    transport="aria2",
    seconds=1.0,
    installed_at="2026-11-21T11:00:00Z",
)
HOLDS = (ModelStatus(model="hex8", path="/x", installed=(INSTALLED,)),)


def watched(*said: NodeStatus) -> NodeWatch:
    nodes = NodeWatch(cast("Bus", None), silent_after_seconds=30.0, monotonic=lambda: 1000.0)
    for status in said:
        subject = f"$KV.{NODES_BUCKET}.{status.node}.{status.daemon}"
        nodes._take(Entry(subject, status.model_dump_json().encode(), 1, NOW), 0.0)
    return nodes


def distributor(node: str, **more: Any) -> NodeStatus:
    return heartbeat(node, at=AT, daemon=DISTRIBUTOR, models=HOLDS, **more)


def test_another_node_that_has_installed_it_holds_it_and_this_one_does_not_count() -> None:
    nodes = watched(distributor("n1"), distributor("n2"))
    assert nodes.is_held("hex8", "43", beside="n1")
    assert not nodes.is_held("hex8", "44", beside="n1")
    assert not nodes.is_held("square8", "43", beside="n1")
    assert not watched(distributor("n1")).is_held("hex8", "43", beside="n1")


def test_a_node_that_has_stopped_or_goes_itself_does_not_count() -> None:
    stopped = distributor("n2", state=DaemonState.STOPPED)
    assert not watched(stopped).is_held("hex8", "43", beside="n1")
    going = heartbeat("n2", at=AT, daemon=TRAINER, reclaim_deadline="2026-11-21T12:02:00Z")
    assert not watched(distributor("n2"), going).is_held("hex8", "43", beside="n1")
