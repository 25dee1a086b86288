"""Manifests: a statement that a version is an artifact, in an envelope for signatures.

The envelope carries no signatures until signing is set up; the policy `unsigned = "allow"` is in force until then.
"""

from datetime import UTC, datetime
from typing import Literal

from fleetcast.events.content import Content, Kind
from fleetcast.events.payloads import ManifestEnvelope, Statement
from fleetcast.transport.errors import ManifestRefused

Unsigned = Literal["allow", "refuse"]


def state(content: Content, name: str, version: str, *, not_after: datetime | None = None) -> ManifestEnvelope:
    """Return the manifest of a version: unsigned, with its time limit in RFC 3339."""
    return ManifestEnvelope(
        statement=Statement(
            kind=_kind(content),
            model=name,
            version=version,
            artifact=content.artifact,
            not_after=not_after.astimezone(UTC).isoformat() if not_after else None,
        )
    )


def check(
    envelope: ManifestEnvelope, content: Content, *, now: datetime | None = None, unsigned: Unsigned = "allow"
) -> Statement:
    """Return what the manifest states, once it is shown to be about *content*.

    Args:
        now: aware time against which `not_after` is held: at the first installation only. None: the limit is not looked
            at, as for a pointer that moves among installed versions.

    Raises:
        ManifestRefused: it names another artifact or kind, its time is over, or it lacks a signature.
    """
    statement = envelope.statement
    named = f"the manifest of {statement.model}@{statement.version}"
    if statement.artifact != content.artifact:
        raise ManifestRefused(f"{named} names artifact {statement.artifact}, the content is {content.artifact}")
    if statement.kind != _kind(content):
        raise ManifestRefused(f"{named} says {statement.kind}, the content is a {content.kind}")
    if unsigned == "refuse" and not envelope.signatures:
        raise ManifestRefused(f"{named} is not signed", next_step="sign it and publish it again")
    if now is not None and statement.not_after is not None and now > _time(statement.not_after, named):
        raise ManifestRefused(f"{named} was valid until {statement.not_after}", next_step="publish the version again")
    return statement


def _kind(content: Content) -> str:
    return "dataset" if content.kind is Kind.DATASET else "model"


def _time(text: str, named: str) -> datetime:
    try:
        limit = datetime.fromisoformat(text)
    except ValueError as wrong:
        raise ManifestRefused(f"{named} has a time limit that is no time: {text!r}") from wrong
    return limit if limit.tzinfo else limit.replace(tzinfo=UTC)
