"""What a pickle would import is told without running it, and what cannot be told counts as unknown."""

import collections
import io
import os
import pickle
import pkgutil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.transport.checks.opcodes import UNKNOWN, scan, scan_all


class Attack:
    """Runs a call when it is loaded."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self._reduced = (call, arguments)

    def __reduce__(self) -> Any:
        return self._reduced


def names(data: bytes) -> list[str]:
    return scan(io.BytesIO(data)).names


@pytest.mark.parametrize("protocol", range(6))
def test_import_is_named_in_every_protocol(protocol: int) -> None:
    found = scan(io.BytesIO(pickle.dumps(Attack(os.system, "touch /tmp/x"), protocol)))
    assert found.names == ["posix system"]
    assert found.calls
    assert not found.damage


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_imports_nothing(protocol: int) -> None:
    found = scan(io.BytesIO(pickle.dumps({"a": [1, 2.0, "x", None, (True,)]}, protocol)))
    assert found.names == []
    assert not found.calls


def test_universal_bypass_of_scanners_is_named() -> None:
    assert names(pickle.dumps(Attack(pkgutil.resolve_name, "os:system"))) == ["pkgutil resolve_name"]


def test_known_class_is_named_through_the_memo() -> None:
    twice: list[Any] = [collections.OrderedDict(), collections.OrderedDict()]
    assert names(pickle.dumps(twice, 4)) == ["collections OrderedDict"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x8c\x02os\x8c\x06system\x8c\x01x0\x93", id="a text taken away again"),
        pytest.param(b"\x8c\x02os2\x8c\x06system\x93", id="a text doubled"),
        pytest.param(b"\x8c\x02os\x940\x8c\x06system\x93", id="below a text that is gone"),
        pytest.param(b"(\x8c\x02ost\x8c\x06system\x93", id="a tuple as module"),
        pytest.param(b"h\x07h\x08\x93", id="a memo that was never written"),
        pytest.param(b"\x93", id="nothing at all"),
        pytest.param(b"\x82\x01", id="an extension code"),
        pytest.param(b"C\x02osC\x06system\x93", id="bytes instead of texts"),
    ],
)
def test_import_that_cannot_be_told_is_unknown(body: bytes) -> None:
    assert names(b"\x80\x04" + body + b".") == [UNKNOWN]


def test_texts_in_the_memo_are_followed() -> None:
    body = b"\x8c\x02os\x94\x8c\x06system\x94]h\x00h\x01\x93"
    assert names(b"\x80\x04" + body + b".") == ["os system"]


def test_numbered_and_counted_memo_entries_share_one_memo() -> None:
    # PUT 0, then MEMOIZE: the second goes to place 1, as in the real machine.
    body = b"\x8c\x02osq\x00\x8c\x06system\x94]h\x00h\x01\x93"
    assert names(b"\x80\x04" + body + b".") == ["os system"]


def test_old_style_instances_are_named() -> None:
    assert names(b"(S'ls'\nios\nsystem\n.") == ["os system"]


def test_pickles_after_the_first_one_are_scanned_too() -> None:
    data = pickle.dumps(1) + pickle.dumps(Attack(os.system, "x")) + b"\0raw storage"
    found = scan_all(io.BytesIO(data))
    assert found.names == ["posix system"]
    assert not found.damage


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_pickle_that_is_cut_off_is_damaged(cut: int) -> None:
    assert scan(io.BytesIO(pickle.dumps({"a": "b" * 50})[:-cut])).damage


def test_length_that_lies_is_damage_not_memory() -> None:
    assert scan(io.BytesIO(b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"x.")).damage


@given(st.binary(max_size=200))
def test_any_bytes_are_scanned_without_running_or_raising(data: bytes) -> None:
    scan_all(io.BytesIO(b"\x80\x04" + data))
