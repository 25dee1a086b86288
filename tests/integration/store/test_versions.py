"""Installed versions and the pointers to them."""

import os
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fleetcast.events.content import Kind
from fleetcast.events.payloads import Checks
from fleetcast.events.state import SlotEntry
from fleetcast.transport.errors import (
    NotInstalled,
    NotKept,
    PathRefused,
    StaleGeneration,
    VerificationFailed,
    VersionHeld,
)
from fleetcast.transport.manifest import state

Workplace = Any
CHECKS = Checks(size="ok", sha256="ok", format="ok")


def entry(version: str, content: Any) -> SlotEntry:
    return SlotEntry(version=version, artifact=content.artifact)


def target(pointer: Path) -> str:
    return str(pointer.readlink())


# -- install


def test_installed_version_is_made_of_hard_links_to_the_store(workplace: Workplace) -> None:
    content = workplace.promote("hex8", "1", b"weights")
    place = workplace.data / "models" / "hex8" / "1" / "model.bin"
    assert place.samefile(workplace.store.blob(content.files[0].sha256))
    assert stat.S_IMODE(place.stat().st_mode) == 0o444
    (installed,) = workplace.store.installed("hex8")
    assert (installed.version, installed.artifact, installed.bytes) == ("1", content.artifact, 7)


def test_install_repeated_is_the_same_install(workplace: Workplace) -> None:
    content = workplace.promote("hex8", "1", b"weights")
    first = workplace.store.installed("hex8")
    workplace.keep(content, "hex8", "1")
    assert workplace.store.installed("hex8") == first


def test_version_keeps_its_content_for_ever(workplace: Workplace) -> None:
    workplace.promote("hex8", "1", b"weights")
    other = workplace.store.ingest(workplace.publish("model.bin", b"other"), kind=Kind.MODEL).content
    with pytest.raises(VersionHeld, match="hex8@1 is installed as artifact") as held:
        workplace.keep(other, "hex8", "1")
    assert "new version" in held.value.next_step
    assert (workplace.data / "models/hex8/1/model.bin").read_bytes() == b"weights"


def test_content_that_is_not_in_the_store_is_not_installed(workplace: Workplace) -> None:
    content = workplace.bring({"model.bin": b"weights"})
    with pytest.raises(NotKept):
        workplace.keep(content, "hex8", "1")
    assert workplace.store.installed("hex8") == []
    assert not (workplace.data / "models/hex8/1").exists()


def test_data_sets_lie_beside_models_of_the_same_name(workplace: Workplace) -> None:
    workplace.promote("hex8", "1", b"weights")
    workplace.receive("hex8", "1", {"train.npz": b"samples", "deep/er/test.npz": b"more"}, Kind.DATASET)
    assert (workplace.data / "datasets/hex8/1/deep/er/test.npz").read_bytes() == b"more"
    assert workplace.store.lines() == [(Kind.MODEL, "hex8"), (Kind.DATASET, "hex8")]
    assert [v.version for v in workplace.store.installed("hex8", Kind.DATASET)] == ["1"]


def test_received_bytes_become_read_only_and_have_one_copy(workplace: Workplace) -> None:
    content = workplace.receive("hex8", "1", {"model.bin": b"weights" * 1000})
    blob = workplace.store.blob(content.files[0].sha256)
    assert blob.stat().st_nlink == 3
    assert stat.S_IMODE(blob.stat().st_mode) == 0o444


def test_file_that_was_not_brought_whole_is_not_admitted(workplace: Workplace) -> None:
    content = workplace.bring({"a.bin": b"weights", "b.bin": b"more weights"})
    place = workplace.store.swarm_folder(content.artifact) / content.artifact[:16]
    os.truncate(place / "b.bin", 5)
    with pytest.raises(VerificationFailed, match=r"b\.bin has 5 bytes, 12 were promised"):
        workplace.store.admit(content)
    (place / "b.bin").unlink()
    with pytest.raises(VerificationFailed, match=r"b\.bin was not brought"):
        workplace.store.admit(content)


