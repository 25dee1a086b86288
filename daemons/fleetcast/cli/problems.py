"""What a command ends with: exit codes, and problems that say what failed, why, and what to type next."""

from collections.abc import Mapping
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; scripts rely on them, so a number never changes its meaning."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    TIMEOUT = 5
    NO_NATS = 6
    INTERRUPTED = 130
    PIPE_CLOSED = 141
    TERMINATED = 143


class Problem(Exception):
    """A command could not do what it was asked.

    Attributes:
        code: stable word for scripts (`no_nats`, `not_found`, …).
        what: what failed, one line.
        why: the cause, one line; may be empty when `what` says it all.
        next_step: the exact command or change that helps.
        exit: the process's exit code.
        details: further facts for the JSON document.
    """

    def __init__(
        self,
        code: str,
        what: str,
        *,
        why: str = "",
        next_step: str = "",
        exit_code: Exit = Exit.FAILED,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.why = why
        self.next_step = next_step
        self.exit = exit_code
        self.details = dict(details or {})

    def document(self) -> dict[str, object]:
        """The value of `error` in the JSON document."""
        base: dict[str, object] = {"code": self.code, "message": self.what, "why": self.why, "next": self.next_step}
        return base | self.details


def usage(what: str, *, why: str = "", next_step: str = "fleetcast --help") -> Problem:
    """The command line itself was wrong."""
    return Problem("usage", what, why=why, next_step=next_step, exit_code=Exit.USAGE)


def not_found(what: str, *, why: str = "", next_step: str = "fleetcast status") -> Problem:
    """What was asked about does not exist."""
    return Problem("not_found", what, why=why, next_step=next_step, exit_code=Exit.NOT_FOUND)


def timed_out(what: str, *, why: str = "", next_step: str = "", details: Mapping[str, object] | None = None) -> Problem:
    """What was waited for did not come in time."""
    return Problem("timeout", what, why=why, next_step=next_step, exit_code=Exit.TIMEOUT, details=details)


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived. Not an Exception: nothing may swallow it on the way out."""


class PipeClosed(BaseException):
    """Whoever read our output has gone (`| head`): there is nobody left to tell anything."""
