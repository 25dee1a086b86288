"""Identity of bundles, and content that travels by reference."""

import hashlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fleetcast.daemons.distributor.proofs import summary, weights_beside
from fleetcast.daemons.distributor.rules import offer_from_event, offer_from_state
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.ids import canonical_json
from fleetcast.events.payloads import ArtifactAvailable, ContentRef, Endpoints, ManifestEnvelope, Origin, Statement
from fleetcast.events.state import Cause, VersionState
from fleetcast.transport.checks import FormatReport, Verdict

DIGEST = "a" * 64
PATHS = st.sets(st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3}){0,2}", fullmatch=True), min_size=1, max_size=6)


def content(paths: set[str], kind: Kind = Kind.BUNDLE, format: Format = Format.MIXED) -> Content:  # noqa: A002
    files = tuple(ContentFile(path=p, size=1, sha256=DIGEST, pieces_root=DIGEST) for p in sorted(paths))
    return Content(kind=kind, format=format, files=files)


@given(PATHS, st.randoms(use_true_random=False))
def test_the_same_folder_has_one_identity_in_whatever_order_it_is_listed(paths: set[str], random: Random) -> None:
    kept = [p for p in paths if not any(p.startswith(f"{other}/") for other in paths)]
    made = content(set(kept))
    random.shuffle(kept)
    assert content(set(kept)).artifact == made.artifact


def test_a_bundle_is_mixed_and_nothing_else_is() -> None:
    for kind, format in ((Kind.BUNDLE, Format.ONNX), (Kind.MODEL, Format.MIXED)):  # noqa: A001
        with pytest.raises(ValidationError, match="mixed"):
            content({"a"}, kind, format)


def test_artifact_ids_of_single_files_are_what_they_always_were() -> None:
    made = content({"m.pt"}, Kind.MODEL, Format.TORCH)
    file = f'{{"path":"m.pt","pieces_root":"{DIGEST}","sha256":"{DIGEST}","size":1}}'
    written = f'{{"files":[{file}],"format":"torch","kind":"model"}}'
    assert made.artifact == hashlib.sha256(written.encode()).hexdigest()


def test_a_copy_with_other_files_finds_its_own_name() -> None:
    one = content({"a"})
    assert one.artifact != one.model_copy(update={"files": content({"b"}).files}).artifact
    assert one == content({"a"})


def _reference(of: Content) -> ContentRef:
    data = canonical_json(of.model_dump(mode="json"))
    return ContentRef(name=f"content/{of.artifact}", sha256=of.artifact, size=len(data), files=len(of.files), bytes=1)


def _available(of: Content, **more: object) -> ArtifactAvailable:
    fields: dict[str, object] = {
        "artifact": of.artifact,
        "metainfo_b64": "ZGU=",
        "origin": Origin(node="n1", endpoints=Endpoints()),
        "envelope": ManifestEnvelope(statement=Statement(model="m", version="1", artifact=of.artifact)),
        "cause": "c",
    }
    return ArtifactAvailable.model_validate(fields | more)


def test_an_offer_carries_its_content_or_names_it_never_both_or_neither() -> None:
    made = content({"a", "b/c"})
    reference = _reference(made)
    by_reference = _available(made, content_ref=reference)
    for wrong in ({}, {"content": made, "content_ref": reference}):
        with pytest.raises(ValidationError, match="exactly one of content"):
            _available(made, **wrong)
    with pytest.raises(ValidationError, match="not the digest"):
        _available(made, content_ref=reference.model_copy(update={"sha256": DIGEST}))
    offer = offer_from_event(by_reference, correlation="c", sequence=1, content=made)
    assert (offer.content, offer.content_ref) == (made, reference)
    assert offer_from_event(_available(made, content=made), correlation="c", sequence=1).content == made


def test_a_record_from_before_content_travelled_by_reference_is_read() -> None:
    for kind, format, line in (  # noqa: A001
        (Kind.MODEL, Format.TORCH, Kind.MODEL),
        (Kind.DATASET, Format.NPZ, Kind.DATASET),
        (Kind.BUNDLE, Format.MIXED, Kind.MODEL),
    ):
        made = content({"a"}, kind, format)
        state = VersionState(
            model="m",
            version="1",
            artifact=made.artifact,
            content=made,
            origin=Origin(node="n1", endpoints=Endpoints()),
            cause=Cause(event="e", sequence=1, by="/x", correlation="e"),
            at="now",
        )
        old = state.model_dump(mode="json", exclude={"kind", "content_ref"})
        assert VersionState.model_validate(old).kind is line
        assert offer_from_state(VersionState.model_validate(old)).kind is line


def test_texts_beside_a_proven_model_do_not_make_it_untested_but_pickles_do() -> None:
    ok, opaque = FormatReport(Verdict.OK), FormatReport(Verdict.NOT_TESTED, "opaque")
    pickled = FormatReport(Verdict.NOT_TESTED, "pickle")
    made = content({"m.onnx", "t.txt", "x.pkl"})
    assert summary(made, {"m.onnx": ok, "t.txt": opaque}) == "ok"
    assert summary(made, {"t.txt": opaque}) == "not tested (t.txt: opaque)"
    assert summary(made, {"m.onnx": ok, "x.pkl": pickled}) == "not tested (x.pkl: pickle)"


def test_weights_lie_beside_their_model() -> None:
    report = FormatReport(Verdict.OK, facts={"external": ["m.onnx.data", "w/more.bin"]})
    assert weights_beside("deep/m.onnx", report) == {"deep/m.onnx.data", "deep/w/more.bin"}
