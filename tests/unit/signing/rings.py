"""Key rings for tests."""

from datetime import UTC, datetime, timedelta

from fleetcast.events.signing import KeyRing, Revocation, RingKey
from fleetcast.transport.signing.keys import SigningKey

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def entry(
    key: SigningKey,
    owner: str = "team-a",
    *,
    models: tuple[str, ...] = ("*",),
    added: timedelta = timedelta(days=-10),
    until: timedelta = timedelta(days=90),
    revoked: bool = False,
) -> RingKey:
    """A key in a ring; times count from NOW."""
    return RingKey(
        owner=owner,
        public=key.public,
        models=models,
        added_at=(NOW + added).isoformat(),
        not_after=(NOW + until).isoformat(),
        revoked=Revocation(at=NOW.isoformat(), reason="laptop lost") if revoked else None,
    )


def ring(*keys: RingKey, number: int = 1) -> KeyRing:
    return KeyRing(schema=1, number=number, issued_at=NOW.isoformat(), keys=keys)
