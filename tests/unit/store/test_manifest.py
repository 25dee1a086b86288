"""Manifests are about one content, and only about it."""

from datetime import UTC, datetime, timedelta

import pytest

from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.transport.errors import ManifestRefused
from fleetcast.transport.manifest import Trust, check, state

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def content(seed: str, kind: Kind = Kind.MODEL) -> Content:
    file = ContentFile(path="m.bin", size=1, sha256=seed * 64, pieces_root=seed * 64)
    return Content(kind=kind, format=Format.OPAQUE, files=(file,))


def test_manifest_states_model_version_and_artifact() -> None:
    statement = check(state(content("a"), "hex8", "1"), content("a"))
    assert (statement.model, statement.version, statement.artifact) == ("hex8", "1", content("a").artifact)


def test_manifest_of_other_content_is_refused() -> None:
    with pytest.raises(ManifestRefused, match="names artifact"):
        check(state(content("a"), "hex8", "1"), content("b"))


def test_manifest_of_a_model_does_not_vouch_for_a_data_set() -> None:
    envelope = state(content("a", Kind.DATASET), "hex8", "1")
    forged = envelope.model_copy(update={"statement": envelope.statement.model_copy(update={"kind": "model"})})
    with pytest.raises(ManifestRefused, match="says model"):
        check(forged, content("a", Kind.DATASET))


def test_unsigned_manifest_is_taken_until_the_policy_says_otherwise() -> None:
    envelope = state(content("a"), "hex8", "1")
    check(envelope, content("a"), trust=Trust(unsigned="allow"))
    with pytest.raises(ManifestRefused, match="not signed"):
        check(envelope, content("a"), trust=Trust(unsigned="refuse"))


def test_time_limit_holds_at_the_first_installation_only() -> None:
    envelope = state(content("a"), "hex8", "1", not_after=NOW)
    check(envelope, content("a"), now=NOW - timedelta(seconds=1))
    check(envelope, content("a"))
    with pytest.raises(ManifestRefused, match="was valid until"):
        check(envelope, content("a"), now=NOW + timedelta(seconds=1))


def test_time_limit_that_is_no_time_is_refused() -> None:
    envelope = state(content("a"), "hex8", "1")
    forged = envelope.model_copy(update={"statement": envelope.statement.model_copy(update={"not_after": "soon"})})
    with pytest.raises(ManifestRefused, match="no time"):
        check(forged, content("a"), now=NOW)