def test_confirmation_is_noted_on_the_install(workplace: Workplace) -> None:
    content = workplace.promote("hex8", "1", b"weights")
    assert workplace.store.confirm(content, "hex8", "1").checks.sha256 == "confirmed"
    assert workplace.again().installed("hex8")[0].checks.sha256 == "confirmed"
    with pytest.raises(NotInstalled):
        workplace.store.confirm(content, "hex8", "2")


def test_version_that_lost_a_file_does_not_count_as_installed_and_is_mended_by_install(workplace: Workplace) -> None:
    content = workplace.receive("hex8", "1", {"a.bin": b"a", "b.bin": b"b"})
    (workplace.data / "models/hex8/1/b.bin").unlink()
    assert workplace.store.installed("hex8") == []
    workplace.keep(content, "hex8", "1")
    assert (workplace.data / "models/hex8/1/b.bin").read_bytes() == b"b"
    assert len(workplace.store.installed("hex8")) == 1


def test_a_version_keeps_the_manifest_by_which_it_came(workplace: Workplace) -> None:
    content = workplace.promote("hex8", "1", b"weights")
    first = state(content, "hex8", "1", not_after=datetime(2030, 1, 1, tzinfo=UTC))
    workplace.store.install(content, "hex8", "2", CHECKS, "local", 0.1, first)

    # Another offer of the same bytes comes, the version loses a file, and is brought again.
    workplace.store.write_record(content, b"metainfo", state(content, "go9", "7"))
    workplace.store.install(content, "hex8", "2", CHECKS, "local", 0.1, state(content, "hex8", "2"))
    (workplace.data / "models/hex8/2/model.bin").unlink()
    workplace.store.install(content, "hex8", "2", CHECKS, "local", 0.1, state(content, "hex8", "2"))

    assert workplace.again().manifest("hex8", "2") == first
    assert workplace.store.manifest("hex8", "1") == state(content, "go9", "7")  # a record from before it was kept
    with pytest.raises(NotInstalled):
        workplace.store.manifest("hex8", "3")


def test_records_survive_a_restart_and_a_damaged_one_is_left_out(workplace: Workplace) -> None:
    content = workplace.promote("hex8", "1", b"weights")
    assert workplace.again().read_record(content.artifact).metainfo == b"metainfo"
    (workplace.data / "artifacts" / f"{'0' * 64}.json").write_text("{")
    assert [r.content for r in workplace.store.records()] == [content]
    assert workplace.store.content_of("0" * 64) is None
    with pytest.raises(NotKept):
        workplace.store.read_record("0" * 64)


# -- activate


def test_slot_order_moves_current_previous_and_the_flat_view(workplace: Workplace) -> None:
    one, two = workplace.promote("hex8", "1", b"one"), workplace.promote("hex8", "2", b"two")
    workplace.store.activate(workplace.order("hex8", 1, "1", one))
    moved = workplace.store.activate(workplace.order("hex8", 2, "2", two, previous=entry("1", one)))
    home = workplace.data / "models" / "hex8"
    assert (target(home / "current"), target(home / "previous")) == ("2", "1")
    assert (workplace.data / "models_essential" / "hex8.bin").read_bytes() == b"two"
    assert moved.changed
    assert moved.essential == workplace.data / "models_essential" / "hex8.bin"
    assert workplace.again().applied("hex8") == moved.slot


def test_pointers_are_relative_so_that_the_data_folder_can_move(workplace: Workplace) -> None:
    content = workplace.promote("hex8", "1", b"one")
    workplace.store.activate(workplace.order("hex8", 1, "1", content))
    moved = workplace.root / "elsewhere"
    workplace.data.rename(moved)
    assert (moved / "models/hex8/current/model.bin").read_bytes() == b"one"
    assert (moved / "models_essential/hex8.bin").read_bytes() == b"one"


def test_the_same_order_again_changes_nothing(workplace: Workplace) -> None:
    content = workplace.promote("hex8", "1", b"one")
    workplace.store.activate(workplace.order("hex8", 1, "1", content))
    again = workplace.store.activate(workplace.order("hex8", 1, "1", content))
    assert not again.changed


