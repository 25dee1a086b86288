"""Folders: which of them become a bundle, and that what is taken is of one moment."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.store.conftest import slot_order

from fleetcast.events.content import MAX_FILES, Format, Kind
from fleetcast.events.state import SlotEntry
from fleetcast.transport.errors import ContentRefused, StoreFull
from fleetcast.transport.store import PublishedFolder

Workplace = Any
FILES = {"model.onnx": b"graph" * 100, "model.onnx.data": os.urandom(70_000), "words/größe/merges.txt": b"a b\n"}
NAMES = st.from_regex(r"[a-zA-Z0-9äöü_-]{1,6}(\.[a-z]{1,4})?", fullmatch=True)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


def lay(workplace: Workplace, files: dict[str, bytes] | None = None, name: str = "bundle") -> Path:
    folder: Path = workplace.published / name
    for path, data in (files or FILES).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def refusal(workplace: Workplace, folder: Path, **more: Any) -> ContentRefused:
    with pytest.raises(ContentRefused) as refused:
        workplace.store.ingest_folder(folder, **more)
    assert refused.value.next_step
    assert not list((workplace.data / "staging").glob("*"))
    return refused.value


def read(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_becomes_one_bundle_in_the_order_of_its_paths(workplace: Workplace) -> None:
    content = workplace.store.ingest_folder(lay(workplace)).content
    assert (content.kind, content.format) == (Kind.BUNDLE, Format.MIXED)
    assert [f.path for f in content.files] == sorted(FILES)
    assert read(workplace.store.swarm_folder(content.artifact) / content.artifact[:16]) == FILES


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(PATHS, st.binary(min_size=1, max_size=40), min_size=1, max_size=6), st.integers(0, 10**9))
def test_any_folder_is_installed_as_it_was_or_refused(
    workplace: Workplace, files: dict[str, bytes], number: int
) -> None:
    folder = workplace.published / f"any-{number}-{len(list(workplace.published.iterdir()))}"
    try:
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
    except OSError:
        return  # a path below a path that is a file
    laid = read(folder)
    try:
        content = workplace.store.ingest_folder(folder).content
    except ContentRefused:
        return
    version = folder.name
    workplace.keep(content, "any", version)
    assert read(workplace.store.version_folder(Kind.MODEL, "any", version)) == laid
    again = workplace.store.ingest_folder(folder).content
    assert again.artifact == content.artifact


def test_a_bundle_is_served_as_its_folder_and_so_is_one_of_a_single_file(workplace: Workplace) -> None:
    for generation, files in enumerate((FILES, {"model.onnx": b"alone"}), start=1):
        content = workplace.store.ingest_folder(lay(workplace, files, f"v{generation}")).content
        workplace.keep(content, "m", str(generation))
        done = workplace.store.activate(
            slot_order("m", generation, SlotEntry(version=str(generation), artifact=content.artifact))
        )
        assert done.essential == workplace.data / "models_essential" / "m"
        assert read(done.essential) == files == read(done.current)


def test_hidden_names_are_left_out_and_said(workplace: Workplace) -> None:
    folder = lay(workplace, FILES | {".git/config": b"x", "words/.cache": b"x"})
    taken = workplace.store.ingest_folder(folder)
    assert taken.left_out == (".git", "words/.cache")
    assert [f.path for f in taken.content.files] == sorted(FILES)


@pytest.mark.parametrize("name", ["m.onnx.tmp", ".m.onnx.Xy12Zz", "words/a.part", "m.onnx~", ".nfs00a1"])
def test_names_of_files_that_are_being_written_are_refused(workplace: Workplace, name: str) -> None:
    assert name in refusal(workplace, lay(workplace, FILES | {name: b"half"})).reason


def test_links_and_pipes_are_refused_by_name(workplace: Workplace) -> None:
    linked, piped = lay(workplace, FILES, "linked"), lay(workplace, FILES, "piped")
    (linked / "words" / "odd").symlink_to("/etc/hostname")
    os.mkfifo(piped / "words" / "odd")
    assert "words/odd is a symbolic link" in refusal(workplace, linked).reason
    assert "words/odd is no plain file" in refusal(workplace, piped).reason


def test_a_folder_that_is_reached_through_a_link_has_to_lie_in_a_publish_root(workplace: Workplace) -> None:
    outside = workplace.root / "outside"
    outside.mkdir()
    (outside / "m.bin").write_bytes(b"x")
    (workplace.published / "way").symlink_to(outside)
    assert "outside the publish roots" in refusal(workplace, workplace.published / "way").reason


def test_empty_files_and_folders_without_files_are_refused(workplace: Workplace) -> None:
    assert "is empty" in refusal(workplace, lay(workplace, FILES | {"empty.txt": b""})).reason
    (workplace.published / "bare" / "inner").mkdir(parents=True)
    assert "holds no file" in refusal(workplace, workplace.published / "bare").reason


def test_names_that_differ_only_in_case_are_refused(workplace: Workplace) -> None:
    assert "differ only in case" in refusal(workplace, lay(workplace, FILES | {"MODEL.onnx": b"x"})).reason


def test_names_that_not_every_node_can_write_are_refused(workplace: Workplace) -> None:
    folder = lay(workplace)
    with open(os.fsencode(folder) + b"/\xff.bin", "wb") as file:  # noqa: PTH123 - not UTF-8
        file.write(b"x")
    assert "cannot be used on every node" in refusal(workplace, folder).reason


def test_too_many_files_and_too_many_bytes_are_refused(workplace: Workplace) -> None:
    many = lay(workplace, {f"{n:05}": b"x" for n in range(MAX_FILES + 1)}, "many")
    assert str(MAX_FILES) in refusal(workplace, many).reason
    workplace.again(max_file_bytes=60_000)
    assert "max_file_bytes" in refusal(workplace, lay(workplace)).next_step


def test_a_folder_without_room_is_refused_before_it_is_copied(workplace: Workplace) -> None:
    workplace.again(reserve_bytes=2**60)
    with pytest.raises(StoreFull):
        workplace.store.ingest_folder(lay(workplace))
    assert not list((workplace.data / "store").rglob("*"))


def _append(folder: Path) -> None:
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"more")


def _rewrite_with_the_same_times(folder: Path) -> None:
    path = folder / "model.onnx"
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(folder: Path) -> None:
    (folder / "new").write_bytes(FILES["model.onnx"])
    (folder / "new").rename(folder / "model.onnx")


@pytest.mark.parametrize(
    "change",
    [
        _append,
        _rewrite_with_the_same_times,
        _replace,
        lambda folder: (folder / "words" / "more.txt").write_text("x"),
        lambda folder: (folder / "words" / "größe" / "merges.txt").unlink(),
    ],
    ids=["appended", "rewritten", "replaced", "added", "removed"],
)
def test_a_folder_that_changes_while_it_is_taken_is_refused(
    workplace: Workplace, change: Callable[[Path], None]
) -> None:
    folder = lay(workplace)

    def judge(_seen: PublishedFolder) -> None:
        change(folder)

    reason = refusal(workplace, folder, judge=judge).reason
    assert "changed while it was read" in reason or "does not exist" in reason


def test_what_judges_the_folder_sees_it_before_anything_is_copied_and_may_refuse(workplace: Workplace) -> None:
    folder = lay(workplace)
    seen: list[str] = []

    def judge(found: PublishedFolder) -> None:
        seen.extend(found.files)
        assert found.read("words/größe/merges.txt", 3) == b"a b"
        raise ContentRefused("not this one", next_step="another one")

    refusal(workplace, folder, judge=judge)
    assert seen == sorted(FILES)
    assert not list((workplace.data / "store").rglob("*"))


def test_a_bundle_of_a_handover_root_is_taken_without_a_copy(workplace: Workplace) -> None:
    workplace.again(handover_roots=(workplace.published,))
    folder = lay(workplace)
    content = workplace.store.ingest_folder(folder).content
    for file in content.files:
        assert workplace.store.blob(file.sha256).samefile(folder / file.path)
        assert stat.S_IMODE((folder / file.path).stat().st_mode) == 0o444


def test_one_damaged_file_of_a_bundle_is_withdrawn_and_the_others_stay(workplace: Workplace) -> None:
    content = workplace.store.ingest_folder(lay(workplace)).content
    workplace.keep(content, "m", "1")
    home = workplace.store.version_folder(Kind.MODEL, "m", "1")
    victim = home / "words/größe/merges.txt"
    victim.chmod(0o644)
    victim.write_bytes(b"x y\n")
    assert [m.path for m in workplace.store.verify(content, home)] == ["words/größe/merges.txt"]

    workplace.store.withdraw(content, ["words/größe/merges.txt"])
    assert set(read(home)) == set(FILES) - {"words/größe/merges.txt"}
    assert not workplace.store.has(content)

    workplace.keep(workplace.store.ingest_folder(lay(workplace)).content, "m", "1")
    assert read(home) == FILES
    assert workplace.store.confirm(content, "m", "1").checks.sha256 == "confirmed"


def test_a_folder_that_holds_files_of_something_else_is_never_filled_up(workplace: Workplace) -> None:
    content = workplace.store.ingest_folder(lay(workplace)).content
    left = workplace.store.version_folder(Kind.MODEL, "m", "1")
    (left / "words").mkdir(parents=True)
    (left / "words" / "vocab.json").write_text("{}")
    workplace.keep(content, "m", "1")
    assert read(left) == FILES
