"""Which files and folders a run can go on from."""

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fleetcast.daemons.trainer.checkpoints.durable import Verdict, candidates, damage, digest, judge, make_last, see
from fleetcast.events.training import CheckpointRecord


def archive(path: Path, members: int = 3) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as made:
        for n in range(members):
            made.writestr(f"m/data/{n}", bytes([n]) * 5000)
    return path


def safetensors(path: Path) -> Path:
    head = json.dumps({"w": {"dtype": "F32", "shape": [100], "data_offsets": [0, 400]}}).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(400))
    return path


def dcp(path: Path, *, metadata: str = ".metadata") -> Path:
    path.mkdir()
    (path / "__0_0.distcp").write_bytes(b"s" * 4000)
    (path / metadata).write_bytes(b"\x80\x04meta")
    return path


def verdict(path: Path, **known: object) -> Verdict:
    seen = see(path)
    assert seen is not None
    return judge(seen, **known)  # type: ignore[arg-type]


def record(path: Path) -> CheckpointRecord:
    seen = see(path)
    assert seen is not None
    return CheckpointRecord(
        path=str(path),
        node="n1",
        size=seen.size,
        sha256=digest(path),
        changed_ns=seen.changed_ns,
        at="2026-01-01T00:00:00Z",
    )


@pytest.mark.parametrize("make", [archive, safetensors], ids=["archive", "safetensors"])
def test_file_with_an_end_is_durable_once_it_is_whole_and_not_before(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = make(tmp_path / ("step-9.pt" if make is archive else "step-9.safetensors"))
    assert verdict(path).durable
    whole = path.read_bytes()
    for kept in (len(whole) - 1, len(whole) // 2, 40):
        path.write_bytes(whole[:kept])
        assert not verdict(path, quiet=True).durable, f"cut to {kept} of {len(whole)} bytes"


def test_cut_archive_is_refused_even_when_its_writer_said_that_it_is_complete(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt")
    os.truncate(path, 9000)
    assert not verdict(path, announced_bytes=9000, quiet=True).durable


def test_archive_that_a_newer_version_of_the_form_is_needed_for_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    path = archive(tmp_path / "step-9.pt")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 6] = 255
    path.write_bytes(data)
    found = verdict(path)
    assert not found.durable
    assert "cut off or damaged" in found.why


@pytest.mark.parametrize(
    "head",
    [b'{"w": {"data_offsets": [0, "x"]}}', b'{"w": {"data_offsets": [0]}}', b'{"w": {"data_offsets": [0, 1e999]}}'],
)
def test_safetensors_head_that_means_nothing_is_refused_and_harms_nothing(head: bytes, tmp_path: Path) -> None:
    path = tmp_path / "step-9.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(400))
    assert verdict(path) == Verdict(False, "its head cannot be read")


def test_bytes_without_a_form_count_when_they_came_by_rename_and_stayed(tmp_path: Path) -> None:
    in_place = tmp_path / "state.bin"
    in_place.write_bytes(b"x" * 100)
    found = see(in_place)
    assert found is not None
    left = judge(replace(found, renamed=False), quiet=True)
    assert not left.durable
    assert "in place" in left.why
    assert not judge(replace(found, renamed=True), quiet=False).durable
    assert judge(replace(found, renamed=True), quiet=True).durable


def test_rename_is_seen_by_the_times_of_the_inode(tmp_path: Path) -> None:
    spare = tmp_path / ".state"
    spare.write_bytes(b"x" * 100)
    os.utime(spare, ns=(1, spare.stat().st_mtime_ns - 10**7))
    spare.rename(tmp_path / "state.bin")
    found = see(tmp_path / "state.bin")
    assert found is not None
    assert found.renamed


def test_announced_bytes_are_held_against_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state.bin"
    path.write_bytes(b"x" * 100)
    assert verdict(path, announced_bytes=100).durable
    assert not verdict(path, announced_bytes=120).durable


def test_distributed_checkpoint_is_durable_with_its_metadata_and_not_while_that_is_written(tmp_path: Path) -> None:
    assert verdict(dcp(tmp_path / "step-1")).durable
    assert not verdict(dcp(tmp_path / "step-2", metadata=".metadata.tmp")).durable
    both = dcp(tmp_path / "step-3")
    (both / ".metadata.tmp").write_bytes(b"again")
    assert not verdict(both).durable
    bare = dcp(tmp_path / "step-4")
    (bare / "__0_0.distcp").unlink()
    assert not verdict(bare).durable


@pytest.mark.parametrize("marker", [".complete", "_SUCCESS"])
def test_any_other_folder_needs_a_marker_or_a_word(marker: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-500"
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"x" * 100)
    assert not verdict(folder, quiet=True).durable
    assert verdict(folder, announced_bytes=100).durable
    assert not verdict(folder, announced_bytes=99).durable
    (folder / marker).write_text("")
    assert verdict(folder).durable


def test_names_of_unfinished_and_hidden_files_are_no_candidates(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt.tmp", ".c.pt", "d.pt.tmp.123", "e~", "tmp_f.pt", "g.part", "h.incomplete"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in candidates(tmp_path)] == ["a.pt"]
    assert candidates(tmp_path / "nowhere") == []


def test_links_devices_and_nothing_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    assert [see(tmp_path / name) for name in ("link", "empty", "folder", "fifo", "gone")] == [None] * 5


def test_what_was_committed_is_sound_until_it_is_cut_changed_or_gone(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt")
    kept = record(path)
    assert damage(kept) == ""
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert "bytes, and had" in damage(kept)
    path.write_bytes(whole[:-1] + b"\x01")
    assert "other bytes" in damage(kept)
    path.unlink()
    assert "gone" in damage(kept)


def test_folder_that_lost_a_shard_is_damaged(tmp_path: Path) -> None:
    folder = dcp(tmp_path / "step-1")
    kept = record(folder)
    assert damage(kept) == ""
    (folder / "__0_0.distcp").unlink()
    assert damage(kept) != ""


def test_checkpoint_is_made_to_last_with_all_that_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = dcp(tmp_path / "step-1")
    synced = []
    monkeypatch.setattr(
        "fleetcast.daemons.trainer.checkpoints.durable.os.fsync",
        lambda fd: synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())),
    )
    make_last(folder)
    assert set(synced) == {str(p) for p in (folder, tmp_path, folder / ".metadata", folder / "__0_0.distcp")}
