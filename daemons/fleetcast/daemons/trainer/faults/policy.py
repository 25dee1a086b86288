"""What is done about a fault: again here, elsewhere, on the CPU, or never. Pure.

A lane allows tries for each class of faults. The CPU is the last resort, where the lane allows it: after a GPU fault
when no other node has a GPU for the run, when the tries are used up, or when the fault follows the run from node to
node. A run that is followed so is suspected itself, and puts no third node into quarantine: one bad job must not empty
the fleet.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fleetcast.bus.retry import Backoff
from fleetcast.daemons.trainer.faults.classify import Fault
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.events.runs import FaultClass
from fleetcast.events.training import Remedy, TrainingRunState

AGAIN: Final = Backoff(base_seconds=5.0, cap_seconds=600.0, floor_ratio=0.5)
"""Before the next try: what passes has passed by then, and what does not costs one start per ten minutes."""
AWAY: Final = timedelta(minutes=30)
"""For which a run is not given again to the node where it met a fault that another node may not have."""
ALONE: Final = timedelta(minutes=5)
"""The same where no other node can take the run: what passes by itself has passed by then."""
SUSPECT_NODES: Final = 2
"""A run that met one signature on so many other nodes is what they have in common."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done about a fault.

    Attributes:
        not_before: the run is not claimed earlier; None: it never is.
        quarantine: for how long the node gets no runs; None: it does.
        cpu: the run goes on on the CPU.
        away_until: the run is not given to this node before; None: it may be.
        spent: the budget of the fault's class is used up by it.
        suspect: the fault followed the run from node to node.
        detail: in one line.
    """

    remedy: Remedy
    not_before: datetime | None
    quarantine: timedelta | None = None
    cpu: bool = False
    away_until: datetime | None = None
    spent: bool = False
    suspect: bool = False
    detail: str = ""


def decide(
    fault: Fault, run: TrainingRunState, lane: LaneDefinition, now: datetime, *, others: int | None = None
) -> Decision:
    """What is done about *fault* of *run*.

    Args:
        run: as it was when the fault came, the fault not counted.
        others: how many other nodes could take it on a GPU now; None: not known, which is taken for some.
    """
    used, budget = run.faults.get(fault.fault_class.value, 0), lane.retries.get(fault.fault_class, 0)
    tries = f"{fault.fault_class.value} fault {used + 1}, {budget} tries allowed"
    # Preemption is the fleet's doing: it is counted, and never held against the run.
    over = fault.remedy is not Remedy.NEVER and fault.fault_class is not FaultClass.PREEMPTED and used >= budget
    # Where the lane allows no try at all, none was used up.
    spent = over and budget > 0
    suspect = _follows(fault, run)
    quarantine = fault.quarantine if fault.quarantine and not suspect else None
    may_fall_back = fault.gpu and lane.cpu_fallback and not run.cpu
    if may_fall_back and (over or suspect or others == 0):
        why = "its tries are used up" if over else "the fault follows it" if suspect else "no other GPU is free for it"
        detail = f"goes on on the CPU: {why} ({tries})"
        return Decision(Remedy.CPU, now, quarantine, cpu=True, spent=spent, suspect=suspect, detail=detail)
    if over or fault.remedy is Remedy.NEVER:
        why = tries if over else fault.guidance
        return Decision(Remedy.NEVER, None, quarantine, spent=spent, suspect=suspect, detail=f"not tried again: {why}")
    not_before = now + _delay(run, used)
    away = now + max(ALONE if others == 0 else AWAY, quarantine or ALONE) if fault.remedy is Remedy.ELSEWHERE else None
    where = "elsewhere" if away else "wherever it is claimed"
    if away and others == 0:
        where = f"elsewhere, or here from {away:%H:%M:%S} on: no other node can take it now"
    return Decision(
        fault.remedy,
        not_before,
        quarantine,
        cpu=run.cpu,
        away_until=None if fault.fault_class is FaultClass.PREEMPTED else away,
        suspect=suspect,
        detail=f"tried again {where} ({tries})",
    )


def _follows(fault: Fault, run: TrainingRunState) -> bool:
    """Whether the run met the same fault on enough other nodes to be what they have in common."""
    here = run.owner
    met = {each.node for each in run.attempts if each.signature == fault.signature and each.node != here}
    return len(met) >= SUSPECT_NODES


def _delay(run: TrainingRunState, used: int) -> timedelta:
    """Drawn from the run and its claim: whoever decides again decides the same."""
    if used == 0:
        return timedelta(0)
    digest = hashlib.sha256(f"{run.run}/{run.claim}".encode()).digest()
    share = int.from_bytes(digest[:4]) / 2**32
    return timedelta(seconds=AGAIN.delay(used, lambda low, high: low + share * (high - low)))
