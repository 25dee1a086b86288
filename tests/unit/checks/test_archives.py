"""Archives whose directory lies, climbs out or explodes are refused before anything is unpacked."""

import io
import struct
import zipfile
from collections.abc import Callable

import numpy as np
import pytest

from fleetcast.transport.checks.archive import check_crc, open_archive
from fleetcast.transport.checks.child import Task
from fleetcast.transport.checks.npz_file import test as check_npz
from fleetcast.transport.checks.report import RefusedFile

Make = Callable[..., Task]


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as file:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.filename = name  # ZipInfo would clean it
            info.compress_type = method
            file.writestr(info, data)
    return made.getvalue()


def opened(data: bytes) -> zipfile.ZipFile:
    return open_archive(io.BytesIO(data), len(data), 200.0)


def npy(array: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.save(made, array)
    return made.getvalue()


def patched(data: bytes, old: bytes, new: bytes, count: int = -1) -> bytes:
    assert old in data
    return data.replace(old, new, count)


def test_plain_archive_passes() -> None:
    assert opened(archive({"a": b"x", "b/c": b"y"})).namelist() == ["a", "b/c"]


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "a\\..\\evil", "a\nb"])
def test_member_that_climbs_out_is_refused(name: str) -> None:
    with pytest.raises(RefusedFile, match="climb out"):
        opened(archive({name: b"x"}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_that_is_there_twice_is_refused() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("a", b"good")
        file.writestr("a", b"evil")
    with pytest.raises(RefusedFile, match="twice"):
        opened(made.getvalue())


def test_symbolic_link_is_refused() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        info = zipfile.ZipInfo("a")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(RefusedFile, match="symbolic link"):
        opened(made.getvalue())


def test_encrypted_member_is_refused() -> None:
    data = bytearray(archive({"a": b"x"}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(RefusedFile, match="encrypted"):
        opened(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_rare_packing_is_refused(method: int) -> None:
    with pytest.raises(RefusedFile, match="packed by method"):
        opened(archive({"a": b"x" * 100}, method))


@pytest.mark.parametrize("cut", [1, 10, 22, 50])
def test_archive_that_is_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(RefusedFile):
        opened(archive({"a": b"x" * 100, "b": b"y" * 100})[:-cut])


def test_directory_of_gigabytes_is_refused_unread() -> None:
    data = bytearray(archive({"a": b"x"}))
    data[-10:-6] = struct.pack("<L", 2**31)
    with pytest.raises(RefusedFile, match="directory claims"):
        opened(bytes(data))


def test_64_bit_directory_of_exabytes_is_refused_unread() -> None:
    data = bytearray(archive({"a": b"x"}))
    end = data.rindex(b"PK\x05\x06")
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 2**60, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    data[end + 12 : end + 16] = b"\xff" * 4
    with pytest.raises(RefusedFile, match="directory claims"):
        opened(bytes(data[:end]) + record + locator + bytes(data[end:]))


def test_header_that_contradicts_the_directory_is_refused() -> None:
    data = archive({"good": b"x"})
    with pytest.raises(RefusedFile, match="contradicts"):
        opened(patched(data, b"good", b"evil", 1))


def test_members_that_share_their_bytes_are_refused() -> None:
    """The bomb that reuses one packed block for many members."""
    data = archive({"a": b"x" * 50, "b": b"x" * 50})
    second = data.index(b"PK\x03\x04", 10)
    central = data.rindex(b"PK\x01\x02")
    overlapping = bytearray(data)
    overlapping[central + 42 : central + 46] = struct.pack("<L", 0)
    overlapping[second + 30 : second + 31] = b"b"
    with pytest.raises(RefusedFile, match=r"contradicts|overlaps"):
        opened(bytes(overlapping))


def test_bomb_is_told_by_the_directory() -> None:
    data = archive({"a.npy": bytes(100 * 2**20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(RefusedFile, match="times its size"):
        opened(data)


def test_small_mask_of_zeros_is_no_bomb() -> None:
    opened(archive({"a.npy": bytes(10 * 2**20)}, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_flipped_byte_in_a_member_is_found_by_its_crc(method: int) -> None:
    data = bytearray(archive({"a": np.random.default_rng(1).bytes(5000)}, method))
    data[2000] ^= 1
    with pytest.raises(RefusedFile, match="is damaged"):
        check_crc(opened(bytes(data)))


# -- NPZ


def npz(**arrays: np.ndarray) -> bytes:
    return archive({f"{name}.npy": npy(array) for name, array in arrays.items()})


def test_shapes_and_samples_are_reported(task: Make) -> None:
    looked_at = task(
        npz(features=np.zeros((7, 3), np.float32), values=np.zeros(7), note=np.array("x"), table=np.zeros(2))
    )
    check_npz(looked_at)
    assert looked_at.facts["samples"] == 7
    assert looked_at.facts["unequal"] == ["table"]
    assert looked_at.facts["arrays"]["features"] == {"shape": [7, 3], "dtype": "float32"}  # type: ignore[index]


@pytest.mark.parametrize(
    "dtype", ["<f4", ">i8", "<U5", "S3", "?", "<c16", "<M8[ns]", [("a", "<f4"), ("b", "u1", (2,))]]
)
def test_every_kind_of_number_has_its_size(task: Make, dtype: object) -> None:
    check_npz(task(npz(a=np.zeros((3, 2), dtype), scalar=np.zeros((), dtype), none=np.zeros((0, 4), dtype))))  # type: ignore[call-overload]


def test_fortran_order_and_long_headers_are_read(task: Make) -> None:
    wide = np.zeros(2, [(f"field-{n}", "<f4") for n in range(300)])
    check_npz(task(npz(a=np.asfortranarray(np.zeros((3, 2))), wide=wide)))


def test_arrays_that_disagree_on_the_samples_are_refused(task: Make) -> None:
    with pytest.raises(RefusedFile, match="features has 7, values has 6"):
        check_npz(task(npz(features=np.zeros((7, 3)), values=np.zeros(6))))


def test_object_array_is_refused(task: Make) -> None:
    made = io.BytesIO()
    np.savez(made, a=np.array([{}], dtype=object))
    with pytest.raises(RefusedFile, match="Python objects"):
        check_npz(task(made.getvalue()))


def test_object_hidden_in_a_field_is_refused(task: Make) -> None:
    with pytest.raises(RefusedFile, match="Python objects"):
        check_npz(task(npz(a=np.zeros(2, [("n", "<f4"), ("o", "O")]))))


@pytest.mark.parametrize(
    "shape", ["(1000000, 1000000)", "(99999999999999999999,)", "(-7, 3)", "(7.0, 3)", "(True, 3)", "'73'", "(6, 3)"]
)
def test_header_that_lies_about_its_shape_is_refused(task: Make, shape: str) -> None:
    header = npy(np.zeros((7, 3)))
    lying = header.replace(b"(7, 3)", shape.encode(), 1)
    # The header keeps its length: it is padded with blanks.
    lying = lying.partition(b"\n")[0].rstrip().ljust(127) + b"\n" + header[128:]
    with pytest.raises(RefusedFile, match=r"claims shape|cannot be read"):
        check_npz(task(archive({"a.npy": lying})))


def test_header_with_a_program_in_it_is_refused(task: Make) -> None:
    text = b"{'descr': __import__('os').system('x'), 'fortran_order': False, 'shape': (1,)}"
    lying = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n" + bytes(8)
    with pytest.raises(RefusedFile, match="cannot be read"):
        check_npz(task(archive({"a.npy": lying})))


def test_header_of_gigabytes_is_refused(task: Make) -> None:
    lying = b"\x93NUMPY\x02\x00" + struct.pack("<L", 2**31) + b" " * (60 * 2**20)
    with pytest.raises(RefusedFile, match="cannot be read"):
        check_npz(task(archive({"a.npy": lying}, zipfile.ZIP_DEFLATED)))


def test_archive_without_arrays_is_no_data_set(task: Make) -> None:
    with pytest.raises(RefusedFile, match="no array"):
        check_npz(task(archive({"readme.txt": b"x"})))


def test_crc_is_compared_when_the_whole_file_is_wanted(task: Make) -> None:
    data = bytearray(npz(a=np.random.default_rng(1).random(50_000)))
    data[200_000] ^= 1
    check_npz(task(bytes(data)))
    with pytest.raises(RefusedFile, match="is damaged"):
        check_npz(task(bytes(data), whole=True))
