"""Who may ask what: roles, tokens by their hashes, and where a gateway may listen. Pure."""

import hashlib
import secrets
from collections.abc import Iterable
from enum import StrEnum
from ipaddress import ip_address
from typing import Final

from pydantic import Field

from fleetcast.config.gateway import GatewaySettings
from fleetcast.events.content import Stored
from fleetcast.events.ids import Name, Sha256
from fleetcast.events.payloads import Moment

PREFIX: Final = "fcg_"
"""Every token begins so: one that was left in a file somewhere can be searched for."""
TOKEN_BYTES: Final = 32
"""Of chance in a token. So much cannot be guessed, which is why a plain SHA-256 of it may be kept."""


class Role(StrEnum):
    """What a token may do; each role may do what those before it may.

    `viewer` reads. `operator` also registers, says how models perform, and takes back what went wrong. `promoter` also
    decides what is served.
    """

    VIEWER = "viewer"
    OPERATOR = "operator"
    PROMOTER = "promoter"

    def may(self, needed: "Role") -> bool:
        """Whether this role includes *needed*."""
        order = tuple(Role)
        return order.index(self) >= order.index(needed)


class Token(Stored):
    """A token as it is kept: its hash, never itself."""

    name: Name
    role: Role
    sha256: Sha256
    created_at: Moment
    created_by: str = Field(max_length=500)
    reason: str = Field(default="", max_length=1000)


class Tokens(Stored):
    """The token file."""

    schema_: int = Field(default=1, alias="schema")
    tokens: tuple[Token, ...] = ()


class Caller(Stored):
    """Who asks: the name of the token, or `local` where none is needed."""

    name: str
    role: Role


LOCAL: Final = Caller(name="local", role=Role.PROMOTER)
"""Whoever is on this machine, where there is no token file: they could ask NATS themselves."""


class AccessRefused(Exception):
    """The gateway must not listen like that; `next_step` says what helps."""

    def __init__(self, message: str, *, next_step: str) -> None:
        self.next_step = next_step
        super().__init__(message)


def new_token() -> str:
    """A fresh token."""
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def caller_of(token: str, known: Iterable[Token]) -> Caller | None:
    """Whose token it is; None: nobody's. How long it takes tells nothing: hashes are compared."""
    wanted = digest(token)
    found = None
    for each in known:
        if secrets.compare_digest(each.sha256, wanted):
            found = Caller(name=each.name, role=each.role)
    return found


def bearer(authorization: str | None) -> str | None:
    """The token of an `Authorization` header (RFC 6750); None: there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach *host*."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_listening(settings: GatewaySettings) -> None:
    """Raises AccessRefused: it would be open to others without tokens, or in plain text."""
    if (settings.certificate is None) != (settings.key is None):
        lacking = "key" if settings.key is None else "certificate"
        raise AccessRefused(
            f"HTTPS needs a certificate and its key, and gateway.{lacking} is not set",
            next_step=f"set gateway.{lacking}",
        )
    if is_loopback(settings.host):
        return
    if settings.tokens is None:
        raise AccessRefused(
            f"the gateway would listen on {settings.host} for everybody: there is no token file",
            next_step="set gateway.tokens, then: fleetcast gateway token add NAME --role viewer --reason TEXT",
        )
    if settings.certificate is None:
        raise AccessRefused(
            f"the gateway would send tokens in plain text from {settings.host}: plain HTTP is for loopback",
            next_step="set gateway.certificate and gateway.key, or gateway.host = 127.0.0.1 behind a proxy",
        )


def foreign(host: str | None, origin: str | None, site: str | None) -> str | None:
    """Why a request to a gateway without tokens is refused: a page of some other site made the browser of somebody on
    this machine ask, directly or by a name that it pointed at loopback. None: it is not.

    Args:
        host, origin, site: the headers `Host`, `Origin` and `Sec-Fetch-Site`.
    """
    name = _hostname(host or "")
    if not is_loopback(name):
        return f"Host is {name[:100]!r}, and without tokens only loopback is answered (http://localhost)"
    if site not in {None, "same-origin", "none"} or (origin is not None and origin.partition("://")[2] != host):
        return f"a page of {(origin or 'another site')[:100]} asked"
    return None


def _hostname(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
