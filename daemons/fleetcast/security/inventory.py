"""Every key of a fleet, as it is known without the keys themselves: who has it, what for, since when."""

import re
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from fleetcast.security.errors import NameRefused
from fleetcast.security.roles import Role

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}\Z")
KEY_DAYS: Final = 365
"""How old a key should become: people leave and machines are lost without anybody saying so."""
WARN_DAYS: Final = 21
FIRST: Final[dict[str, tuple[Role, str]]] = {
    "deploy": (Role.DEPLOY, "whoever installs fleetcast"),
    "control": (Role.CONTROL, "registry, monitor, remedy, notifier, gateway"),
    "operator": (Role.OPERATOR, "people who run the fleet"),
    "on-call": (Role.ON_CALL, "people who look"),
    "publisher": (Role.PUBLISHER, "training and export jobs off the nodes"),
    "evaluator": (Role.EVALUATOR, "evaluation jobs"),
    "promoter": (Role.PROMOTER, "people or programs that decide promotions"),
    "system": (Role.SYSTEM, "whoever runs the NATS servers"),
}
"""What every fleet begins with; nodes are added one by one."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Identity(_Value):
    """One key.

    Attributes:
        key: public nkey.
        issued: when it was made.
        used_by: who or what has it, for people.
        pending: public key of a rotation that is under way.
        former: public key before the last rotation, as long as it is still accepted.
        publisher: whose signature a node puts on what is published there.
    """

    name: str = Field(pattern=NAME.pattern.removesuffix(r"\Z") + "$")
    role: Role
    key: str
    issued: datetime
    used_by: str = ""
    pending: str | None = None
    former: str | None = None
    publisher: str | None = None

    @property
    def accepted(self) -> tuple[str, ...]:
        """Public keys that the servers let in as this identity."""
        return tuple(key for key in (self.key, self.pending, self.former) if key)

    @property
    def due(self) -> datetime:
        """When the key should be replaced."""
        return self.issued + timedelta(days=KEY_DAYS)


class ServerPlace(_Value):
    """One NATS server.

    Attributes:
        host: name or address that clients and other servers dial.
        place: folder on that machine with its configuration and keys.
        store: folder on that machine with its streams and its process id.
        tls: file on that machine with its key and certificate; empty: tls.pem in `place`.
    """

    name: str
    host: str
    port: int
    cluster_port: int
    http_port: int
    place: str
    store: str
    tls: str = ""

    @property
    def pid_file(self) -> str:
        return f"{self.store}/nats-server.pid"

    @property
    def url(self) -> str:
        return f"tls://{_bracketed(self.host)}:{self.port}"

    @property
    def route(self) -> str:
        """Where the other servers of the cluster dial it."""
        return f"nats://{_bracketed(self.host)}:{self.cluster_port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class Revoked(_Value):
    """A key that is not accepted any more."""

    name: str
    role: Role
    key: str
    at: datetime
    reason: str = ""


class Inventory(_Value):
    """All of a fleet: its file is the one truth from which servers' files are written.

    Attributes:
        root_key: public key that vouches for the ring of publishers' keys; None: of a folder from before it had one.
    """

    schema_: int = Field(default=1, alias="schema", serialization_alias="schema")
    fleet: str
    created: datetime
    servers: tuple[ServerPlace, ...]
    root_key: str | None = None
    identities: tuple[Identity, ...] = ()
    revoked: tuple[Revoked, ...] = ()

    @property
    def url(self) -> str:
        """What clients connect to."""
        return ",".join(server.url for server in self.servers)

    def find(self, name: str) -> Identity:
        """The identity *name*.

        Raises:
            NameRefused: there is none.
        """
        for identity in self.identities:
            if identity.name == name:
                return identity
        known = ", ".join(i.name for i in self.identities)
        raise NameRefused(
            f"nobody is called {name!r} here", why=f"there is {known}", next_step="fleetcast fleet credentials"
        )

    def chosen(self, what: str) -> tuple[Identity, ...]:
        """The identities meant by a name or a role.

        Raises:
            NameRefused: nobody is.
        """
        named = tuple(i for i in self.identities if i.name == what)
        found = named or tuple(i for i in self.identities if i.role.value == what)
        return found or (self.find(what),)

    def with_identity(self, identity: Identity) -> "Inventory":
        """With *identity* added, or in place of the one of its name."""
        others = tuple(i for i in self.identities if i.name != identity.name)
        kept = sorted((*others, identity), key=lambda i: (list(Role).index(i.role), i.name))
        return self.model_copy(update={"identities": tuple(kept)})

    def without(self, name: str, *, at: datetime, reason: str) -> "Inventory":
        """Without the identity *name*, which is remembered as revoked. Raises NameRefused."""
        gone = self.find(name)
        record = Revoked(name=name, role=gone.role, key=gone.key, at=at, reason=reason)
        others = tuple(i for i in self.identities if i.name != name)
        return self.model_copy(update={"identities": others, "revoked": (*self.revoked, record)})


def check_name(inventory: Inventory, name: str) -> None:
    """Refuse what cannot be a name, or is one.

    Raises:
        NameRefused: says why.
    """
    if not NAME.match(name):
        raise NameRefused(f"{name!r} is no name", why="1 to 48 of a-z 0-9 _ -, beginning with a letter or digit")
    if any(i.name == name for i in inventory.identities):
        raise NameRefused(f"{name} is there already", next_step=f"fleetcast fleet rotate {name}, or another name")
    if any(s.name == name for s in inventory.servers):
        raise NameRefused(f"{name} is a server", next_step="another name")