def test_pointer_that_somebody_moved_is_put_right_by_the_same_order(workplace: Workplace) -> None:
    one, two = workplace.promote("hex8", "1", b"one"), workplace.promote("hex8", "2", b"two")
    workplace.store.activate(workplace.order("hex8", 1, "2", two, previous=entry("1", one)))
    current = workplace.data / "models/hex8/current"
    current.unlink()
    current.symlink_to("1")
    workplace.store.activate(workplace.order("hex8", 1, "2", two, previous=entry("1", one)))
    assert target(current) == "2"


def test_older_order_is_refused_also_after_a_restart(workplace: Workplace) -> None:
    one, two = workplace.promote("hex8", "1", b"one"), workplace.promote("hex8", "2", b"two")
    workplace.store.activate(workplace.order("hex8", 5, "2", two))
    with pytest.raises(StaleGeneration, match="is older than order 5"):
        workplace.again().activate(workplace.order("hex8", 4, "1", one))
    assert target(workplace.data / "models/hex8/current") == "2"


def test_two_orders_of_one_generation_cannot_both_hold(workplace: Workplace) -> None:
    one, two = workplace.promote("hex8", "1", b"one"), workplace.promote("hex8", "2", b"two")
    workplace.store.activate(workplace.order("hex8", 5, "2", two))
    with pytest.raises(StaleGeneration, match="contradicts order 5"):
        workplace.store.activate(workplace.order("hex8", 5, "1", one))


def test_rollback_is_a_pointer_flip_with_a_new_generation(workplace: Workplace) -> None:
    one, two = workplace.promote("hex8", "1", b"one"), workplace.promote("hex8", "2", b"two")
    workplace.store.activate(workplace.order("hex8", 1, "1", one))
    workplace.store.activate(workplace.order("hex8", 2, "2", two, previous=entry("1", one)))
    workplace.store.activate(workplace.order("hex8", 3, "1", one, previous=entry("2", two)))
    assert (workplace.data / "models/hex8/current/model.bin").read_bytes() == b"one"


def test_what_is_not_installed_is_not_activated(workplace: Workplace) -> None:
    content = workplace.bring({"model.bin": b"weights"})
    with pytest.raises(NotInstalled):
        workplace.store.activate(workplace.order("hex8", 1, "1", content))
    assert workplace.store.applied("hex8") is None


def test_version_installed_with_other_bytes_than_ordered_is_not_activated(workplace: Workplace) -> None:
    workplace.promote("hex8", "1", b"weights")
    other = workplace.bring({"model.bin": b"forged"})
    with pytest.raises(NotInstalled):
        workplace.store.activate(workplace.order("hex8", 1, "1", other))


def test_previous_that_this_node_does_not_have_has_no_pointer(workplace: Workplace) -> None:
    one = workplace.promote("hex8", "1", b"one")
    elsewhere = workplace.bring({"model.bin": b"old"})
    moved = workplace.store.activate(workplace.order("hex8", 7, "1", one, previous=entry("0", elsewhere)))
    assert moved.previous is None
    assert not (workplace.data / "models/hex8/previous").is_symlink()


def test_order_without_production_takes_the_pointers_away(workplace: Workplace) -> None:
    one = workplace.promote("hex8", "1", b"one")
    workplace.store.activate(workplace.order("hex8", 1, "1", one))
    nothing = workplace.order("hex8", 2, "1", one).model_copy(update={"production": None})
    workplace.store.activate(nothing)
    assert not (workplace.data / "models/hex8/current").is_symlink()
    assert list((workplace.data / "models_essential").iterdir()) == []


def test_flat_view_names_a_bundle_by_its_folder(workplace: Workplace) -> None:
    content = workplace.receive("hex8", "1", {"a.bin": b"a", "b.bin": b"b"})
    workplace.store.activate(workplace.order("hex8", 1, "1", content))
    assert (workplace.data / "models_essential/hex8/b.bin").read_bytes() == b"b"


