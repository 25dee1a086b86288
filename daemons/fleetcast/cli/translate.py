"""Errors of the layers below as problems of the command line. Read only when something failed: nothing here is in the
way of a command that works."""

from fleetcast.bus.errors import (
    AccessDenied,
    BusError,
    BusTimeout,
    BusUnavailable,
    NoResponder,
    NotFound,
    ServerMissing,
    ServerTooOld,
)
from fleetcast.cli.problems import Exit, Problem, not_found, usage
from fleetcast.config.errors import ConfigError
from fleetcast.events.errors import EventInvalid, UnknownEventType

_NO_NATS_STEP = "start one with `fleetcast up`, or name one with --server URL, --context NAME or NATS_URL"


def translate(error: Exception) -> Problem:
    """What *error* means to the person at the keyboard; what nobody expected stays recognisable."""
    if isinstance(error, ExceptionGroup):
        # Several tasks ended together; the first one is why.
        return translate(error.exceptions[0])
    if isinstance(error, Problem):
        return error
    if isinstance(error, BusError):
        return _bus_problem(error)
    if isinstance(error, EventInvalid):
        details = {"field": error.field} if error.field else None
        return Problem("event_invalid", error.reason, next_step=error.next_step, exit_code=Exit.USAGE, details=details)
    if isinstance(error, UnknownEventType):
        return usage(str(error), next_step="fleetcast emit --help")
    if isinstance(error, ConfigError):
        return config_problem(error)
    if isinstance(error, OSError):
        return Problem("file", f"{error.filename or 'a file'}: {error.strerror or error}")
    return Problem(
        "internal",
        f"unexpected {type(error).__name__}: {error}",
        why="this is a fault of fleetcast, not yours",
        next_step="run it again with --debug, and report what it prints",
    )


def config_problem(error: ConfigError, what: str = "the settings cannot be used") -> Problem:
    """A mistake in a settings file or variable: the command line is not at fault, but it cannot go on."""
    mistakes = [{"where": each.where, "message": each.message, "next": each.next_step} for each in error.mistakes]
    return Problem(
        "config",
        what,
        why="\n".join(["", *str(error).splitlines()]).replace("\n", "\n    "),
        # What is allowed stands with each mistake already.
        next_step=error.next_step if "fleetcast " in error.next_step else "correct it, then run this again",
        exit_code=Exit.USAGE,
        details={"mistakes": mistakes},
    )


def _bus_problem(error: BusError) -> Problem:
    step = error.next_step or ""
    if isinstance(error, NoResponder):
        return Problem("no_daemon", str(error), next_step=step or "fleetcast status")
    if isinstance(error, ServerTooOld | ServerMissing):
        return Problem("server", str(error), next_step=step or "fleetcast doctor", exit_code=Exit.NO_NATS)
    if isinstance(error, BusTimeout):
        return Problem("no_answer", str(error), next_step=step or "fleetcast doctor", exit_code=Exit.NO_NATS)
    if isinstance(error, BusUnavailable):
        # Nobody answers at all: what helps is a server, not a look at one.
        step = _NO_NATS_STEP if step in {"", "fleetcast doctor"} else step
        return Problem("no_nats", str(error), next_step=step, exit_code=Exit.NO_NATS)
    if isinstance(error, AccessDenied):
        return Problem("access", str(error), next_step=step or "use credentials of a role that may do this")
    if isinstance(error, NotFound):
        return not_found(str(error), next_step=step or "fleetcast doctor")
    return Problem("bus", str(error), next_step=step or "fleetcast doctor")
