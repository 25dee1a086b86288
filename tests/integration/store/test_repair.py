"""Damage: found, named, taken away from every reader, kept within a bound, and mended."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fleetcast.events.content import Kind
from fleetcast.transport.errors import PathRefused

Workplace = Any


def flip(path: Path, at: int = 3) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x10]))


def test_flipped_byte_is_named_by_file_with_both_digests(workplace: Workplace) -> None:
    content = workplace.receive("hex8", "1", {"a.bin": b"aaaaaaaa", "b.bin": b"bbbbbbbb"})
    home = workplace.data / "models/hex8/1"
    flip(home / "b.bin")
    (found,) = workplace.store.verify(content, home)
    assert (found.path, found.expected) == ("b.bin", content.files[1].sha256)
    assert len(found.actual) == 64
    assert [m.path for m in workplace.store.verify(content)] == ["b.bin"]


def test_missing_truncated_and_replaced_files_are_found(workplace: Workplace) -> None:
    content = workplace.receive("hex8", "1", {name: name.encode() * 100 for name in ("a", "b", "c", "d")})
    home = workplace.data / "models/hex8/1"
    (home / "a").unlink()
    (home / "b").chmod(0o644)
    os.truncate(home / "b", 3)
    (home / "c").unlink()
    (home / "c").symlink_to("d")
    found = {m.path: m.actual for m in workplace.store.verify(content, home)}
    assert set(found) == {"a", "b", "c"}
    assert found["a"] == "missing"
    assert found["c"].startswith("unreadable")


def test_damaged_file_leaves_every_name_and_its_case_names_the_source(workplace: Workplace) -> None:
    content = workplace.receive("hex8", "1", {"a.bin": b"aaaaaaaa", "b.bin": b"bbbbbbbb"})
    workplace.receive("twin", "9", {"other.bin": b"bbbbbbbb"})
    home = workplace.data / "models/hex8/1"
    flip(home / "b.bin")
    (case,) = workplace.store.withdraw(content, ["b.bin"], source="node-b")
    reason = json.loads((case / "reason.json").read_text())
    assert (reason["source"], reason["expected"]) == ("node-b", content.files[1].sha256)
    assert (case / "bytes").stat().st_nlink == 1
    assert (home / "a.bin").read_bytes() == b"aaaaaaaa"
    assert not (home / "b.bin").exists()
    assert not (workplace.data / "models/twin/9/other.bin").exists()
    assert workplace.store.installed("hex8") == workplace.store.installed("twin") == []
    assert not workplace.store.has(content)


def test_admitting_the_right_bytes_mends_every_version_that_lost_them(workplace: Workplace) -> None:
    content = workplace.receive("hex8", "1", {"a.bin": b"aaaaaaaa", "b.bin": b"bbbbbbbb"})
    workplace.receive("twin", "9", {"other.bin": b"bbbbbbbb"})
    flip(workplace.data / "models/hex8/1/b.bin")
    workplace.store.withdraw(content, ["b.bin"])
    place = workplace.store.swarm_folder(content.artifact) / content.artifact[:16] / "b.bin"
    assert not place.exists()
    place.write_bytes(b"bbbbbbbb")
    workplace.store.admit(content)
    assert (workplace.data / "models/twin/9/other.bin").read_bytes() == b"bbbbbbbb"
    assert [v.version for v in workplace.store.installed("hex8")] == ["1"]
    assert [v.version for v in workplace.store.installed("twin")] == ["9"]


def test_damage_at_a_versions_own_name_is_mended_from_the_store_without_a_transfer(workplace: Workplace) -> None:
    content = workplace.promote("hex8", "1", b"weights")
    place = workplace.data / "models/hex8/1/model.bin"
    place.unlink()
    place.write_bytes(b"somebody's own")
    assert workplace.store.withdraw(content, ["model.bin"]) == []
    assert place.read_bytes() == b"weights"
    assert len(workplace.store.installed("hex8")) == 1


def test_pointer_to_a_withdrawn_version_stays_and_works_again_after_the_repair(workplace: Workplace) -> None:
    content = workplace.promote("hex8", "1", b"weights")
    workplace.store.activate(workplace.order("hex8", 1, "1", content))
    flip(workplace.data / "models/hex8/1/model.bin")
    workplace.store.withdraw(content, ["model.bin"])
    assert not (workplace.data / "models/hex8/current/model.bin").exists()
    workplace.store.ingest(workplace.publish("model.bin", b"weights"), kind=Kind.MODEL)
    workplace.store.admit(content)
    assert (workplace.data / "models_essential/hex8.bin").read_bytes() == b"weights"


def test_publishing_the_same_bytes_again_mends_what_was_damaged_meanwhile(workplace: Workplace) -> None:
    workplace.promote("hex8", "1", b"weights")
    flip(workplace.data / "models/hex8/1/model.bin")
    content = workplace.store.ingest(workplace.publish("model.bin", b"weights"), kind=Kind.MODEL).content
    assert workplace.store.verify(content) == []
    assert (workplace.data / "models/hex8/1/model.bin").read_bytes() == b"weights"
    assert len(workplace.store.installed("hex8")) == 1


def test_good_bytes_whose_blob_was_lost_are_adopted_at_the_start(workplace: Workplace) -> None:
    content = workplace.promote("hex8", "1", b"weights")
    workplace.store.blob(content.files[0].sha256).unlink()
    assert workplace.store.installed("hex8") == []
    workplace.again().reconcile()
    assert len(workplace.store.installed("hex8")) == 1


def test_bad_bytes_whose_blob_was_lost_are_taken_away_at_the_start(workplace: Workplace) -> None:
    content = workplace.promote("hex8", "1", b"weights")
    workplace.store.blob(content.files[0].sha256).unlink()
    flip(workplace.data / "models/hex8/1/model.bin")
    workplace.again().reconcile()
    assert not (workplace.data / "models/hex8/1/model.bin").exists()
    assert len(list((workplace.data / "quarantine").iterdir())) == 1


def test_quarantine_keeps_the_newest_bytes_within_its_bound(workplace: Workplace) -> None:
    store = workplace.again(quarantine_bytes=250)
    workplace.data.mkdir()
    cases = []
    for number in range(4):
        place = workplace.data / f"bad-{number}"
        place.write_bytes(b"x" * 100)
        cases.append(store.quarantine(place, "failed", source="node-b"))
        assert not place.exists()
    assert [case.exists() for case in cases] == [False, False, True, True]


def test_reason_outlives_bytes_that_are_more_than_the_bound(workplace: Workplace) -> None:
    store = workplace.again(quarantine_bytes=50)
    workplace.data.mkdir()
    place = workplace.data / "bad"
    place.write_bytes(b"x" * 100)
    case = store.quarantine(place, "failed")
    assert [p.name for p in case.iterdir()] == ["reason.json"]
    assert not place.exists()


def test_only_files_of_the_data_folder_can_be_put_into_quarantine(workplace: Workplace) -> None:
    outside = workplace.publish("m.bin", b"x")
    workplace.data.mkdir()
    with pytest.raises(PathRefused):
        workplace.store.quarantine(outside, "failed")
    with pytest.raises(PathRefused):
        workplace.store.quarantine(workplace.data / ".." / "publish" / "m.bin", "failed")
    assert outside.exists()


def test_folder_that_is_no_version_cannot_be_verified(workplace: Workplace) -> None:
    content = workplace.promote("hex8", "1", b"weights")
    for folder in (workplace.root, workplace.data / "models", workplace.data / "store" / "x" / "y"):
        with pytest.raises(PathRefused):
            workplace.store.verify(content, folder)
