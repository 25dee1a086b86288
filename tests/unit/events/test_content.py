"""Content: names that stay below their folder, and an identity that nothing else takes part in."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fleetcast.events.content import Content, safe_relative_path

DIGEST = "0" * 64


def file(path: str, **changes: Any) -> dict[str, Any]:
    return {"path": path, "size": 1, "sha256": DIGEST, "pieces_root": DIGEST, **changes}


def content(*files: dict[str, Any], **changes: Any) -> Content:
    return Content.model_validate({"kind": "model", "format": "torch", "files": files, **changes})


@pytest.mark.parametrize("path", ["m.pt", "a/b/c.npz", "ä.pt", "a b", "..a", "a..", "...", ".hidden"])
def test_paths_below_the_folder_are_accepted(path: str) -> None:
    assert safe_relative_path(path) == path


@pytest.mark.parametrize("path", ["..", "../m.pt", "a/../../m.pt", "a/..", "./m.pt", "a/./b", "a//b", "a/"])
def test_manifest_that_climbs_out_of_the_store_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="not a relative path"):
        content(file(path))


@pytest.mark.parametrize("path", ["/etc/passwd", "//m.pt", "/"])
def test_absolute_name_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="not a relative path"):
        content(file(path))


@pytest.mark.parametrize("path", ["a\0b", "a\nb", "a\\b", "..\\m.pt", "a\x7fb", "a\u202eb", "a\u200bb", "\ufeffa"])
def test_control_characters_and_back_slashes_are_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="control character"):
        content(file(path))


def test_name_in_another_unicode_form_is_refused_for_file_systems_would_fold_it() -> None:
    with pytest.raises(ValidationError, match="NFC"):
        content(file("a\u0308.pt"))


@pytest.mark.parametrize("path", ["", "a" * 256, "é" * 128, "/".join(["a" * 100] * 6)])
def test_name_too_long_for_a_file_system_is_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        content(file(path))


def test_paths_that_differ_only_in_case_are_refused() -> None:
    with pytest.raises(ValidationError, match="differ only in case"):
        content(file("M.pt"), file("m.pt"))


def test_the_same_path_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="once each"):
        content(file("m.pt"), file("m.pt"))


def test_files_out_of_order_are_refused_for_order_is_part_of_the_identity() -> None:
    with pytest.raises(ValidationError, match="order"):
        content(file("b"), file("a"))


def test_file_below_another_file_is_refused() -> None:
    with pytest.raises(ValidationError, match="below a path that is a file"):
        content(file("a"), file("a/b"))


@pytest.mark.parametrize("size", [0, -1, 2**53 + 1, 1.5, "many"])
def test_absurd_size_is_refused(size: object) -> None:
    with pytest.raises(ValidationError):
        content(file("m.pt", size=size))


def test_content_without_files_is_refused() -> None:
    with pytest.raises(ValidationError):
        content()


def test_unknown_field_is_refused_for_it_would_not_be_part_of_the_identity() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        content(file("m.pt"), generation=7)


def test_the_artifact_follows_from_every_part_of_the_content_and_from_nothing_else() -> None:
    base = content(file("m.pt"))
    others = [
        content(file("n.pt")),
        content(file("m.pt", size=2)),
        content(file("m.pt", sha256="1" * 64)),
        content(file("m.pt", pieces_root="1" * 64)),
        content(file("m.pt"), kind="dataset"),
        content(file("m.pt"), format="npz"),
        content(file("m.pt"), file("n.pt")),
    ]
    assert len({each.artifact for each in (base, *others)}) == len(others) + 1
    assert base.artifact == content(file("m.pt")).artifact


def test_the_artifact_of_a_known_content_never_changes() -> None:
    # Every fleet's store is addressed by this: a change here makes all artifacts new.
    assert content(file("m.pt")).artifact == "202f1d22dd718f07444838eac9e231dbe609a5167ff650290e43cd2e4d79ac66"


@given(st.text(max_size=40))
def test_what_is_accepted_joins_to_a_path_below_the_folder(path: str) -> None:
    import posixpath

    try:
        safe_relative_path(path)
    except ValueError:
        return
    assert posixpath.normpath(posixpath.join("/store", path)).startswith("/store/")
