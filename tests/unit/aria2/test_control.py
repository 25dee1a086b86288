"""aria2's control file, to the byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.transport.aria2.control import (
    ControlFile,
    ControlFileDamaged,
    InFlight,
    bitfield_of,
    decode,
    encode,
    pieces_of,
)

numbers = st.integers(0, 2**32 - 1)
flying = st.builds(InFlight, numbers, numbers, st.binary(max_size=40))
controls = st.builds(
    ControlFile,
    numbers,
    st.integers(0, 2**64 - 1),
    st.binary(max_size=600),
    st.lists(flying, max_size=4).map(tuple),
)


@given(controls)
def test_what_is_written_is_read_again(control: ControlFile) -> None:
    assert decode(encode(control)) == control


@given(controls, st.data())
def test_a_file_that_is_cut_off_anywhere_is_refused(control: ControlFile, data: st.DataObject) -> None:
    whole = encode(control)
    with pytest.raises(ControlFileDamaged):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(controls, st.binary(min_size=1, max_size=9))
def test_a_file_that_goes_on_behind_its_end_is_refused(control: ControlFile, more: bytes) -> None:
    with pytest.raises(ControlFileDamaged, match="follow its end"):
        decode(encode(control) + more)


def test_another_version_is_refused() -> None:
    with pytest.raises(ControlFileDamaged, match="version 0"):
        decode(b"\0\0" + encode(ControlFile(1, 1, b""))[2:])


def test_a_file_of_aria2_itself_is_read() -> None:
    """Of aria2c 1.36: 3 MiB in pieces of 1 MiB, the first one there, the second one begun."""
    blocks = b"\xf0" + bytes(7)
    written = bytes.fromhex("000100000000000000000010000000000000003000000000000000000000")
    written += bytes.fromhex("000000018000000001000000010010000000000008") + blocks
    assert decode(written) == ControlFile(2**20, 3 * 2**20, b"\x80", (InFlight(1, 2**20, blocks),))
    assert encode(decode(written)) == written


@given(st.integers(0, 300).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, max(n - 1, 0)), max_size=n))))
def test_a_bitfield_holds_exactly_its_pieces(case: tuple[int, set[int]]) -> None:
    count, pieces = case
    if count:
        assert set(pieces_of(bitfield_of(pieces, count), count)) == pieces


def test_a_piece_behind_the_last_one_is_no_piece() -> None:
    with pytest.raises(IndexError):
        bitfield_of([3], 3)
    assert list(pieces_of(b"\xff", 3)) == [0, 1, 2]
