"""What a command may have of the daemon's environment."""

from collections.abc import Mapping

_WITHHELD = frozenset({
    "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "INVOCATION_ID", "JOURNAL_STREAM", "MAINPID",
    "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID",
    "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY",
    "CONFIGURATION_DIRECTORY", "SYSTEMD_EXEC_PID",
})  # fmt: skip
_WITHHELD_PREFIXES = ("NATS_", "FLEETCAST_")


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """*environment* without what is the daemon's alone: what systemd gave it, credentials for NATS, its settings. What
    a run is to have of those it is given by name."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _WITHHELD and not name.startswith(_WITHHELD_PREFIXES)
    }
