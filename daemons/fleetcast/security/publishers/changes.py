"""What may be done to a key ring, as pure functions: every one gives the next edition, or says why not."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from fleetcast.events.signing import KeyRing, Revocation, RingKey
from fleetcast.security.publishers.errors import ChangeRefused, PublisherUnknown, RevokedBefore

Change = Callable[[KeyRing, datetime], KeyRing]
LIST = "fleetcast keys list"
RESERVED = frozenset({"root", "oms"})
"""Names of keys that have other work: a publisher of such a name would take the place of one."""


def text(moment: datetime) -> str:
    """A moment as rings keep it."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def next_edition(ring: KeyRing, keys: tuple[RingKey, ...], now: datetime) -> KeyRing:
    """The ring with other keys, under the next number."""
    return KeyRing(schema=1, number=ring.number + 1, issued_at=text(now), keys=keys)


def add(ring: KeyRing, key: RingKey, now: datetime) -> KeyRing:
    """With one publisher more.

    Raises:
        ChangeRefused: that publisher has a key that counts, or its name is one of the fleet's own keys.
    """
    if key.owner in RESERVED:
        raise ChangeRefused(f"no publisher can be called {key.owner}", why=f"{key.owner}.key has other work here")
    current = in_use(ring, key.owner, now)
    if current is not None:
        raise ChangeRefused(
            f"{key.owner} has key {current.id} already, which counts until {current.not_after}",
            next_step=f"fleetcast keys rotate {key.owner} --reason TEXT",
        )
    return next_edition(ring, (*ring.keys, key), now)


def rotate(ring: KeyRing, key: RingKey, now: datetime) -> KeyRing:
    """With a new key for a publisher; the one before signs nothing new from now on, and what it signed stays good."""
    return next_edition(ring, (*(_ended(k, key.owner, now) for k in ring.keys), key), now)


def revoke(ring: KeyRing, which: str, revocation: Revocation, now: datetime) -> tuple[KeyRing, tuple[RingKey, ...]]:
    """Without the keys of a publisher, or the key of an id: nothing that they signed counts any more.

    Raises:
        PublisherUnknown: there is no such key.
        RevokedBefore: it is revoked already.
    """
    meant = tuple(k for k in ring.keys if which in {k.owner, k.id})
    if not meant:
        raise PublisherUnknown(f"nobody in the key ring is called {which}, and no key", next_step=LIST)
    still = tuple(k for k in meant if k.revoked is None)
    if not still:
        first = meant[0].revoked
        raise RevokedBefore(f"{which} was revoked already, at {first.at if first else '?'}", next_step=LIST)
    changed = tuple(k.model_copy(update={"revoked": revocation}) if k in still else k for k in ring.keys)
    return next_edition(ring, changed, now), still


def in_use(ring: KeyRing, owner: str, now: datetime) -> RingKey | None:
    """The key that a publisher signs with now."""
    return next((k for k in ring.keys if k.owner == owner and state(k, now) == "in use"), None)


def latest(ring: KeyRing, owner: str) -> RingKey | None:
    """The newest key of a publisher, in use or not."""
    return next((k for k in reversed(ring.keys) if k.owner == owner), None)


def state(key: RingKey, now: datetime) -> str:
    """`in use`, `ended` or `revoked`."""
    if key.revoked is not None:
        return "revoked"
    return "in use" if now < datetime.fromisoformat(key.not_after) else "ended"


def due(now: datetime, days: int) -> str:
    """When a key that is made now ends."""
    return text(now + timedelta(days=days))


def _ended(key: RingKey, owner: str, now: datetime) -> RingKey:
    if key.owner != owner or key.revoked is not None or datetime.fromisoformat(key.not_after) <= now:
        return key
    return key.model_copy(update={"not_after": text(now)})
