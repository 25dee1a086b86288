"""The configurations that are shown in `deploy/nats`: what `fleetcast fleet init` writes for one server and for three.

`python -m fleetcast.security.examples deploy/nats` renews them. The public keys in `example-fleet.json` belong to seeds
that were thrown away: nobody can use them."""

import sys
from collections.abc import Mapping
from pathlib import Path

from fleetcast.security.inventory import Inventory
from fleetcast.security.servers import ACCOUNTS, accounts_text, server_text

EXAMPLE = "example-fleet.json"


def rendered(folder: Path) -> Mapping[str, str]:
    """The files of *folder* by name, made from its example fleet.

    Raises:
        OSError: there is none.
    """
    fleet = Inventory.model_validate_json((folder / EXAMPLE).read_bytes())
    alone = fleet.model_copy(update={"servers": fleet.servers[:1]})
    files = {"one-server.conf": server_text(alone, alone.servers[0]), ACCOUNTS: accounts_text(fleet)}
    return files | {f"three-servers-{s.name}.conf": server_text(fleet, s) for s in fleet.servers}


def main(folder: Path) -> None:
    """Write them."""
    for name, text in rendered(folder).items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
