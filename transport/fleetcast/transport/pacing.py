"""The rates at which receivers wish to be sent what they fetch over HTTP (ADR 0017).

A receiver under a cap asks each of its sources for its part of the cap: `POST /<capability>/r/<token>` with
`Fleetcast-Rate: <bytes per second>`, 0 for no rate. It holds for all connections of the same address whose requests
have `Fleetcast-Token: <token>`. The answer, 204, says how much was sent to them so far, in `Fleetcast-Sent`; 503 says
that no further receiver can have a rate now.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from fleetcast.transport.capped import Pacer

TOKEN, RATE, SENT = "fleetcast-token", "fleetcast-rate", "fleetcast-sent"
FORGET_SECONDS = 60.0
"""Who asked for a rate and is not heard for so long has none any more; receivers ask every half second."""
MOST_RECEIVERS = 1024
"""Receivers whose rates are known at once; further ones are sent what they fetch without one."""
MOST_OF_ONE = 64
"""Those of one address: behind it may be several nodes, but nobody takes the room of all others."""
SWEEP_SECONDS = 1.0
"""Distance of looks for those who are not heard any more: each looks at all."""
LEAST_RATE = 256 * 1024
"""Rates below are not obeyed: each of several connections would wait for its turn until it takes that for a stall."""
_TOKEN = re.compile(r"[0-9a-f]{32}")
_RATE = re.compile(r"\d{1,15}")


class Full(Exception):
    """No further receiver can have a rate now."""


@dataclass(slots=True)
class Paced:
    """One receiver: what may be sent to it, what was sent, when it was heard last (of one clock, in seconds), and how
    many answers to it are under way."""

    heard: float
    pacer: Pacer = field(default_factory=Pacer)
    sent: int = 0
    open: int = 0

    def __enter__(self) -> Self:
        """An answer begins."""
        self.open += 1
        return self

    def __exit__(self, *_: object) -> None:
        """It has ended."""
        self.open -= 1


class Paces:
    """The receivers of one file server.

    Args:
        capability: what the paths of requests have to begin with.
    """

    def __init__(self, capability: str) -> None:
        self._capability = capability.encode()
        self._receivers: dict[tuple[str, str], Paced] = {}
        self._swept = -SWEEP_SECONDS

    def of(self, address: str, headers: Mapping[str, str], now: float) -> Paced | None:
        """The receiver that a request comes from; None: it has no rate, and cannot get one.

        Args:
            headers: by name in lower case.
        """
        token = headers.get(TOKEN, "")
        if not _TOKEN.fullmatch(token):
            return None
        try:
            return self._receiver(address, token, now)
        except Full:
            return None

    def asked(self, address: str, target: str, headers: Mapping[str, str], now: float) -> int | None:
        """Take the rate that a request asks for, and return what was sent so far; None: it asks for none.

        Raises:
            Full: it may ask again later.
        """
        capability, _, rest = target.removeprefix("/").partition("/")
        kind, _, token = rest.partition("/")
        rate = headers.get(RATE, "")
        if kind != "r" or not _TOKEN.fullmatch(token) or not _RATE.fullmatch(rate):
            return None
        if not hmac.compare_digest(capability.encode(), self._capability):
            return None
        receiver = self._receiver(address, token, now)
        receiver.heard = now
        receiver.pacer.limit(int(rate) if int(rate) >= LEAST_RATE else None)
        return receiver.sent

    def sweep(self, now: float) -> None:
        """Take their rates from those who are not heard any more, and forget those to whom nothing is sent either."""
        if now - self._swept < SWEEP_SECONDS:
            return
        self._swept = now
        for key, receiver in list(self._receivers.items()):
            if now - receiver.heard > FORGET_SECONDS:
                receiver.pacer.limit(None)
                # Whoever is sent something may ask for a rate again, and that has to hold for what is under way.
                if not receiver.open:
                    del self._receivers[key]

    def _receiver(self, address: str, token: str, now: float) -> Paced:
        """An address has none but its own: what others learn of its token is of no use to them."""
        self.sweep(now)
        known = self._receivers.get((address, token))
        if known is None:
            if len(self._receivers) >= MOST_RECEIVERS or self._of_one(address) >= MOST_OF_ONE:
                raise Full
            known = self._receivers[address, token] = Paced(now)
        return known

    def _of_one(self, address: str) -> int:
        return sum(known == address for known, _ in self._receivers)
