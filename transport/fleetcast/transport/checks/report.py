"""What a format test says. Standard library only: the child process imports it, and little of that."""

from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    REFUSED = "refused"
    NOT_TESTED = "not tested"


class RefusedFile(Exception):
    """The file is damaged or dangerous; the message says why."""


class UntestedFile(Exception):
    """There is nothing that could be tested without running the file; the message names the reason in a word or two."""
