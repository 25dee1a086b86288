"""What is to be started, how it ended, and what is known of it in between. Values; standard library only."""

import json
import signal as signals
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

Reason = Literal["ended", "stopped", "time_limit", "lost", "could_not_start"]
"""Why a command is not running any more: it ended by itself; it was told to; its time was over; nobody saw its end (its
supervisor was killed, or the machine was); it never ran."""

TAIL_LINES = 40
"""Lines of standard error that an exit carries: what faults are told apart by."""
LOG_BYTES = 64 * 1024 * 1024
"""Default for the bytes of each log that are kept."""
GRACE_SECONDS = 60.0
"""Default between SIGTERM and SIGKILL: time for one save."""


class SpecInvalid(ValueError):
    """What is to be started, or what is written of it, cannot be read."""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A command to supervise.

    Attributes:
        run, claim: of which run, and under which claim.
        command: program and arguments; no shell.
        cwd: where it runs; empty: in `folder`.
        env: its whole environment; nothing is inherited (`environment.inherited` gives what a job may have of the
            daemon's).
        folder: of the run, absolute; its state and its logs are kept there.
        grace_seconds: between SIGTERM to the main process and SIGKILL to all that is left.
        time_limit_seconds: after which it is stopped; None: no limit.
        log_bytes: kept of each log: its beginning and its end.
    """

    run: str
    claim: int
    command: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    folder: str
    grace_seconds: float = GRACE_SECONDS
    time_limit_seconds: float | None = None
    log_bytes: int = LOG_BYTES

    def __post_init__(self) -> None:
        if not self.command or not self.command[0]:
            raise SpecInvalid("there is no command")
        texts = (*self.command, self.cwd, self.folder, *self.env, *self.env.values())
        if any("\0" in text for text in texts):
            raise SpecInvalid("a command, a path or a variable contains a NUL byte")
        if any("=" in name or not name for name in self.env):
            raise SpecInvalid("the name of a variable is empty or contains '='")
        if not self.folder.startswith("/"):
            raise SpecInvalid(f"the folder {self.folder} is not absolute")

    def dump(self) -> dict[str, Any]:
        """As JSON can carry it."""
        return asdict(self) | {"command": list(self.command), "env": dict(self.env)}

    @classmethod
    def load(cls, found: Mapping[str, Any]) -> Self:
        """Read what `dump` made.

        Raises:
            SpecInvalid: it is something else.
        """
        try:
            known = {name: found[name] for name in cls.__slots__}
            return cls(**known | {"command": tuple(found["command"])})
        except (KeyError, TypeError) as e:
            raise SpecInvalid(f"not a run to start: {e}") from e


@dataclass(frozen=True, slots=True)
class Exit:
    """How a command ended.

    Attributes:
        code: its exit status; None: it has none.
        signal: number of the signal that ended it; None: none did.
        seconds: from its start to its end.
        stderr_tail: the last 40 lines that it wrote to standard error, decoded with replacement.
        reason: why it is not running any more.
        detail: in one line, for a person: why it was stopped, why it could not start, what could not be ended.
        log_lost_bytes: of its output that could not be written (full disk); what `log_bytes` leaves no room for does
            not count.
    """

    code: int | None
    signal: int | None
    seconds: float
    stderr_tail: tuple[str, ...] = ()
    reason: Reason = "ended"
    detail: str = ""
    log_lost_bytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether it ended by itself, with status 0."""
        return self.reason == "ended" and self.code == 0

    @property
    def text(self) -> str:
        """`exit 1`, `killed by SIGABRT`, `no end that anybody saw`, with what is to be said about it."""
        said = f"exit {self.code}" if self.code is not None else "no end that anybody saw"
        if self.signal is not None:
            said = f"killed by {signal_name(self.signal)}"
        elif self.reason == "could_not_start":
            said = "could not start"
        return f"{said}: {self.detail}" if self.detail else said

    def dump(self) -> dict[str, Any]:
        """As JSON can carry it."""
        return asdict(self) | {"stderr_tail": list(self.stderr_tail)}

    @classmethod
    def load(cls, found: Mapping[str, Any]) -> Self:
        """Read what `dump` made.

        Raises:
            SpecInvalid: it is something else.
        """
        try:
            known = {name: found[name] for name in cls.__slots__}
            return cls(**known | {"stderr_tail": tuple(found["stderr_tail"])})
        except (KeyError, TypeError) as e:
            raise SpecInvalid(f"not an exit: {e}") from e


@dataclass(frozen=True, slots=True)
class Process:
    """One process of one boot of one machine: a bare number would soon be somebody else's.

    Attributes:
        start_ticks: when it was started, in clock ticks since boot (proc(5), field 22 of `stat`).
    """

    pid: int
    start_ticks: int
    boot: str


@dataclass(frozen=True, slots=True)
class State:
    """What a supervisor process writes about its command, each time whole.

    Attributes:
        token: of this start; the command and all its children have it in their environment.
        supervisor, main: the processes; `main` is None until it runs and where it could not start.
        started_at: wall clock, seconds since the epoch.
        stderr_from: offset in the log of standard error at which this start's part begins.
        stopping: why it is being stopped; empty: it is not.
        unit: the systemd unit, where there is one.
        cage: folder of the cgroup that holds the command and all its children; empty: there is none.
        exit: how it ended; None: it has not.
    """

    run: str
    claim: int
    token: str
    supervisor: Process
    started_at: float
    main: Process | None = None
    stderr_from: int = 0
    stopping: str = ""
    unit: str = ""
    cage: str = ""
    exit: Exit | None = None
    schema: int = field(default=1, kw_only=True)

    def dump(self) -> dict[str, Any]:
        """As JSON can carry it."""
        return asdict(self)

    @classmethod
    def load(cls, found: Mapping[str, Any]) -> Self:
        """Read what `dump` made.

        Raises:
            SpecInvalid: it is something else.
        """
        try:
            known = {name: found[name] for name in cls.__slots__}
            main, exited = found["main"], found["exit"]
            parts = {
                "supervisor": Process(**found["supervisor"]),
                "main": Process(**main) if main is not None else None,
                "exit": Exit.load(exited) if exited is not None else None,
            }
            return cls(**known | parts)
        except (KeyError, TypeError) as e:
            raise SpecInvalid(f"not the state of a run: {e}") from e


def parse(text: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        SpecInvalid: it is none.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise SpecInvalid(f"not JSON: {e}") from e
    if not isinstance(found, dict):
        raise SpecInvalid("not a JSON object")
    return found


def signal_name(number: int) -> str:
    """`SIGABRT`; a number that has no name stays one."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
