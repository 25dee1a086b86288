"""The native protocol of the journal, against a socket of our own in its place."""

import io
import struct
from pathlib import Path
from typing import Any

import pytest

from fleetcast.daemons.runtime.journal import JournalWriter, encode, field_name, journal_entry


def decode(datagram: bytes) -> dict[str, str]:
    """Read an entry the way the journal does."""
    fields = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, is_text, value = line.partition(b"=")
        if is_text:
            fields[name.decode()], datagram = value.decode(), rest
            continue
        (length,) = struct.unpack("<Q", rest[:8])
        fields[name.decode()], datagram = rest[8 : 8 + length].decode(), rest[8 + length + 1 :]
    return fields


EVENT = {
    "event": "transfer.verified",
    "level": "warning",
    "node": "gpu-1",
    "daemon": "distributor",
    "model": "hex8_2p",
    "correlation_id": "01J",
    "event_id": "01K",
    "seconds": 1.5,
    "pathname": "/x/transfer.py",
    "lineno": 7,
    "func_name": "verify",
}


def test_log_line_becomes_an_entry_with_fields_that_journalctl_can_match(journal: Any) -> None:
    JournalWriter(Path(journal.address), io.StringIO()).write(journal_entry(EVENT))

    assert decode(journal.receive()) == {
        "MESSAGE": "transfer.verified model=hex8_2p correlation_id=01J event_id=01K seconds=1.5",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "fleetcast-distributor",
        "FC_EVENT": "transfer.verified",
        "FC_NODE": "gpu-1",
        "FC_DAEMON": "distributor",
        "FC_MODEL": "hex8_2p",
        "FC_CORRELATION_ID": "01J",
        "FC_EVENT_ID": "01K",
        "FC_SECONDS": "1.5",
        "CODE_FILE": "/x/transfer.py",
        "CODE_LINE": "7",
        "CODE_FUNC": "verify",
    }


def test_value_of_several_lines_survives_and_adds_no_field() -> None:
    fields = {"MESSAGE": "boom\nPRIORITY=0\n", "FC_MODEL": "m"}

    assert decode(encode(fields.items())) == fields


def test_broken_variant_without_the_length_form_would_let_a_value_add_fields() -> None:
    naive = b"MESSAGE=boom\nPRIORITY=0\n"

    assert decode(naive)["PRIORITY"] == "0"
    assert "PRIORITY" not in decode(encode([("MESSAGE", "boom\nPRIORITY=0")]))


def test_entry_larger_than_a_datagram_arrives_whole_as_a_sealed_file(journal: Any) -> None:
    entry = {"MESSAGE": "x" * 2_000_000, "PRIORITY": "3"}

    JournalWriter(Path(journal.address), io.StringIO()).write(entry)

    assert decode(journal.receive()) == entry


def test_text_that_is_no_unicode_is_written_escaped() -> None:
    assert decode(encode([("FC_PATH", "/m/\udcff.pt")])) == {"FC_PATH": "/m/\\udcff.pt"}


def test_without_a_journal_the_line_goes_to_the_stream_with_its_priority(tmp_path: Path) -> None:
    stream = io.StringIO()

    JournalWriter(tmp_path / "nobody", stream).write({"MESSAGE": "a\nb", "PRIORITY": "3"})

    assert stream.getvalue() == "<3>a b\n"


def test_journal_that_comes_back_gets_entries_again(tmp_path: Path, make_socket: Any) -> None:
    writer = JournalWriter(tmp_path / "late", io.StringIO())
    writer.write({"MESSAGE": "lost to the stream"})
    listener = make_socket(str(tmp_path / "late"))

    writer.write({"MESSAGE": "here"})

    assert decode(listener.receive()) == {"MESSAGE": "here"}


def test_neither_journal_nor_stream_and_still_nothing_is_raised(tmp_path: Path) -> None:
    stream = io.StringIO()
    stream.close()

    JournalWriter(tmp_path / "nobody", stream).write({"MESSAGE": "x"})


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("model", "FC_MODEL"),
        ("bytes by source", "FC_BYTES_BY_SOURCE"),
        ("_secret", "FC_SECRET"),
        ("ß", "FC_SS"),
        ("é", ""),
        ("x" * 100, "FC_" + "X" * 61),
    ],
)
def test_field_names_are_those_that_the_journal_takes(key: str, name: str) -> None:
    assert field_name(key) == name
