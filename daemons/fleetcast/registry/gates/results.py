"""What gates answer."""

from dataclasses import dataclass
from typing import Literal

from fleetcast.events.content import Value
from fleetcast.events.decisions import GateVerdict
from fleetcast.events.lifecycle import StageName

Verdict = Literal["pass", "fail", "insufficient"]


class GateResult(Value):
    """What one gate says.

    Attributes:
        name: of the gate, such as `win_rate.random`.
        verdict: `pass`: the evidence supports it; `fail`: it contradicts; `insufficient`: it decides neither, or nobody
            gave any.
        required, actual: for people, with numbers.
        bound: what was compared with the requirement; None: a statement, not a measurement.
        confidence: of the bound, one-sided.
        next_step: the command that helps; empty where the gate passes.
    """

    name: str
    verdict: Verdict
    required: str
    actual: str
    bound: float | None = None
    confidence: float | None = None
    next_step: str = ""

    @property
    def passes(self) -> bool:
        return self.verdict == "pass"

    def said(self) -> GateVerdict:
        """As it is told to others."""
        return GateVerdict(
            gate=self.name,
            verdict=self.verdict,
            required=self.required,
            actual=self.actual,
            next_step=self.next_step,
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """What all gates of a stage say together.

    Attributes:
        target: the stage that was asked for.
        results: one per gate, in the order of the policy.
        rejects: the reject rule fired: the version is so weak that it should leave the pipeline.
    """

    target: StageName
    results: tuple[GateResult, ...]
    rejects: bool = False

    @property
    def allowed(self) -> bool:
        """Whether every gate passes."""
        return not self.rejects and all(result.passes for result in self.results)

    @property
    def open(self) -> tuple[GateResult, ...]:
        """The gates that do not pass, failures first."""
        return tuple(
            sorted((result for result in self.results if not result.passes), key=lambda r: r.verdict != "fail")
        )

    @property
    def summary(self) -> str:
        """One line for people: which gates do not pass, with what was required and what was there."""
        if self.allowed:
            return f"all {len(self.results)} gates pass" if self.results else "no gate"
        shown = "; ".join(f"{r.name} {r.verdict}: {r.actual}, required {r.required}" for r in self.open[:3])
        more = f"; and {len(self.open) - 3} more" if len(self.open) > 3 else ""
        return f"{len(self.open)} of {len(self.results)} gates do not pass: {shown}{more}"

    @property
    def next_step(self) -> str:
        """The command that helps with the first gate that does not pass."""
        return next((result.next_step for result in self.open if result.next_step), "")
