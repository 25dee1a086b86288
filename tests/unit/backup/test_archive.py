"""The file of a backup: who can open it, and what is noticed when it is not what was written."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetcast.cli.backup import archive, sealing
from fleetcast.cli.backup.archive import MAGIC, PART, Reader, written
from fleetcast.cli.backup.manifest import ChainEnd, Manifest, PartHead
from fleetcast.cli.backup.sealing import CHUNK_BYTES, PrivateKey, Sealer, opened, read_private, read_public
from fleetcast.cli.problems import Exit, Problem
from fleetcast.security.keys import write

KEY, OTHER = PrivateKey.new(), PrivateKey.new()
STREAMS = {"FC_EVENTS": b"e" * 700_000, "FC_REGISTRY": b"r" * 11, "FC_WORK": b""}


def manifest(file: archive.Writer) -> Manifest:
    return Manifest(
        fleetcast="1",
        server="2.15.1",
        node="n",
        taken_at=datetime(2026, 11, 21, tzinfo=UTC),
        parts=tuple(file.parts),
        left_out={},
        audit={"m": ChainEnd(n=2, sha256="ab")},
    )


def made(path: Path, *keys: PrivateKey) -> Path:
    with written(path, [key.public for key in keys or (KEY,)]) as file:
        for name, data in STREAMS.items():
            file.begin(PartHead(stream=name, config={"name": name}, state={"messages": 3, "last_seq": 9}))
            for at in range(0, len(data), 100_000):
                file.add(data[at : at + 100_000])
            file.end()
        file.finish(manifest(file))
    return path


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("backup") / "a.fcbackup")


def test_a_backup_opens_with_its_key_and_says_what_is_in_it_without(backup: Path) -> None:
    reader = Reader(backup)

    assert [part.stream for part in reader.check(KEY).parts] == list(STREAMS)
    assert (reader.summary().streams, reader.summary().messages, reader.check_bytes().records) == (3, 9, 2)
    assert b"FC_EVENTS" not in backup.read_bytes()
    assert backup.stat().st_mode & 0o777 == 0o600


def test_any_one_of_several_keys_opens_a_backup(tmp_path: Path) -> None:
    path = made(tmp_path / "a.fcbackup", KEY, OTHER)

    assert Reader(path).check(KEY) == Reader(path).check(OTHER)


def test_a_key_that_it_was_not_sealed_to_is_named_as_the_wrong_one(backup: Path) -> None:
    with pytest.raises(Problem, match=f"was not sealed to this key \\({OTHER.public.id}\\)"):
        Reader(backup).check(OTHER)


def places(size: int, sealed: int) -> list[int]:
    """Offsets all over the file: the header, both ends of sealed chunks, and in between."""
    start = size - sealed
    return [len(MAGIC) + 5, start // 2, *(start + sealed * n // 9 for n in range(1, 9)), CHUNK_BYTES, CHUNK_BYTES + 16]


def test_a_flipped_bit_anywhere_is_found_with_and_without_the_key(backup: Path, tmp_path: Path) -> None:
    whole = backup.read_bytes()
    sealed = Reader(backup).summary().sealed_size
    missed = []
    for place in places(whole.rfind(b'{"fleetcast"'), sealed):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path = tmp_path / f"{place}.fcbackup"
        path.write_bytes(damaged)
        for look in (lambda reader: reader.check_bytes(), lambda reader: list(reader.frames(KEY))):
            try:
                look(Reader(path))
            except Problem:
                continue
            missed.append(place)

    assert missed == []


@pytest.mark.parametrize("left", [0, 10, 40, 5_000, 300_000, 700_000])
def test_a_backup_that_was_cut_off_is_refused(backup: Path, tmp_path: Path, left: int) -> None:
    path = tmp_path / "cut.fcbackup"
    path.write_bytes(backup.read_bytes()[:left])

    for look in (Reader(path).check_bytes, lambda: Reader(path).check(KEY)):
        with pytest.raises(Problem) as refused:
            look()
        assert refused.value.code in {"backup_damaged", "no_backup"}


def test_a_summary_that_lies_about_the_size_cannot_hide_the_end(backup: Path, tmp_path: Path) -> None:
    whole = backup.read_bytes()
    begin = whole.rfind(b'{"fleetcast"')
    summary = json.loads(whole[begin:].split(b"\n")[0])
    line = json.dumps(summary | {"sealed_size": CHUNK_BYTES + 16}).encode() + b"\n"
    path = tmp_path / "lies.fcbackup"
    path.write_bytes(whole[:begin] + line + f"{len(line):012d}\n".encode())

    with pytest.raises(Problem, match="not what was sealed"):
        list(Reader(path).frames(KEY))


PLAIN = b"a" * CHUNK_BYTES + b"b" * CHUNK_BYTES + b"c"


def in_chunks() -> list[bytes]:
    sealed: list[bytes] = []
    sealer = Sealer(b"k" * 32, b"header", sealed.append)
    sealer.add(PLAIN)
    sealer.finish()
    return sealed


def unsealed(*chunks: bytes) -> bytes:
    file = io.BytesIO(b"".join(chunks))
    return b"".join(opened(b"k" * 32, b"header", file.read, len(file.getvalue())))


def test_chunks_cannot_change_places_nor_be_left_out() -> None:
    first, second, last = in_chunks()

    assert unsealed(first, second, last) == PLAIN
    for wrong in ((second, first, last), (first, second), (first, last), (first, second, last, last)):
        with pytest.raises(Problem, match="not what was sealed"):
            unsealed(*wrong)


def test_broken_variant_chunks_without_a_mark_of_the_last_are_cut_off_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_nonce", lambda number, *, last: number.to_bytes(12, "big"))
    first, second, _ = in_chunks()

    assert unsealed(first, second) == PLAIN[: 2 * CHUNK_BYTES]


def test_a_backup_that_fails_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    def fails() -> None:
        with written(tmp_path / "a.fcbackup", [KEY.public]) as file:
            file.begin(PartHead(stream="FC_EVENTS", config={}, state={}))
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        fails()

    assert list(tmp_path.iterdir()) == []


def test_reading_holds_a_chunk_and_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "large.fcbackup"
    with written(path, [KEY.public]) as file:
        file.begin(PartHead(stream="FC_EVENTS", config={}, state={}))
        for _ in range(64):
            file.add(b"x" * 128 * 1024)
        file.end()
        file.finish(manifest(file))
    longest = max(len(frame.data) for frame in Reader(path).frames(KEY) if frame.kind != PART)

    assert longest <= 128 * 1024
    assert path.stat().st_size > 8 * 2**20


def test_a_private_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k"
    write(path, f"# a word\n{KEY.text}\n")
    assert read_private(path).public.text == KEY.public.text
    path.chmod(0o640)

    with pytest.raises(Problem, match="may be read by others") as refused:
        read_private(path)
    assert refused.value.next_step == f"chmod 600 {path}"


@pytest.mark.parametrize(
    "text",
    ["", "x", KEY.text[:-4], KEY.text + "AAAA", KEY.public.text, f"{KEY.text}\n{KEY.text}"],
    ids=["nothing", "a word", "cut", "too long", "the public one", "two"],
)
def test_half_a_private_key_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "k"
    write(path, text)

    with pytest.raises(Problem, match="holds no private key"):
        read_private(path)


def test_a_private_key_is_never_taken_for_a_public_one() -> None:
    with pytest.raises(Problem) as refused:
        read_public(KEY.text)

    assert KEY.text not in refused.value.what or refused.value.exit is Exit.FAILED
