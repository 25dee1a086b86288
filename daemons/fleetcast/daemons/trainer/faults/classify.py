"""What kind of fault ended a run: from its exit, its last words and the kernel's. Pure.

A ROCm abort is no exception that the job could catch: the runtime calls abort() in a thread of its own. What remains is
the signal, and the line that it wrote before.
"""

import signal as signals
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from fleetcast.daemons.trainer.faults.signatures import Signature, Where, signatures
from fleetcast.daemons.trainer.supervision.spec import Exit, signal_name
from fleetcast.events.runs import FaultClass
from fleetcast.events.training import Remedy

EVIDENCE_LINES: Final = 10
"""Last lines of standard error in the evidence: the end of a traceback, and not the log."""
EVIDENCE_CHARACTERS: Final = 300
_SHELL: Final = 128
"""A shell reports the signal N that ended its child as exit status 128 + N."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a run.

    Attributes:
        fault_class: what kind; it has its own budget of tries.
        signature: what it was recognised by.
        reason: what happened, for a person.
        remedy: what helps, apart from budgets and the CPU.
        gpu: whether the CPU would not have met it.
        quarantine: for how long the node should get no runs; zero: it should.
        guidance: what to look at.
        evidence: exit status, signal, last lines, the line that was recognised.
    """

    fault_class: FaultClass
    signature: str
    reason: str
    remedy: Remedy
    gpu: bool = False
    quarantine: timedelta = timedelta(0)
    guidance: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)


def classify(exit: Exit, kernel: Sequence[str] = (), *, table: Sequence[Signature] | None = None) -> Fault:  # noqa: A002
    """The fault that *exit* shows; *kernel*: what the kernel said of GPUs and memory while the run ran.

    Raises:
        ValueError: it ended as it should.
    """
    if exit.ok:
        raise ValueError("a run that succeeded had no fault")
    number = exit.signal or (exit.code - _SHELL if exit.code is not None and 0 < exit.code - _SHELL < 65 else None)
    evidence = _evidence(exit, number)
    if exit.reason in _BY_REASON:
        return _of_reason(exit, evidence)
    lines: dict[Where, tuple[str, ...]] = {"stderr": tuple(exit.stderr_tail), "kernel": tuple(kernel)}
    for signature in signatures() if table is None else table:
        found = signature.found_in(lines[signature.where])
        if found is not None:
            return _of_signature(signature, *found, evidence, exit)
    return _without_signature(exit, number, evidence)


def _evidence(exit: Exit, number: int | None) -> dict[str, Any]:  # noqa: A002
    tail = [line[:EVIDENCE_CHARACTERS] for line in exit.stderr_tail if line.strip()][-EVIDENCE_LINES:]
    found: dict[str, Any] = {"exit": exit.code, "reason": exit.reason, "seconds": round(exit.seconds, 3)}
    if number is not None:
        found["signal"] = signal_name(number)
    if exit.detail:
        found["detail"] = exit.detail[:EVIDENCE_CHARACTERS]
    return found | {"stderr": tail}


def _of_signature(signature: Signature, name: str, line: str, evidence: dict[str, Any], exit: Exit) -> Fault:  # noqa: A002
    seen = line.strip()[:EVIDENCE_CHARACTERS]
    return Fault(
        fault_class=signature.fault_class,
        signature=name[:200] or signature.pattern.pattern[:200],
        reason=f"{exit.text}: {seen}",
        remedy=signature.remedy,
        gpu=signature.gpu,
        quarantine=signature.quarantine,
        guidance=signature.guidance,
        evidence=evidence | {"signature": name, "line": seen, "where": signature.where},
    )


_BY_REASON: Final[dict[str, tuple[FaultClass, str, Remedy, str]]] = {
    "stopped": (
        FaultClass.PREEMPTED,
        "stopped",
        Remedy.ELSEWHERE,
        "it was stopped from outside; nothing is wrong with it",
    ),
    "time_limit": (
        FaultClass.CODE,
        "time limit",
        Remedy.NEVER,
        "it needs longer than time_limit_seconds of the lane allows: raise it, or look why it is slow",
    ),
    "lost": (
        FaultClass.CONTROL_PLANE,
        "end not seen",
        Remedy.HERE,
        "its supervisor or its machine ended before it, or nothing is heard of its trainer: look at the machine",
    ),
    "could_not_start": (
        FaultClass.UNKNOWN,
        "could not start",
        Remedy.ELSEWHERE,
        "the command cannot be started on this node: is it installed there, and executable for the daemon's user?",
    ),
}


def _of_reason(exit: Exit, evidence: dict[str, Any]) -> Fault:  # noqa: A002
    fault_class, signature, remedy, guidance = _BY_REASON[exit.reason]
    reason = f"{signature}: {exit.text}" if exit.reason == "time_limit" else exit.text
    return Fault(fault_class, signature, reason, remedy, guidance=guidance, evidence=evidence)


_SIGNALS: Final[dict[int, str]] = {
    signals.SIGKILL: "something killed it at once: most often the kernel, for want of memory (dmesg), or a person",
    signals.SIGABRT: "a library gave up and aborted the process: its last lines say why, and dmesg may",
    signals.SIGSEGV: "it used memory that it does not have: a bug in a native library, or damaged memory",
    signals.SIGBUS: "a file that it had mapped became shorter, or shared memory (/dev/shm) was full",
    signals.SIGTERM: "somebody sent it SIGTERM who was not the trainer",
}


def _without_signature(exit: Exit, number: int | None, evidence: dict[str, Any]) -> Fault:  # noqa: A002
    last = next((line.strip() for line in reversed(exit.stderr_tail) if line.strip()), "nothing on its stderr")
    name = signal_name(number) if number is not None else f"exit {exit.code}"
    # A native crash says nothing about who is at fault; another node tells.
    remedy = Remedy.HERE if number in (None, signals.SIGTERM) else Remedy.ELSEWHERE
    guidance = _SIGNALS.get(number or 0, "no known fault: fleetcast logs RUN has all that it said")
    reason = f"{exit.text}: {last[:EVIDENCE_CHARACTERS]}"
    return Fault(FaultClass.UNKNOWN, name, reason, remedy, guidance=guidance, evidence=evidence)
