"""What a format test has found, for whoever asked for it. Not for the child: `dataclasses` alone takes a third of the
time in which it starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleetcast.transport.checks.report import Verdict


@dataclass(frozen=True, slots=True)
class FormatReport:
    """The outcome of a format test.

    Attributes:
        verdict: `not tested` is a verdict of its own; it is neither `ok` nor `refused`.
        detail: why, for a person; of an `ok`, what could not be tested.
        facts: what was seen: number of tensors, shapes, samples, classes named by a pickle, and so on.
    """

    verdict: Verdict
    detail: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
