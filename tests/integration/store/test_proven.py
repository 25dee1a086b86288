"""Whether an installed version is still what was proven: by a look, and by reading it."""

import os
from pathlib import Path
from typing import Any

import pytest

from fleetcast.events.content import Kind
from fleetcast.transport.errors import NotInstalled
from fleetcast.transport.store import Store

Workplace = Any


def file_of(workplace: Workplace, version: str = "1") -> Path:
    place = workplace.data / "models" / "hex8" / version / "model.bin"
    assert isinstance(place, Path)
    return place


def write(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(data)
    path.chmod(0o444)


def test_installed_version_looks_as_it_did_when_it_was_proven_after_a_restart_too(workplace: Workplace) -> None:
    workplace.promote("hex8", "1", b"weights")
    assert workplace.store.is_untouched("hex8", "1")
    assert Store(workplace.settings).is_untouched("hex8", "1")


def test_further_links_and_reading_leave_the_look_as_it_is(workplace: Workplace) -> None:
    workplace.promote("hex8", "1", b"weights")
    os.link(file_of(workplace), workplace.data / "another name")
    file_of(workplace).read_bytes()
    file_of(workplace).chmod(0o444)
    assert workplace.store.is_untouched("hex8", "1")


def test_file_that_was_written_to_is_noticed_and_named_when_it_is_read(workplace: Workplace) -> None:
    workplace.promote("hex8", "1", b"weights")
    write(file_of(workplace), b"WEIGHTS")
    assert not workplace.store.is_untouched("hex8", "1")
    (wrong,) = workplace.store.prove("hex8", "1")
    assert wrong.path == "model.bin"
    assert not workplace.store.is_untouched("hex8", "1"), "what is wrong is never noted as proven"


def test_file_that_was_written_the_same_again_is_read_once_and_then_trusted(workplace: Workplace) -> None:
    workplace.promote("hex8", "1", b"weights")
    write(file_of(workplace), b"weights")
    assert not workplace.store.is_untouched("hex8", "1")
    assert workplace.store.prove("hex8", "1") == []
    assert workplace.store.is_untouched("hex8", "1")


@pytest.mark.parametrize("change", ["shorter", "gone", "other file"])
def test_file_that_is_another_or_none_is_noticed(workplace: Workplace, change: str) -> None:
    workplace.promote("hex8", "1", b"weights")
    path = file_of(workplace)
    before = path.stat()
    if change == "shorter":
        path.chmod(0o644)
        os.truncate(path, 3)
    else:
        path.unlink()
    if change == "other file":
        path.write_bytes(b"weights")
    if path.exists():
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not workplace.store.is_untouched("hex8", "1")


def test_record_from_before_there_were_fingerprints_is_read_once(workplace: Workplace) -> None:
    workplace.promote("hex8", "1", b"weights")
    record = workplace.data / "models/hex8/.installs/1.json"
    text = record.read_text()
    head, _, rest = text.partition('"proven":')
    assert rest
    record.unlink()
    record.write_text(head.rstrip(",") + "}")
    assert workplace.store.installed("hex8") != []
    assert not workplace.store.is_untouched("hex8", "1")
    assert workplace.store.prove("hex8", "1") == []
    assert workplace.store.is_untouched("hex8", "1")


def test_confirmation_keeps_the_fingerprints(workplace: Workplace) -> None:
    content = workplace.promote("hex8", "1", b"weights")
    workplace.store.confirm(content, "hex8", "1")
    assert workplace.store.is_untouched("hex8", "1")


def test_version_that_is_not_there_is_not_untouched_and_cannot_be_proven(workplace: Workplace) -> None:
    assert not workplace.store.is_untouched("hex8", "9")
    with pytest.raises(NotInstalled):
        workplace.store.prove("hex8", "9")
    with pytest.raises(NotInstalled):
        workplace.store.loadable("hex8", "9")


def test_what_loads_is_the_file_of_a_version_that_is_one(workplace: Workplace) -> None:
    workplace.promote("hex8", "1", b"weights")
    assert workplace.store.loadable("hex8", "1") == file_of(workplace)
    assert workplace.store.version_folder(Kind.MODEL, "hex8", "1") == file_of(workplace).parent


def test_note_of_a_hook_is_kept_and_a_broken_one_is_none(workplace: Workplace) -> None:
    workplace.promote("hex8", "1", b"weights")
    assert workplace.store.hooks.read("hex8") is None
    assert workplace.store.hooks.read("none") is None
    workplace.store.hooks.write("hex8", b'{"done": true}')
    assert Store(workplace.settings).hooks.read("hex8") == b'{"done": true}'
