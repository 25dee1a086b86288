"""Manifests: a statement that a version is an artifact, in an envelope for signatures, and whether it counts here."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from fleetcast.events.content import Content, Kind
from fleetcast.events.ids import canonical_json
from fleetcast.events.payloads import ManifestEnvelope, ManifestSignature, Statement
from fleetcast.events.signing import MANIFEST_TYPE, KeyRing, RingKey, Seal
from fleetcast.transport.errors import ManifestRefused

Unsigned = Literal["allow", "refuse"]
CLOCK_SKEW = timedelta(minutes=5)
"""How far the clocks of two machines may differ."""
_PUBLISH = "publish it as a new version, from a node whose publisher key is in the key ring: fleetcast keys list"


@dataclass(frozen=True, slots=True)
class Trust:
    """What a node believes: the newest key ring that it knows, and whether a manifest may come without a signature that
    can be looked up in it."""

    unsigned: Unsigned = "allow"
    ring: KeyRing | None = None


def state(content: Content, name: str, version: str, *, not_after: datetime | None = None) -> ManifestEnvelope:
    """Return the manifest of a version: unsigned, with its time limit in RFC 3339."""
    return ManifestEnvelope(
        statement=Statement(
            kind=_kind(content),
            model=name,
            version=version,
            artifact=content.artifact,
            not_after=_text(not_after) if not_after else None,
        )
    )


def signed_bytes(statement: Statement, signed_at: str) -> bytes:
    """What a signature of a manifest is about."""
    return canonical_json({"statement": statement.model_dump(mode="json"), "signed_at": signed_at})


def with_signature(envelope: ManifestEnvelope, seal: Seal, signed_at: str) -> ManifestEnvelope:
    """The manifest with one signature more."""
    made = ManifestSignature(keyid=seal.keyid, signed_at=signed_at, sig=seal.sig)
    return envelope.model_copy(update={"signatures": (*envelope.signatures, made)})


def check(
    envelope: ManifestEnvelope, content: Content, *, now: datetime | None = None, trust: Trust | None = None
) -> Statement:
    """Return what the manifest states, once it is shown to be about *content* and to count on this node.

    Args:
        now: aware time against which time limits are held: at the first installation only. None: they are not looked
            at, as for a pointer that moves among installed versions.
        trust: what this node believes; None: all that is not about something else.

    Raises:
        ManifestRefused: it names another artifact or kind, its time is over, nobody who may has signed it, or what
            signed it counts no more.
    """
    statement = envelope.statement
    named = _named(statement)
    if statement.artifact != content.artifact:
        raise ManifestRefused(f"{named} names artifact {statement.artifact}, the content is {content.artifact}")
    if statement.kind != _kind(content):
        raise ManifestRefused(f"{named} says {statement.kind}, the content is a {content.kind}")
    if now is not None and statement.not_after is not None and now > _time(statement.not_after, named):
        raise ManifestRefused(f"{named} was valid until {statement.not_after}", next_step="publish the version again")
    if trust is not None:
        _check_signatures(envelope, trust)
    return statement


def revoked(envelope: ManifestEnvelope, ring: KeyRing) -> str | None:
    """Why what is installed may not be shown any more: a key that signed it was revoked, and no other signature counts.
    None: it may."""
    findings = list(_findings(envelope, ring))
    reasons = [finding.reason for finding in findings if finding.revoked]
    return "; ".join(reasons) if reasons and len(findings) == len(envelope.signatures) else None


@dataclass(frozen=True, slots=True)
class _Finding:
    """What speaks against one signature; *fatal*: also where unsigned manifests are taken; *revoked*: its key made it,
    and was revoked."""

    reason: str
    fatal: bool = True
    revoked: bool = False


def _check_signatures(envelope: ManifestEnvelope, trust: Trust) -> None:
    named = _named(envelope.statement)
    if not envelope.signatures:
        if trust.unsigned == "refuse":
            raise ManifestRefused(f"{named} is not signed", next_step=_PUBLISH)
        return
    findings = list(_findings(envelope, trust.ring))
    if len(findings) < len(envelope.signatures):
        return
    for finding in findings:
        if finding.fatal or trust.unsigned == "refuse":
            raise ManifestRefused(f"{named} {finding.reason}", next_step=_PUBLISH)


def _findings(envelope: ManifestEnvelope, ring: KeyRing | None) -> Iterator[_Finding]:
    """One for each signature that does not count."""
    for signature in envelope.signatures:
        if ring is None:
            yield _Finding(f"is signed by key {signature.keyid}, and no key ring has reached this node", fatal=False)
            continue
        key = ring.find(signature.keyid)
        if key is None:
            yield _Finding(f"is signed by key {signature.keyid}, which key ring {ring.number} lacks", fatal=False)
        elif (wrong := _wrong(envelope.statement, signature, key)) is not None:
            yield wrong


def _wrong(statement: Statement, signature: ManifestSignature, key: RingKey) -> _Finding | None:
    """Why a signature by a known key does not count; None: it does."""
    # Imported by whoever has keys: a fleet without them does not pay for the library.
    from fleetcast.transport.signing.keys import holds

    whose = f"key {key.id} of {key.owner}"
    payload = signed_bytes(statement, signature.signed_at)
    at = datetime.fromisoformat(signature.signed_at)
    if not holds(Seal(keyid=signature.keyid, sig=signature.sig), key.public, MANIFEST_TYPE, payload):
        return _Finding(f"carries a signature that {whose} did not make for it")
    if key.revoked is not None:
        reason = f"is signed by {whose}, which was revoked at {key.revoked.at}: {key.revoked.reason}"
        return _Finding(reason, revoked=True)
    if not key.may_sign(statement.model):
        return _Finding(f"is signed by {whose}, which is for {', '.join(key.models)} only")
    if at < datetime.fromisoformat(key.added_at) - CLOCK_SKEW or at > datetime.fromisoformat(key.not_after):
        counts = f"which counts from {key.added_at} to {key.not_after}"
        return _Finding(f"was signed at {signature.signed_at} by {whose}, {counts}")
    # No look at this node's clock: whoever has the key says when it signed, and a clock that is late loses versions.
    return None


def _named(statement: Statement) -> str:
    return f"the manifest of {statement.model}@{statement.version}"


def _kind(content: Content) -> str:
    return "dataset" if content.kind is Kind.DATASET else "model"


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _time(text: str, named: str) -> datetime:
    try:
        limit = datetime.fromisoformat(text)
    except ValueError as wrong:
        raise ManifestRefused(f"{named} has a time limit that is no time: {text!r}") from wrong
    return limit if limit.tzinfo else limit.replace(tzinfo=UTC)
