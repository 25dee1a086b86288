"""The folder of a fleet's keys: what lies where, read and written whole, by one command at a time.

fleet.json          every key by name, without the keys
history.jsonl       what was done, when, by whom, why
ca/                 the authority: ca.pem, and ca.key, which signs and leaves this folder never
servers/NAME/       what one server gets: nats-server.conf, accounts.conf, tls.pem, ca.pem
credentials/NAME/   what one user of NATS gets: nkey, tls.pem, ca.pem, fleetcast.toml
signing/            the root key of the key ring, and publishers' keys (`publishers.folder`)
"""

import contextlib
import fcntl
import getpass
import json
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from fleetcast.config.settings import BusSettings, NodeSettings, Settings
from fleetcast.config.signing import SigningSettings
from fleetcast.config.template import render
from fleetcast.security import keys
from fleetcast.security.authority import Issued, utc_now
from fleetcast.security.errors import FolderRefused, SecretDamaged
from fleetcast.security.inventory import Identity, Inventory, ServerPlace
from fleetcast.security.roles import Role
from fleetcast.security.servers import ACCOUNTS, CA_FILE, CONFIGURATION, TLS_FILE, accounts_text, server_text

INVENTORY, HISTORY, LOCK = "fleet.json", "history.jsonl", ".lock"
NKEY_FILE, SETTINGS_FILE, PUBLISHER_FILE = "nkey", "fleetcast.toml", "publisher.key"
FRESH = ".new"
"""Ending of a key that was made and is not proven yet."""


