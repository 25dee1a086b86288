"""Publishing: what may enter the store, and what is refused with the fix."""

import hashlib
import mmap
import os
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from fleetcast.events.content import Format, Kind
from fleetcast.transport.errors import ContentRefused, StoreFull
from fleetcast.transport.hashing import hash_stream
from fleetcast.transport.store.folder import Folder

Workplace = Any


def refusal(workplace: Workplace, path: object) -> ContentRefused:
    with pytest.raises(ContentRefused) as refused:
        workplace.store.ingest(path, kind=Kind.MODEL)
    assert refused.value.field == "path"
    assert refused.value.next_step
    assert not list((workplace.data / "staging").glob("*"))
    return refused.value


def test_published_file_is_kept_under_its_digest_read_only_and_offered_to_the_swarm(workplace: Workplace) -> None:
    data = os.urandom(300_000)
    ingested = workplace.store.ingest(workplace.publish("m.bin", data), kind=Kind.MODEL)
    (file,) = ingested.content.files
    assert (file.path, file.size, file.sha256) == ("m.bin", len(data), hashlib.sha256(data).hexdigest())
    blob = workplace.store.blob(file.sha256)
    assert blob.read_bytes() == data
    assert stat.S_IMODE(blob.stat().st_mode) == 0o444
    artifact = ingested.content.artifact
    assert (workplace.store.swarm_folder(artifact) / artifact[:16] / "m.bin").samefile(blob)
    assert workplace.store.has(ingested.content)


def test_producer_keeps_its_file_and_its_mode(workplace: Workplace) -> None:
    path = workplace.publish("m.bin", b"x" * 1000)
    path.chmod(0o640)
    digest = workplace.store.ingest(path, kind=Kind.MODEL).content.files[0].sha256
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.write_bytes(b"the producer goes on")
    assert workplace.store.blob(digest).read_bytes() == b"x" * 1000


def test_the_same_bytes_published_twice_are_kept_once(workplace: Workplace) -> None:
    first = workplace.store.ingest(workplace.publish("m.bin", b"same" * 100), kind=Kind.MODEL)
    inode = workplace.store.blob(first.content.files[0].sha256).stat().st_ino
    second = workplace.store.ingest(workplace.publish("m.bin", b"same" * 100), kind=Kind.MODEL)
    assert second.content == first.content
    assert workplace.store.blob(first.content.files[0].sha256).stat().st_ino == inode


def test_format_is_told_by_suffix_and_first_bytes(workplace: Workplace) -> None:
    assert (
        workplace.store.ingest(workplace.publish("m.safetensors", b"x"), kind=Kind.MODEL).content.format
        == "safetensors"
    )
    assert workplace.store.ingest(workplace.publish("m.dat", b"xyz"), kind=Kind.MODEL).content.format == "opaque"
    given = workplace.store.ingest(workplace.publish("m.pt", b"xyz"), kind=Kind.MODEL, format=Format.OPAQUE)
    assert given.content.format == "opaque"


def test_folder_is_refused(workplace: Workplace) -> None:
    (workplace.published / "checkpoint").mkdir()
    assert "is a folder" in refusal(workplace, workplace.published / "checkpoint").reason


def test_empty_file_is_refused(workplace: Workplace) -> None:
    assert "is empty" in refusal(workplace, workplace.publish("m.bin", b"")).reason


def test_missing_file_is_refused_with_the_command_that_looks(workplace: Workplace) -> None:
    refused = refusal(workplace, workplace.published / "none.pt")
    assert "does not exist" in refused.reason
    assert "ls -l" in refused.next_step


def test_pipe_is_refused_without_waiting_for_a_writer(workplace: Workplace) -> None:
    os.mkfifo(workplace.published / "pipe")
    assert "pipe" in refusal(workplace, workplace.published / "pipe").reason


def test_socket_is_refused(workplace: Workplace) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(workplace.published / "s"))
        assert "no plain file" in refusal(workplace, workplace.published / "s").reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device files")
