"""Nodes that get no training runs for a while, as they are kept in `FC_TRAINING` beside lanes and runs."""

from typing import Final

from pydantic import Field

from fleetcast.events.content import Stored
from fleetcast.events.ids import Name
from fleetcast.events.payloads import Moment
from fleetcast.events.runs import FaultClass
from fleetcast.events.training import Remedy


class FaultOnNode(Stored):
    """The newest fault that a run had on a node.

    Attributes:
        fell_back: what it computed on from then on; empty: it did not fall back.
    """

    run: Name
    claim: int = 0
    fault_class: FaultClass
    signature: str = ""
    reason: str = ""
    remedy: Remedy | None = None
    fell_back: str = ""
    guidance: str = ""
    at: Moment


class NodeQuarantine(Stored):
    """A node that gets no training runs until a moment; kept per node, the newest one counts.

    Attributes:
        until: None: it gets some.
        gpu: it is about its GPUs: runs on the CPU go on there.
        claim: of the run that met the fault.
        times: how often in a row, each less than a day after the one before.
        last_fault: whether or not it led to a quarantine.
    """

    schema_: int = Field(default=1, alias="schema")
    node: Name
    n: int = 0
    until: Moment | None = None
    reason: str = ""
    fault_class: FaultClass | None = None
    signature: str = ""
    run: Name | None = None
    claim: int = 0
    gpu: bool = False
    times: int = 0
    last_fault: FaultOnNode | None = None
    by: str = ""
    at: Moment


QUARANTINE_STATE: Final = "fc.trn.state.node."
QUARANTINE_SUBJECT: Final = "fc.svc.trainer.quarantine"


def quarantine_subject(node: str) -> str:
    """Where a node's quarantine is kept; `*` makes a filter."""
    return f"{QUARANTINE_STATE}{node}"
