"""The end of a run's process, judged: what is kept and told of it, and how the run goes on. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fleetcast.daemons.trainer.claims.rules import Again, Ended
from fleetcast.daemons.trainer.faults.classify import Fault, classify
from fleetcast.daemons.trainer.faults.guidance import Found, line
from fleetcast.daemons.trainer.faults.policy import Decision, decide
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.daemons.trainer.supervision.spec import Exit
from fleetcast.events.payloads import Payload
from fleetcast.events.quarantine import FaultOnNode
from fleetcast.events.runs import FaultClass, RunFaultRecorded
from fleetcast.events.training import Remedy, RunFellBack, TrainingRunState
from fleetcast.registry.commands import stamp

CPU: Final = "cpu"
MOST_WORDS: Final = 1000


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is made of the end of a run's process.

    Attributes:
        ended: for the run's record.
        again: how it goes on; None: it does not.
        facts: to be told in the same batch as the record.
        on_node: for the record of the node.
        guidance: one line, with the values found.
    """

    fault: Fault
    decision: Decision
    ended: Ended
    again: Again | None
    facts: tuple[Payload, ...]
    on_node: FaultOnNode
    guidance: str


def judge(
    run: TrainingRunState,
    lane: LaneDefinition,
    exit: Exit,  # noqa: A002
    *,
    node: str,
    kernel: Sequence[str] = (),
    found: Found = Found(),  # noqa: B008  # frozen
    others: int | None = None,
    now: datetime,
) -> Judgement:
    """Judge *exit* of *run*, which *node* owns.

    Args:
        run: as it is kept, the fault not counted.
        kernel: what the kernel said of the run's GPUs and of memory.
        found: the values that guidance names.
        others: how many other nodes could take it on a GPU now; None: not known.

    Raises:
        ValueError: it ended as it should.
    """
    fault = classify(exit, kernel)
    decision = decide(fault, run, lane, now, others=others)
    guided = line(fault.guidance, found) if fault.gpu else fault.guidance
    evidence = {**fault.evidence, "node": node, "device": run.device}
    if fault.gpu:
        evidence["found"] = found.document()
    return Judgement(
        fault=fault,
        decision=decision,
        ended=_ended(fault, decision, evidence, guided),
        again=None if decision.remedy is Remedy.NEVER else _again(decision, node),
        facts=tuple(_facts(run, fault, decision, evidence, guided, node, now)),
        on_node=_on_node(run, fault, decision, guided, now),
        guidance=guided,
    )


def _ended(fault: Fault, decision: Decision, evidence: dict[str, Any], guided: str) -> Ended:
    return Ended(
        outcome=fault.fault_class.value,
        detail=_text(f"{_what(fault)}; {decision.detail}"),
        fault_class=fault.fault_class,
        signature=fault.signature,
        evidence=evidence,
        remedy=decision.remedy,
        counts=fault.fault_class is not FaultClass.PREEMPTED,
        guidance=guided[:MOST_WORDS],
    )


def _what(fault: Fault) -> str:
    """What it was recognised by, and what was said of it, once."""
    said = str(fault.evidence.get("line") or fault.evidence.get("detail") or "")
    return said if said.startswith(fault.signature) else ": ".join(filter(None, (fault.signature, said)))


def _again(decision: Decision, node: str) -> Again:
    return Again(
        not_before=decision.not_before,
        cpu=decision.cpu,
        away_from=node if decision.away_until is not None else None,
        away_until=decision.away_until,
    )


def _facts(
    run: TrainingRunState,
    fault: Fault,
    decision: Decision,
    evidence: dict[str, Any],
    guided: str,
    node: str,
    now: datetime,
) -> list[Payload]:
    at, claim = stamp(now), run.claim or None
    told: list[Payload] = [
        RunFaultRecorded(
            run_id=run.run,
            node=node,
            claim=claim,
            fault_class=fault.fault_class,
            signature=_text(fault.signature, 128),
            at=at,
            reason=_text(fault.reason),
            action=_text(decision.detail),
            evidence=evidence,
            remedy=decision.remedy.value,
            spent=decision.spent,
            guidance=guided,
        )
    ]
    if decision.remedy is Remedy.CPU:
        told.append(
            RunFellBack(
                run_id=run.run,
                node=node,
                claim=claim,
                lane=run.lane,
                timestamp=at,
                reason=_text(f"{fault.signature}: {fault.reason}"),
                evidence=evidence,
                remedial_action=_text(_action(run, decision)),
                guidance=guided,
                # A simulated GPU computes on the CPU, and is left all the same.
                from_device=_text(run.device if run.device not in ("", CPU) else "gpu", 128),
                to_device=CPU,
            )
        )
    return told


def _action(run: TrainingRunState, decision: Decision) -> str:
    where = "from its newest checkpoint" if run.checkpoint is not None else "from the beginning"
    if run.checkpoint is not None and run.checkpoint.step is not None:
        where = f"from the checkpoint of step {run.checkpoint.step}"
    return f"{decision.detail}; {where}, and back to a GPU once one is proven well"


def _on_node(run: TrainingRunState, fault: Fault, decision: Decision, guided: str, now: datetime) -> FaultOnNode:
    return FaultOnNode(
        run=run.run,
        claim=run.claim,
        fault_class=fault.fault_class,
        signature=fault.signature,
        reason=_text(fault.reason, 500),
        remedy=decision.remedy,
        fell_back=CPU if decision.remedy is Remedy.CPU else "",
        guidance=guided,
        at=stamp(now),
    )


def _text(words: str, most: int = MOST_WORDS) -> str:
    """One line, without what no event may carry."""
    kept = "".join(c if c.isprintable() else " " for c in words)
    return " ".join(kept.split())[:most] or "-"
