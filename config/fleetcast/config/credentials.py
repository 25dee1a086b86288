"""Secrets by name: `credential:FILE` in a setting is a file that the service manager handed to this very process.

`fleetcast install` gives each daemon a folder of its own, `/etc/fleetcast/credentials/DAEMON`, which only root reads
and whose files systemd passes on (`LoadCredential=fleetcast:FOLDER`, systemd.exec(5)). So all daemons of a machine
share one settings file, and each has its own key under the same name. A person's commands, which no service manager
starts, have those in the folder `operator`.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PREFIX: Final = "credential:"
VARIABLE: Final = "CREDENTIALS_DIRECTORY"
UNIT_ID: Final = "fleetcast"
"""What our units call the folder; systemd makes `fleetcast_FILE` of each file in it."""
OPERATOR: Final = Path("/etc/fleetcast/credentials/operator")


def is_named(value: object) -> bool:
    """Whether *value* names a credential."""
    return isinstance(value, str | Path) and str(value).startswith(PREFIX)


def place(value: str | Path, env: Mapping[str, str] = os.environ, *, outside: Path = OPERATOR) -> Path:
    """Where the credential lies that *value* names, whether it is there or not.

    A unit of one's own may pass it under its bare name (`LoadCredential=FILE:/path`). *outside*: the folder where no
    service manager passes any.
    """
    name = str(value).removeprefix(PREFIX)
    if not env.get(VARIABLE):
        return outside / name
    folder = Path(env[VARIABLE])
    own = folder / f"{UNIT_ID}_{name}"
    return own if own.exists() else folder / name


def readable_by_others(path: Path, mode: int, env: Mapping[str, str] = os.environ) -> bool:
    """Whether a secret's file is open to more than its owner; *mode*: of the file.

    What the service manager passes on is guarded by an access list, which shows as permission of the group to read.
    """
    passed_on = bool(env.get(VARIABLE)) and path.is_relative_to(env[VARIABLE])
    return bool(stat.S_IMODE(mode) & (0o037 if passed_on else 0o077))
