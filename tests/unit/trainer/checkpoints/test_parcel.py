"""A checkpoint as one file, and back."""

import io
import tarfile
from pathlib import Path

import pytest

from fleetcast.daemons.trainer.checkpoints.parcel import SUFFIX, ParcelRefused, copied, pack, unpack
from fleetcast.daemons.trainer.checkpoints.places import LONGEST_LINE, line_of
from fleetcast.transport.checks.detect import detect


def sharded(folder: Path) -> Path:
    made = folder / "step-1"
    (made / "rank").mkdir(parents=True)
    (made / ".metadata").write_bytes(b"m" * 10)
    (made / "rank" / "0.distcp").write_bytes(b"s" * 100_000)
    (made / "empty").write_bytes(b"")
    return made


def test_folder_comes_out_as_it_went_in_with_hidden_and_empty_files(tmp_path: Path) -> None:
    made = sharded(tmp_path)
    parcel = pack(made, tmp_path / "parcels")
    out = unpack(parcel.path, tmp_path / "out")
    assert out.name == made.name
    assert {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()} == {
        p.relative_to(made): p.read_bytes() for p in made.rglob("*") if p.is_file()
    }


def test_same_checkpoint_is_the_same_version_however_often_it_is_packed(tmp_path: Path) -> None:
    made = sharded(tmp_path)
    first, again = pack(made, tmp_path / "a"), pack(made, tmp_path / "b")
    assert first.version == again.version == copied(first.path, tmp_path / "c").version
    (made / ".metadata").write_bytes(b"n" * 10)
    assert pack(made, tmp_path / "d").version != first.version


def test_parcel_has_no_format_test_that_an_optimizers_pickle_would_fail(tmp_path: Path) -> None:
    made = tmp_path / "optimizer.pt"
    made.write_bytes(b"\x80\x04cevil\nthing\n.")
    parcel = pack(made, tmp_path / "parcels")
    assert detect(parcel.path, parcel.path.name).value == "opaque"


def test_checkpoint_that_changes_while_it_is_packed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "last.pt"
    made.write_bytes(b"a" * 1000)
    add = tarfile.TarFile.addfile

    def and_somebody_saves(self: tarfile.TarFile, *given: object) -> None:
        add(self, *given)  # type: ignore[arg-type]
        spare = tmp_path / "spare"
        spare.write_bytes(b"b" * 1000)
        spare.replace(made)

    monkeypatch.setattr(tarfile.TarFile, "addfile", and_somebody_saves)
    with pytest.raises(ParcelRefused, match="changed while it was packed"):
        pack(made, tmp_path / "parcels")
    assert list((tmp_path / "parcels").iterdir()) == [], "nothing half made stays"


def test_link_in_a_checkpoint_is_not_followed(tmp_path: Path) -> None:
    made = sharded(tmp_path)
    (made / "link").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        pack(made, tmp_path / "parcels")


@pytest.mark.parametrize("name", ["../../escape", "/etc/escape", "a/../../escape"])
def test_parcel_that_climbs_out_of_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    evil = tmp_path / f"evil{SUFFIX}"
    with tarfile.open(evil, "w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    with pytest.raises(ParcelRefused):
        unpack(evil, tmp_path / "out" / "deep")
    assert not list(tmp_path.rglob("escape"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_parcel_with_anything_but_files_is_refused(kind: bytes, tmp_path: Path) -> None:
    evil = tmp_path / f"evil{SUFFIX}"
    with tarfile.open(evil, "w") as archive:
        entry = tarfile.TarInfo("thing")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(ParcelRefused, match="no plain file"):
        unpack(evil, tmp_path / "out")


def test_file_that_is_no_parcel_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    wrong = tmp_path / f"wrong{SUFFIX}"
    wrong.write_bytes(b"x" * 2000)
    with pytest.raises(ParcelRefused):
        unpack(wrong, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_line_of_any_run_is_a_name_of_its_own() -> None:
    assert line_of("hex8-abc") == "ckpt-hex8-abc"
    long = [line_of("r" * n) for n in (43, 44, 48)]
    assert len(set(long)) == 3
    assert all(len(line) <= LONGEST_LINE for line in long)
