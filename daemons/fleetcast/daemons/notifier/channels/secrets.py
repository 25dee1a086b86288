"""Secrets: read from files and from the service manager, when they are needed; never kept, never shown."""

import os
from pathlib import Path

from fleetcast.config import credentials

LARGEST = 64 * 1024


class SecretMissing(Exception):
    """A secret cannot be read."""


def read_secret(place: str) -> str:
    """The secret at *place*, an absolute path or `credential:NAME`, without the line end of its file.

    Read anew for every delivery: one that is replaced needs no restart.

    Raises:
        SecretMissing: it cannot be read, is empty, or no text; names the place, never the content.
    """
    path = _path(place)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        text = data.decode().strip()
    except OSError as e:
        raise SecretMissing(f"{place} cannot be read: {e.strerror}") from e
    except UnicodeDecodeError:
        raise SecretMissing(f"{place} is not text") from None
    if not text or len(data) > LARGEST:
        raise SecretMissing(f"{place} is {'empty' if not text else 'larger than a secret'}")
    return text


def _path(place: str) -> Path:
    if not credentials.is_named(place):
        return Path(place)
    if not os.environ.get(credentials.VARIABLE):
        raise SecretMissing(f"{place} needs a service manager that passes credentials (LoadCredential=)")
    return credentials.place(place)
