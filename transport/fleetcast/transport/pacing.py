"""The rates at which receivers wish to be sent what they fetch over HTTP (ADR 0017).

A receiver under a cap asks each of its sources for its part of the cap: `POST /<capability>/r/<token>` with
`Fleetcast-Rate: <bytes per second>`, 0 for no rate. It holds for all connections of the same address whose requests
have `Fleetcast-Token: <token>`. The answer, 204, says how much was sent to them so far, in `Fleetcast-Sent`.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleetcast.transport.capped import Pacer

TOKEN, RATE, SENT = "fleetcast-token", "fleetcast-rate", "fleetcast-sent"
FORGET_SECONDS = 60.0
"""Who asked for a rate and is not heard for so long has none any more; receivers ask every half second."""
MOST_RECEIVERS = 1024
"""Receivers whose rates are known at once; further ones are sent what they fetch without one."""
LEAST_RATE = 256 * 1024
"""Rates below are not obeyed: each of several connections would wait for its turn until it takes that for a stall."""
_TOKEN = re.compile(r"[0-9a-f]{32}")
_RATE = re.compile(r"\d{1,15}")


@dataclass(slots=True)
class Paced:
    """One receiver: what may be sent to it, what was sent, and when it was heard last (of one clock, in seconds)."""

    heard: float
    pacer: Pacer = field(default_factory=Pacer)
    sent: int = 0


class Paces:
    """The receivers of one file server.

    Args:
        capability: what the paths of requests have to begin with.
    """

    def __init__(self, capability: str) -> None:
        self._capability = capability.encode()
        self._receivers: dict[tuple[str, str], Paced] = {}

    def of(self, address: str, headers: Mapping[str, str], now: float) -> Paced | None:
        """The receiver that a request comes from; None: it has no rate, and cannot get one.

        Args:
            headers: by name in lower case.
        """
        token = headers.get(TOKEN, "")
        return self._receiver(address, token, now) if _TOKEN.fullmatch(token) else None

    def asked(self, address: str, target: str, headers: Mapping[str, str], now: float) -> int | None:
        """Take the rate that a request asks for, and return what was sent so far; None: it asks for none."""
        capability, _, rest = target.removeprefix("/").partition("/")
        kind, _, token = rest.partition("/")
        rate = headers.get(RATE, "")
        if kind != "r" or not _TOKEN.fullmatch(token) or not _RATE.fullmatch(rate):
            return None
        if not hmac.compare_digest(capability.encode(), self._capability):
            return None
        receiver = self._receiver(address, token, now)
        if receiver is None:
            return None
        receiver.heard = now
        receiver.pacer.limit(int(rate) if int(rate) >= LEAST_RATE else None)
        return receiver.sent

    def _receiver(self, address: str, token: str, now: float) -> Paced | None:
        """An address has none but its own: what others learn of its token is of no use to them."""
        for key, silent in list(self._receivers.items()):
            if now - silent.heard > FORGET_SECONDS:
                del self._receivers[key]
                silent.pacer.limit(None)
        known = self._receivers.get((address, token))
        if known is None and len(self._receivers) < MOST_RECEIVERS:
            known = self._receivers[address, token] = Paced(now)
        return known
