"""For how long a node gets no runs."""

from datetime import datetime, timedelta

from tests.unit.trainer.faults.builders import APERTURE, NOW, after

from fleetcast.daemons.trainer.faults import quarantine as q
from fleetcast.events.gpus import Gpu
from fleetcast.events.quarantine import FaultOnNode, NodeQuarantine
from fleetcast.events.runs import FaultClass
from fleetcast.registry.commands import stamp

HOUR = timedelta(hours=1)


def fault(claim: int = 1, at: datetime = NOW) -> FaultOnNode:
    return FaultOnNode(
        run="r-1", claim=claim, fault_class=FaultClass.HARDWARE, signature=APERTURE, reason="aborted", at=stamp(at)
    )


def entered(before: NodeQuarantine | None = None, at: datetime = NOW, *, gpu: bool = True) -> NodeQuarantine:
    return q.entered(before, "gpu-1", fault(at=at), length=HOUR, gpu=gpu, now=at)


def test_it_ends_by_itself() -> None:
    record = entered()

    assert q.active(record, after(minutes=59))
    assert q.is_due(record, after(minutes=60))
    assert not q.active(record, after(hours=3))
    assert not q.active(q.left(record, by="trainer", now=after(hours=1)), after(minutes=61))


def test_the_next_one_within_a_day_is_twice_as_long_and_after_a_day_it_is_not() -> None:
    left = q.left(entered(), by="trainer", now=after(hours=1))
    soon, late = after(hours=2), after(hours=30)

    assert entered(left, soon).until == stamp(soon + 2 * HOUR)
    assert entered(left, late).until == stamp(late + HOUR)


def test_it_is_never_longer_than_a_day_unless_the_fault_asks_for_that() -> None:
    record = entered()
    for hours in range(2, 20):
        record = entered(q.left(record, by="x", now=after(hours=hours)), after(hours=hours))

    assert record.until == stamp(after(hours=19) + timedelta(days=1))


def test_a_second_fault_makes_it_no_shorter_and_no_narrower() -> None:
    whole = q.ordered(None, "gpu-1", length=timedelta(hours=8), reason="rack is moved", by="ana", now=NOW)
    both = entered(whole, after(minutes=1))

    assert both.until == whole.until
    assert both.gpu is False
    assert q.said(both, after(minutes=2), gpu=False).startswith("quarantined until")


def test_a_gpu_fault_lies_on_the_gpus_and_leaves_the_node_to_runs_on_the_cpu() -> None:
    gpus = (Gpu(index=0, vendor="amd"), Gpu(index=1, vendor="amd", fault="hot"))
    record = entered()

    assert q.said(record, NOW, gpu=False) == ""
    first, second = q.marked(gpus, record, NOW)
    assert APERTURE in first.fault
    assert second.fault.startswith("hot; quarantined until")
    assert q.marked(gpus, record, after(hours=3)) == gpus
    assert q.marked(gpus, entered(gpu=False), NOW) == gpus


def test_a_fault_noted_twice_is_known() -> None:
    record = entered()

    assert q.is_known(record, "r-1", 1)
    assert not q.is_known(record, "r-1", 2)
    assert not q.is_known(None, "r-1", 1)


def test_a_fault_without_quarantine_leaves_the_one_that_there_is() -> None:
    record = q.with_fault(entered(), "gpu-1", fault(claim=9), after(minutes=5))

    assert record.until == stamp(after(hours=1))
    assert record.last_fault is not None
    assert record.last_fault.claim == 9
