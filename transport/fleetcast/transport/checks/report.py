"""What a format test says. Standard library only: the child process imports it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    REFUSED = "refused"
    NOT_TESTED = "not tested"


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


class RefusedFile(Exception):
    """The file is damaged or dangerous; the message says why."""


class UntestedFile(Exception):
    """There is nothing that could be tested without running the file; the message names the reason in a word or two."""
