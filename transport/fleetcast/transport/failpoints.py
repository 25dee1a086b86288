"""Failpoints: named places on each side of every durable step, where a test can stop the process (as in etcd, gofail).

Nothing happens unless the environment variable `FLEETCAST_FAILPOINTS` names a point, as in
`FLEETCAST_FAILPOINTS="install.publish.before=kill;slot.apply.after=raise:ENOSPC@2"`: `kill` ends the process with
SIGKILL, `stop` halts it, `raise:NAME` raises that OSError, `sleep:SECONDS` waits; `@N` acts on the N-th passage only.
"""

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

VARIABLE = "FLEETCAST_FAILPOINTS"


@dataclass(slots=True)
class _Armed:
    action: str
    argument: str
    passages_left: int


def _parse(text: str) -> dict[str, _Armed]:
    armed = {}
    for entry in filter(None, text.split(";")):
        name, _, what = entry.partition("=")
        what, _, passage = what.partition("@")
        action, _, argument = what.partition(":")
        armed[name.strip()] = _Armed(action, argument, int(passage or 1))
    return armed


_ARMED = _parse(os.environ.get(VARIABLE, ""))
_WATCHERS: list[Callable[[str], None]] = []


@contextlib.contextmanager
def watched(watcher: Callable[[str], None]) -> Iterator[None]:
    """Tell *watcher* the name of every failpoint that is passed meanwhile, in any thread."""
    _WATCHERS.append(watcher)
    try:
        yield
    finally:
        _WATCHERS.remove(watcher)


def arm(text: str) -> None:
    """Set the failpoints of this process, in the form of the environment variable; empty disarms all."""
    _ARMED.clear()
    _ARMED.update(_parse(text))


def failpoint(name: str) -> None:
    """Mark a place; does nothing unless a test armed it.

    Raises:
        OSError: the point was armed with `raise:NAME`.
    """
    for watcher in _WATCHERS:
        watcher(name)
    if not _ARMED or (armed := _ARMED.get(name)) is None:
        return
    armed.passages_left -= 1
    if armed.passages_left == 0:
        _act(armed, name)


def _act(armed: _Armed, name: str) -> None:
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif armed.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif armed.action == "sleep":
        time.sleep(float(armed.argument))
    elif armed.action == "raise":
        number = getattr(errno, armed.argument)
        raise OSError(number, f"{os.strerror(number)} (failpoint {name})")
    else:
        raise ValueError(f"failpoint {name}: unknown action {armed.action!r}")