def test_flat_view_drops_the_name_of_the_version_before(workplace: Workplace) -> None:
    workplace.again(essential_name="{model}-{version}{suffix}")
    one, two = workplace.promote("hex8", "1", b"one"), workplace.promote("hex8", "2", b"two")
    workplace.store.activate(workplace.order("hex8", 1, "1", one))
    workplace.store.activate(workplace.order("hex8", 2, "2", two))
    assert [p.name for p in (workplace.data / "models_essential").iterdir()] == ["hex8-2.bin"]


def test_flat_view_never_takes_the_name_of_another_model(workplace: Workplace) -> None:
    workplace.again(essential_name="best{suffix}")
    one, other = workplace.promote("hex8", "1", b"one"), workplace.promote("fraud", "1", b"other")
    workplace.store.activate(workplace.order("hex8", 1, "1", one))
    with pytest.raises(PathRefused, match=r"models_essential/best\.bin is not a pointer of fraud"):
        workplace.store.activate(workplace.order("fraud", 1, "1", other))
    assert (workplace.data / "models_essential/best.bin").read_bytes() == b"one"
    assert workplace.store.applied("fraud") is None


@pytest.mark.parametrize(
    "template", ["../{model}", "{model}/x", ".{model}", "{nothing}", "{model!x}", "{model.x}", "{0}"]
)
def test_flat_view_template_that_gives_no_name_is_refused_with_the_fix(workplace: Workplace, template: str) -> None:
    workplace.again(essential_name=template)
    content = workplace.promote("hex8", "1", b"one")
    with pytest.raises(PathRefused) as refused:
        workplace.store.activate(workplace.order("hex8", 1, "1", content))
    assert "{model}{suffix}" in refused.value.next_step


def test_data_sets_have_pointers_and_no_flat_view(workplace: Workplace) -> None:
    content = workplace.receive("lane", "1", {"train.npz": b"samples"}, Kind.DATASET)
    moved = workplace.store.activate(workplace.order("lane", 1, "1", content, kind="dataset"))
    assert (workplace.data / "datasets/lane/current/train.npz").read_bytes() == b"samples"
    assert moved.essential is None
    assert workplace.store.applied("lane", Kind.DATASET) == moved.slot
    assert workplace.store.applied("lane") is None


def test_slot_order_that_cannot_be_read_is_set_aside_at_the_start(workplace: Workplace) -> None:
    content = workplace.promote("hex8", "1", b"one")
    workplace.store.activate(workplace.order("hex8", 4, "1", content))
    (workplace.data / "models/hex8/.slot.json").write_text("torn")
    (case,) = workplace.again().reconcile()
    assert (case / "bytes").read_text() == "torn"
    assert workplace.store.applied("hex8") is None
    assert workplace.store.activate(workplace.order("hex8", 4, "1", content)).changed


def test_reader_of_current_sees_a_whole_version_while_orders_follow_each_other(workplace: Workplace) -> None:
    files = {v: {"a.bin": v.encode() * 5000, "b.bin": v.encode() * 5000} for v in "12"}
    contents = {v: workplace.receive("hex8", v, f) for v, f in files.items()}
    workplace.store.activate(workplace.order("hex8", 1, "1", contents["1"]))
    stop, wrong = threading.Event(), list[str]()
    reader = threading.Thread(target=_read_for_ever, args=(workplace.data, stop, wrong))
    reader.start()
    for generation in range(2, 40):
        now, before = ("1", "2") if generation % 2 else ("2", "1")
        order = workplace.order("hex8", generation, now, contents[now], previous=entry(before, contents[before]))
        workplace.store.activate(order)
    stop.set()
    reader.join()
    assert wrong == []


def _read_for_ever(data: Path, stop: threading.Event, wrong: list[str]) -> None:
    while not stop.is_set():
        for name in ("models/hex8/current", "models_essential/hex8"):
            # A reader that wants several files of one version opens its folder once.
            folder = os.open(data / name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                read = {_read(f, folder) for f in ("a.bin", "b.bin")}
            except OSError as fault:
                wrong.append(str(fault))
            else:
                wrong.extend(["a mix of versions"] * (len(read) != 1))
            os.close(folder)


def _read(name: str, folder: int) -> bytes:
    fd = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        return os.read(fd, 10_000)
    finally:
        os.close(fd)
