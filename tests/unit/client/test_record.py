"""One record, one line."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.client.spool.record import MAX_LINE_BYTES, MAX_RECORD_BYTES, decode_line, encode_line, salvage

RECORDS = st.binary(min_size=1, max_size=60).filter(lambda record: b"\n" not in record)


def test_line_has_length_crc_and_json() -> None:
    record = b'{"id":"1"}'
    assert encode_line(record) == b"10 %08x %b\n" % (zlib.crc32(record), record)


@given(RECORDS)
def test_line_reads_back(record: bytes) -> None:
    assert decode_line(encode_line(record)) == record


@given(RECORDS, st.data())
def test_every_flipped_bit_is_found(record: bytes, data: st.DataObject) -> None:
    line = bytearray(encode_line(record))
    line[data.draw(st.integers(0, len(line) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert decode_line(bytes(line)) is None


@given(RECORDS, st.data())
def test_every_cut_is_found(record: bytes, data: st.DataObject) -> None:
    line = encode_line(record)
    assert decode_line(line[: data.draw(st.integers(0, len(line) - 1))]) is None


@given(torn=st.binary(max_size=30).filter(lambda torn: b"\n" not in torn), record=RECORDS)
def test_record_behind_a_torn_one_is_saved(torn: bytes, record: bytes) -> None:
    line = torn + encode_line(record)
    if torn:
        found = salvage(line)
        assert found is not None
        assert found[1] == record


def test_torn_head_that_runs_into_the_next_one_does_not_hide_it() -> None:
    whole = encode_line(b"2")
    for cut in range(len(whole)):
        found = salvage(whole[:cut] + encode_line(b"3"))
        assert found == (cut, b"3")


def test_noise_holds_no_record() -> None:
    assert salvage(b"10 00000000 {}\n") is None
    assert salvage(b"\0" * 1000 + b"\n") is None


@pytest.mark.parametrize("record", [b"", b"a\nb", b"x" * (MAX_RECORD_BYTES + 1)])
def test_what_is_no_record_is_refused(record: bytes) -> None:
    with pytest.raises(ValueError, match="a record"):
        encode_line(record)


def test_the_longest_line_fits_the_bound_of_the_reader() -> None:
    assert len(encode_line(b"x" * MAX_RECORD_BYTES)) < MAX_LINE_BYTES
