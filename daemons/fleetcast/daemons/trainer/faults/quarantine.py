"""For how long a node gets no runs, and when that is over. Pure: from one stored value to the next."""

from datetime import datetime, timedelta
from typing import Final

from fleetcast.events.gpus import Gpu
from fleetcast.events.quarantine import FaultOnNode, NodeQuarantine
from fleetcast.registry.commands import stamp

REMEMBERED: Final = timedelta(days=1)
"""A fault within a day of the quarantine before it makes the next one twice as long."""
LONGEST: Final = timedelta(days=1)
MOST_DOUBLINGS: Final = 10


def with_fault(before: NodeQuarantine | None, node: str, fault: FaultOnNode, now: datetime) -> NodeQuarantine:
    """The node's record with its newest fault; its quarantine stays as it is."""
    base = before or NodeQuarantine(node=node, at=stamp(now))
    return base.model_copy(update={"last_fault": fault, "n": base.n + 1, "at": stamp(now)})


def entered(
    before: NodeQuarantine | None, node: str, fault: FaultOnNode, *, length: timedelta, gpu: bool, now: datetime
) -> NodeQuarantine:
    """The node gets no runs for *length*, longer when this is not the first time; never shorter than it was to be."""
    record = with_fault(before, node, fault, now)
    times = (before.times if before is not None and _is_recent(before, now) else 0) + 1
    until = now + min(_longer(length, times - 1), max(LONGEST, length))
    whole = not gpu
    if before is not None and active(before, now) and before.until is not None:
        until = max(until, datetime.fromisoformat(before.until))
        whole = whole or not before.gpu
    return record.model_copy(
        update={
            "until": stamp(until),
            "gpu": not whole,
            "reason": fault.reason,
            "fault_class": fault.fault_class,
            "signature": fault.signature,
            "run": fault.run,
            "claim": fault.claim,
            "times": times,
            "by": "trainer",
        }
    )


def ordered(
    before: NodeQuarantine | None, node: str, *, length: timedelta, reason: str, by: str, now: datetime
) -> NodeQuarantine:
    """A person keeps runs away from the node."""
    base = before or NodeQuarantine(node=node, at=stamp(now))
    update = {"until": stamp(now + length), "gpu": False, "reason": reason, "by": by, "n": base.n + 1}
    gone = {"fault_class": None, "signature": "", "run": None, "claim": 0}
    return base.model_copy(update={**update, **gone, "at": stamp(now)})


def extended(before: NodeQuarantine, *, length: timedelta, reason: str, now: datetime) -> NodeQuarantine:
    """Its time was over, and the node is not well."""
    update = {"until": stamp(now + length), "reason": reason, "times": before.times + 1, "n": before.n + 1}
    return before.model_copy(update={**update, "at": stamp(now)})


def left(before: NodeQuarantine, *, by: str, now: datetime) -> NodeQuarantine:
    """The node gets runs again; what it was for stays known, so that the next time is longer."""
    return before.model_copy(update={"until": None, "by": by, "n": before.n + 1, "at": stamp(now)})


_UNSEEN: Final = timedelta(hours=1)


def active(record: NodeQuarantine | None, now: datetime) -> bool:
    """Whether the node gets no runs now. A quarantine whose time is over holds until somebody has looked at the node
    and ended it; for a node that nobody looks at, an hour longer."""
    if record is None or record.until is None:
        return False
    return now < datetime.fromisoformat(record.until) + _UNSEEN


def is_due(record: NodeQuarantine, now: datetime) -> bool:
    """Whether its time is over and somebody should look at the node."""
    return record.until is not None and now >= datetime.fromisoformat(record.until)


def is_known(record: NodeQuarantine | None, run: str, claim: int) -> bool:
    """Whether the fault of this claim is in the record already: a judgement may be made twice."""
    last = record.last_fault if record is not None else None
    return last is not None and (last.run, last.claim) == (run, claim)


def said(record: NodeQuarantine | None, now: datetime, *, gpu: bool) -> str:
    """Why the node (or, with *gpu*, only its GPUs) gets no runs, and until when; empty: it does."""
    if record is None or not active(record, now) or record.gpu is not gpu:
        return ""
    return f"quarantined until {record.until}: {record.signature or record.reason}"


def marked(gpus: tuple[Gpu, ...], record: NodeQuarantine | None, now: datetime) -> tuple[Gpu, ...]:
    """The GPUs of a node, with its quarantine in what speaks against each."""
    reason = said(record, now, gpu=True)
    if not reason:
        return gpus
    return tuple(gpu.model_copy(update={"fault": "; ".join(filter(None, (gpu.fault, reason)))}) for gpu in gpus)


def length_after(record: NodeQuarantine) -> timedelta:
    """For how long a node that is not well when its time is over stays away: twice as long as it was."""
    return min(_longer(timedelta(minutes=30), record.times), LONGEST)


def _longer(length: timedelta, times: int) -> timedelta:
    return length * int(2 ** min(times, MOST_DOUBLINGS))


def _is_recent(before: NodeQuarantine, now: datetime) -> bool:
    ended = before.until or before.at
    return before.times > 0 and now - datetime.fromisoformat(ended) < REMEMBERED
