"""Errors about publishers' keys as problems of the command line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fleetcast.cli.problems import Exit, Problem
from fleetcast.security.errors import SecurityError
from fleetcast.security.publishers.errors import (
    ChangeRefused,
    KeysThere,
    KeysUnusable,
    PublisherUnknown,
    RevokedBefore,
)

CODES: Mapping[type[SecurityError], tuple[str, Exit]] = {
    KeysThere: ("exists", Exit.FAILED),
    KeysUnusable: ("key_folder", Exit.FAILED),
    ChangeRefused: ("usage", Exit.USAGE),
    PublisherUnknown: ("not_found", Exit.NOT_FOUND),
    RevokedBefore: ("revoked", Exit.FAILED),
}


@contextmanager
def told() -> Iterator[None]:
    """Say what went wrong, and what to do.

    Raises:
        Problem: one of them.
    """
    try:
        yield
    except SecurityError as e:
        code, exit_code = CODES[type(e)]
        raise Problem(code, str(e), why=e.why, next_step=e.next_step, exit_code=exit_code) from e
