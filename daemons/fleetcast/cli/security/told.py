"""Errors about keys, a fleet's and publishers', as problems of the command line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from fleetcast.cli.problems import Exit, Problem
from fleetcast.security.errors import FolderRefused, ProofFailed, SecurityError
from fleetcast.security.publishers.errors import (
    ChangeRefused,
    KeysThere,
    KeysUnusable,
    PublisherUnknown,
    RevokedBefore,
)

LIST: Final = "fleetcast fleet credentials"


class _Told(NamedTuple):
    """How an error is told; `next_step`: where it names none itself."""

    code: str
    exit_code: Exit = Exit.FAILED
    next_step: str = ""


_KINDS: Mapping[type[SecurityError], _Told] = {
    FolderRefused: _Told("folder", Exit.USAGE),
    ProofFailed: _Told("not_proven", next_step=LIST),
    KeysThere: _Told("exists"),
    KeysUnusable: _Told("key_folder"),
    ChangeRefused: _Told("usage", Exit.USAGE),
    PublisherUnknown: _Told("not_found", Exit.NOT_FOUND),
    RevokedBefore: _Told("revoked"),
}
_ANY_OTHER: Final = _Told("security", next_step=LIST)


@contextmanager
def told() -> Iterator[None]:
    """Say what went wrong with keys, and what to do.

    Raises:
        Problem: one of them.
    """
    try:
        yield
    except SecurityError as e:
        kind = _KINDS.get(type(e), _ANY_OTHER)
        step = e.next_step or kind.next_step
        raise Problem(kind.code, str(e), why=e.why, next_step=step, exit_code=kind.exit_code) from e
