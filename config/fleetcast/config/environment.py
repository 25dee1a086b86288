"""What a command that a daemon starts has of the daemon's environment: one rule for jobs, a stricter one for programs.

A job is somebody's training, written for the environment of its machine (CUDA_*, NCCL_*, HF_*, proxies, PYTHONPATH): it
has all but what is the daemon's own. A program that is told something (a hook, a step of a playbook, a dependent) has
a few names that hold no secret. Whatever else one is to have is named where it is defined.
"""

from collections.abc import Mapping
from typing import Final

from fleetcast.config import credentials
from fleetcast.config.loader import FILE_VARIABLE, PREFIX

PROGRAM: Final = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", FILE_VARIABLE,
)  # fmt: skip
"""What a program has."""

_SYSTEMD: Final = frozenset({
    credentials.VARIABLE, "NOTIFY_SOCKET", "MAINPID", "MANAGERPID", "MANAGERPIDFDID", "INVOCATION_ID",
    "DEBUG_INVOCATION", "JOURNAL_STREAM", "LOG_NAMESPACE", "SYSTEMD_EXEC_PID", "FDSTORE", "STATE_DIRECTORY",
    "RUNTIME_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY", "CONFIGURATION_DIRECTORY",
})  # fmt: skip
"""What the service manager gives to the process that it starts, and to no other (systemd.exec(5))."""
_PREFIXES: Final = ("NATS_", PREFIX, "OTEL_", "WATCHDOG_", "LISTEN_", "MEMORY_PRESSURE_")
"""The daemon's settings and secrets, whom it sends its traces to, and more of systemd."""


def is_own(name: str) -> bool:
    """Whether a variable is the daemon's own: no job and no program has it, unless it is given by name.

    Where the settings lie is no secret: a `fleetcast` command in it reads what the daemon reads, as far as its user
    may.
    """
    return name != FILE_VARIABLE and (name in _SYSTEMD or name.startswith(_PREFIXES))


def for_job(environment: Mapping[str, str]) -> dict[str, str]:
    """*environment* for a run, an export command or a probe of the GPUs."""
    return {name: value for name, value in environment.items() if not is_own(name)}


def for_program(environment: Mapping[str, str]) -> dict[str, str]:
    """*environment* for a hook, a step of a playbook, a dependent, or a tool of the system."""
    return {name: environment[name] for name in PROGRAM if name in environment}