class Folder:
    """One fleet's keys on this machine's disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # -- places

    @property
    def ca(self) -> Path:
        return self.path / "ca"

    def server(self, name: str) -> Path:
        """What the server *name* gets."""
        return self.path / "servers" / name

    def credentials(self, name: str) -> Path:
        """What the user *name* gets."""
        return self.path / "credentials" / name

    @property
    def signing(self) -> Path:
        return self.path / "signing"

    def waiting(self, name: str) -> Path:
        """Mark of a new key that waits until servers were told by hand."""
        return self.credentials(name) / ".waiting"

    # -- read

    def load(self) -> Inventory:
        """What is known of all keys.

        Raises:
            FolderRefused: it is no folder of a fleet, others may write it, or its list is damaged.
        """
        place = self.path / INVENTORY
        try:
            if keys.others_may_read(place):
                raise FolderRefused(f"others may read {place}", next_step=f"chmod 600 {place}")
            return Inventory.model_validate_json(place.read_bytes())
        except OSError as e:
            raise FolderRefused(
                f"{self.path} is no folder of a fleet: {place}: {e.strerror}",
                next_step="fleetcast fleet init DIR, or --dir DIR",
            ) from e
        except ValidationError as e:
            raise FolderRefused(
                f"{place} is damaged: {e.errors()[0]['msg']}", next_step="restore it from the backup of this folder"
            ) from e

    def authority(self) -> Issued:
        """What signs.

        Raises:
            SecretDamaged: it cannot be read, or others may read it.
        """
        key = self.ca / "ca.key"
        try:
            if keys.others_may_read(key):
                raise SecretDamaged(f"others may read {key}", next_step=f"chmod 600 {key}")
            return Issued((self.ca / CA_FILE).read_text(), key.read_text())
        except OSError as e:
            raise SecretDamaged(
                f"the authority cannot be read: {e.filename}: {e.strerror}",
                next_step="restore ca/ from the backup of this folder",
            ) from e

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """For one command alone.

        Raises:
            FolderRefused: another one is at work, or the folder cannot be written.
        """
        try:
            handle = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, keys.PRIVATE)
        except OSError as e:
            raise FolderRefused(
                f"{self.path} cannot be used: {e.strerror}", next_step="fleetcast fleet init DIR, or --dir DIR"
            ) from e
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as e:
            raise FolderRefused(f"another command is changing {self.path}", next_step="wait for it") from e
        finally:
            os.close(handle)

    # -- write

    def save(self, inventory: Inventory) -> None:
        """Write the list, and what all servers read of it; the list first, which the rest can be made from again."""
        keys.write(self.path / INVENTORY, inventory.model_dump_json(by_alias=True, indent=2) + "\n")
        self.write_servers(inventory)

    def write_servers(self, inventory: Inventory) -> None:
        """Write the servers' configurations as the list has them."""
        accounts = accounts_text(inventory)
        authority = (self.ca / CA_FILE).read_text()
        for server in inventory.servers:
            place = self._made(self.server(server.name))
            keys.write(place / ACCOUNTS, accounts, mode=keys.PUBLIC)
            keys.write(place / CONFIGURATION, server_text(inventory, server), mode=keys.PUBLIC)
            keys.write(place / CA_FILE, authority, mode=keys.PUBLIC)

    def write_server_tls(self, server: ServerPlace, issued: Issued) -> None:
        """Give a server its certificate."""
        keys.write(self._made(self.server(server.name)) / TLS_FILE, issued.together)

    def write_credentials(
        self, inventory: Inventory, identity: Identity, *, seed: str, issued: Issued, fresh: bool = False
    ) -> None:
        """Write what a user gets; *fresh*: beside what it has, until that was proven."""
        place = self._made(self.credentials(identity.name))
        ending = FRESH if fresh else ""
        keys.write(place / f"{TLS_FILE}{ending}", issued.together)
        keys.write(place / f"{NKEY_FILE}{ending}", seed + "\n")
        if not fresh:
            keys.write(place / CA_FILE, (self.ca / CA_FILE).read_text(), mode=keys.PUBLIC)
            keys.write(place / SETTINGS_FILE, settings_text(inventory, identity), mode=keys.PUBLIC)
            if identity.publisher is not None:
                signer = (self.signing / f"{identity.publisher}.key").read_text()
                keys.write(place / PUBLISHER_FILE, signer)

    def key_of(self, name: str, *, fresh: bool = False) -> str:
        """The public key of the seed that a user has; "" where there is no whole one."""
        place = self.credentials(name) / f"{NKEY_FILE}{FRESH if fresh else ''}"
        try:
            return keys.public_key(place.read_text(), where=place)
        except (OSError, UnicodeDecodeError, SecretDamaged):
            return ""

    def is_adopting(self, name: str, pending: str) -> bool:
        """Whether `adopt_fresh` began with the key *pending*, and perhaps did not end: it is the only one that moves
        the new certificate, and does so first."""
        if self.key_of(name) == pending:
            return True
        moved = not (self.credentials(name) / f"{TLS_FILE}{FRESH}").exists()
        return moved and self.key_of(name, fresh=True) == pending

    def adopt_fresh(self, name: str) -> None:
        """Let what was proven take the place of what a user had; goes on where it was interrupted."""
        place = self.credentials(name)
        for file in (TLS_FILE, NKEY_FILE):
            with contextlib.suppress(FileNotFoundError):
                (place / f"{file}{FRESH}").replace(place / file)
        self.waiting(name).unlink(missing_ok=True)
        keys.sync_folder(place)

    def drop_fresh(self, name: str) -> None:
        """Forget what was made and not proven."""
        for file in (TLS_FILE, NKEY_FILE):
            (self.credentials(name) / f"{file}{FRESH}").unlink(missing_ok=True)
        self.waiting(name).unlink(missing_ok=True)

    def remove_credentials(self, name: str) -> None:
        """Remove what a user had."""
        place = self.credentials(name)
        with contextlib.suppress(FileNotFoundError):
            for file in list(place.iterdir()):
                file.unlink(missing_ok=True)
            place.rmdir()

    def note(self, did: str, what: str, reason: str | None) -> None:
        """Write down what was done."""
        line = {"at": utc_now().isoformat(), "by": getpass.getuser(), "did": did, "what": what, "reason": reason or ""}
        handle = os.open(self.path / HISTORY, os.O_WRONLY | os.O_APPEND | os.O_CREAT, keys.PRIVATE)
        with os.fdopen(handle, "a") as file:
            file.write(json.dumps(line) + "\n")

    def settings(self, inventory: Inventory, name: str, *, fresh: bool = False) -> BusSettings:
        """How *name* connects from here."""
        place, ending = self.credentials(name), FRESH if fresh else ""
        return BusSettings(
            url=inventory.url,
            nkey=place / f"{NKEY_FILE}{ending}",
            ca=place / CA_FILE,
            cert=place / f"{TLS_FILE}{ending}",
            key=place / f"{TLS_FILE}{ending}",
            connect_timeout_seconds=3.0,
        )

    @staticmethod
    def _made(place: Path) -> Path:
        # One after the other: of parents that it makes, mkdir would let others look in.
        place.parent.mkdir(mode=0o700, exist_ok=True)
        place.mkdir(mode=0o700, exist_ok=True)
        return place


def settings_text(inventory: Inventory, identity: Identity) -> str:
    """The settings that go with a user's keys, in the same folder."""
    bus = BusSettings(
        url=inventory.url,
        nkey=Path(NKEY_FILE),
        ca=Path(CA_FILE),
        cert=Path(TLS_FILE),
        key=Path(TLS_FILE),
        replicas=min(len(inventory.servers), 3),
    )
    is_node = identity.role in {Role.NODE, Role.TRAINER}
    node = NodeSettings(id=identity.name) if is_node else NodeSettings()
    return render(Settings(bus=bus, node=node, signing=_signing(inventory, identity)), comments=False)


def _signing(inventory: Inventory, identity: Identity) -> SigningSettings:
    """Nothing is installed that nobody signed."""
    if inventory.root_key is None:
        return SigningSettings()
    key = Path(PUBLISHER_FILE) if identity.publisher is not None else None
    return SigningSettings(root_keys=(inventory.root_key,), unsigned="refuse", publisher_key=key)
