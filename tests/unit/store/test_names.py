"""Names: nothing that validated content can say leads out of its folder."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.transport.store import layout
from fleetcast.transport.store.folder import Folder

DIGEST = "a" * 64
HOSTILE = [
    "../x", "a/../../x", "/etc/passwd", "//x", "a//b", "./x", "a/.", "..", ".", "", "a\\b", "..\\x", "a\0b", "a\nb",
    "a\u202eb", "e\u0301", "x" * 256, "/".join(["d" * 50] * 11), "a/", "\ud800",
]  # fmt: skip


def content(path: str) -> Content:
    file = ContentFile(path=path, size=1, sha256=DIGEST, pieces_root=DIGEST)
    return Content(kind=Kind.MODEL, format=Format.OPAQUE, files=(file,))


@pytest.mark.parametrize("path", HOSTILE)
def test_manifest_that_climbs_out_of_the_store_is_refused(path: str) -> None:
    with pytest.raises((ValidationError, UnicodeEncodeError)):
        content(path)


@given(st.text(st.sampled_from("ab./\\\0~ é\u0301"), max_size=12))
def test_path_is_refused_or_stays_below_the_version(path: str) -> None:
    try:
        made = content(path)
    except (ValidationError, UnicodeEncodeError):
        return
    home = PurePosixPath("/data", *layout.version(Kind.MODEL, "m", "1"))
    place = PurePosixPath(home, made.files[0].path)
    assert ".." not in place.parts
    assert place.is_relative_to(home)
    assert place != home


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/", "../x"])
def test_folder_enters_single_names_only(tmp_path: Path, name: str) -> None:
    from fleetcast.transport.errors import PathRefused

    with Folder.open(tmp_path) as folder, pytest.raises(PathRefused):
        folder.enter(name, create=True)


def test_models_and_data_sets_never_share_a_folder() -> None:
    assert layout.line(Kind.MODEL, "hex8") != layout.line(Kind.DATASET, "hex8")
    assert layout.line(Kind.BUNDLE, "hex8") == layout.line(Kind.MODEL, "hex8")