def test_device_is_refused(workplace: Workplace) -> None:
    os.mknod(workplace.published / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    assert "no plain file" in refusal(workplace, workplace.published / "zero").reason


@pytest.mark.parametrize("path", ["m.bin", "./m.bin", "", "~/m.bin", "/tmp/a\0b"])
def test_path_that_is_not_absolute_is_refused(workplace: Workplace, path: str) -> None:
    assert "absolute" in refusal(workplace, path).reason


def test_file_outside_the_publish_roots_is_refused_with_the_setting_that_allows_it(workplace: Workplace) -> None:
    outside = workplace.root / "outside.bin"
    outside.write_bytes(b"secret")
    refused = refusal(workplace, outside)
    assert "outside the publish roots" in refused.reason
    assert f'publish_roots = ["{workplace.root}"]' in refused.next_step


def test_dots_do_not_climb_out_of_a_publish_root(workplace: Workplace) -> None:
    (workplace.root / "secret").write_bytes(b"secret")
    assert "outside the publish roots" in refusal(workplace, f"{workplace.published}/../secret").reason


def test_folder_whose_name_only_starts_like_a_publish_root_is_outside(workplace: Workplace) -> None:
    twin = workplace.root / "publish-not"
    twin.mkdir()
    (twin / "m.bin").write_bytes(b"secret")
    assert "outside the publish roots" in refusal(workplace, twin / "m.bin").reason


def test_symbolic_link_that_leaves_the_root_is_refused(workplace: Workplace) -> None:
    (workplace.root / "secret").write_bytes(b"secret")
    (workplace.published / "link").symlink_to(workplace.root / "secret")
    assert "outside the publish roots" in refusal(workplace, workplace.published / "link").reason


def test_symbolic_link_within_the_root_is_followed_once_and_for_all(workplace: Workplace) -> None:
    workplace.publish("epoch-7.bin", b"weights")
    (workplace.published / "best.bin").symlink_to("epoch-7.bin")
    content = workplace.store.ingest(workplace.published / "best.bin", kind=Kind.MODEL).content
    assert content.files[0].path == "best.bin"
    assert workplace.store.blob(content.files[0].sha256).read_bytes() == b"weights"


def test_root_that_is_itself_reached_by_a_link_counts(workplace: Workplace) -> None:
    (workplace.root / "alias").symlink_to(workplace.published)
    workplace.publish("m.bin", b"weights")
    workplace.store.ingest(workplace.root / "alias" / "m.bin", kind=Kind.MODEL)


def test_link_that_is_swapped_all_the_time_never_brings_a_secret_in(workplace: Workplace) -> None:
    """The race that a check before opening loses: now the link points inside, now outside."""
    workplace.publish("inside", b"weights" * 1000)
    secret = workplace.root / "secret"
    secret.write_bytes(b"secret!" * 1000)
    link, stop = workplace.published / "m.bin", threading.Event()
    link.symlink_to("inside")

    def swap() -> None:
        while not stop.is_set():
            for target in (secret, Path("inside")):
                spare = workplace.published / "spare"
                spare.symlink_to(target)
                spare.rename(link)

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen = {"taken": 0, "refused": 0}
    try:
        for _ in range(150):
            try:
                content = workplace.store.ingest(link, kind=Kind.MODEL).content
                assert workplace.store.blob(content.files[0].sha256).read_bytes().startswith(b"weights")
                seen["taken"] += 1
            except ContentRefused:
                seen["refused"] += 1
    finally:
        stop.set()
        swapper.join()
    assert seen["refused"] > 0
    assert workplace.store.find(hashlib.sha256(b"secret!" * 1000).hexdigest()) is None


def test_file_that_is_too_large_is_refused(workplace: Workplace) -> None:
    store = workplace.again(max_file_bytes=10)
    path = workplace.publish("m.bin", b"x" * 11)
    with pytest.raises(ContentRefused, match="11 bytes, more than the 10"):
        store.ingest(path, kind=Kind.MODEL)


@pytest.mark.parametrize("name", ["a\nb.pt", "a\\b.pt", "e\u0301.pt", "\u202eevil.pt"])
def test_name_that_not_every_node_can_have_is_refused(workplace: Workplace, name: str) -> None:
    assert "cannot be used on every node" in refusal(workplace, workplace.publish(name, b"x")).reason


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda p: p.open("r+b").write(b"other"), id="written"),
        pytest.param(lambda p: p.open("ab").write(b"more"), id="grown"),
        pytest.param(lambda p: os.truncate(p, 100), id="cut"),
        pytest.param(
            lambda p: (p.with_name("n").write_bytes(b"x" * 200_000), p.with_name("n").rename(p)), id="replaced"
        ),
        pytest.param(lambda p: p.unlink(), id="removed"),
        pytest.param(lambda p: (p.unlink(), p.symlink_to("elsewhere")), id="made a dangling link"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_file_that_changes_while_it_is_read_is_refused(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    path = workplace.publish("m.bin", b"x" * 200_000)
    _change_while_hashing(monkeypatch, lambda: change(path))
    refused = refusal(workplace, path)
    assert "changed while it was read" in refused.reason
    assert "rename" in refused.next_step
    assert not list((workplace.data / "store").glob("sha256/*/*"))


def test_write_through_a_mapping_while_it_is_read_is_refused(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workplace.publish("m.bin", b"x" * 200_000)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:

        def write() -> None:
            mapped[5:10] = b"other"
            mapped.flush()

        _change_while_hashing(monkeypatch, write)
        assert "it was written meanwhile" in refusal(workplace, path).reason


def _change_while_hashing(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    from fleetcast.transport.store import blobs

    def hash_and_change(*arguments: Any) -> Any:
        digest = hash_stream(*arguments)
        change()
        return digest

    monkeypatch.setattr(blobs, "hash_stream", hash_and_change)


def test_reading_alone_changes_nothing(workplace: Workplace) -> None:
    path = workplace.publish("m.bin", b"x" * 1000)
    os.utime(path, (0, 0))
    workplace.store.ingest(path, kind=Kind.MODEL)
    workplace.store.ingest(path, kind=Kind.MODEL)


def test_full_node_refuses_before_it_copies(workplace: Workplace) -> None:
    free = workplace.store.free_bytes()
    store = workplace.again(reserve_bytes=free * 2)
    path = workplace.publish("m.bin", b"x")
    with pytest.raises(StoreFull) as full:
        store.ingest(path, kind=Kind.MODEL)
    assert "store.reserve_bytes" in full.value.next_step


def test_handed_over_file_is_linked_and_becomes_read_only(workplace: Workplace) -> None:
    root = workplace.root / "handover"
    root.mkdir()
    store = workplace.again(handover_roots=(root,))
    path = root / "m.bin"
    path.write_bytes(b"weights" * 1000)
    content = store.ingest(path, kind=Kind.MODEL).content
    assert store.blob(content.files[0].sha256).samefile(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_handed_over_file_that_changes_is_refused_and_gets_its_mode_back(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workplace.root / "handover"
    root.mkdir()
    store = workplace.again(handover_roots=(root,))
    path = root / "m.bin"
    path.write_bytes(b"weights" * 1000)
    path.chmod(0o640)
    with path.open("r+b", buffering=0) as writer:
        _change_while_hashing(monkeypatch, lambda: writer.write(b"more"))
        with pytest.raises(ContentRefused, match="changed while it was read"):
            store.ingest(path, kind=Kind.MODEL)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.stat().st_nlink == 1


def test_handover_from_another_file_system_falls_back_to_a_copy(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workplace.root / "handover"
    root.mkdir()
    store = workplace.again(handover_roots=(root,))
    path = root / "m.bin"
    path.write_bytes(b"weights" * 1000)

    def elsewhere(*_arguments: Any, **_more: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Folder, "link_open_file", elsewhere)
    content = store.ingest(path, kind=Kind.MODEL).content
    assert not store.blob(content.files[0].sha256).samefile(path)
    assert os.access(path, os.W_OK)


def test_blob_that_is_kept_is_what_was_hashed_not_what_lies_at_the_path_later(workplace: Workplace) -> None:
    data = os.urandom(100_000)
    ingested = workplace.store.ingest(workplace.publish("m.bin", data), kind=Kind.MODEL)
    file = ingested.content.files[0]
    with workplace.store.blob(file.sha256).open("rb", buffering=0) as kept:
        digest = hash_stream(kept, ingested.piece_length)
    assert (digest.sha256, digest.pieces_root) == (file.sha256, file.pieces_root)
    assert ingested.layers == {"m.bin": digest.layer}
