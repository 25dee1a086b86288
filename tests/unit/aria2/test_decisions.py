"""The pure parts around a transfer: watches, the ledger, options, the order for one file."""

import xml.etree.ElementTree as ET
from random import Random

import pytest

from fleetcast.config.settings import Aria2Settings
from fleetcast.transport.aria2 import options
from fleetcast.transport.aria2.control import pieces_of
from fleetcast.transport.aria2.ledger import Ledger
from fleetcast.transport.aria2.metalink import metalink
from fleetcast.transport.aria2.watch import FloorWatch, StallWatch, Verdict
from fleetcast.transport.metainfo import PieceAt
from fleetcast.transport.testing import thing_of

KIB = 1024
GO_ON, RESTART, STALLED = Verdict.GO_ON, Verdict.RESTART, Verdict.STALLED


def test_silence_is_first_cured_and_then_a_stall() -> None:
    watch = StallWatch(4.0, 0.0)
    assert [watch.verdict(0, at) for at in (1.0, 2.5, 3.0, 4.5)] == [GO_ON, RESTART, GO_ON, STALLED]


def test_a_byte_ends_the_silence() -> None:
    watch = StallWatch(4.0, 0.0)
    assert [watch.verdict(n, float(3 * n)) for n in range(1, 9)] == [GO_ON] * 8


def test_proof_under_way_is_no_silence() -> None:
    watch = StallWatch(4.0, 0.0)
    watch.verdict(10, 1.0)
    watch.touch(9.0)
    assert watch.verdict(10, 10.0) is GO_ON


def test_a_trickle_is_cured_twice_and_then_a_stall() -> None:
    watch = FloorWatch(1000, 1.0, 0.0)
    assert [watch.verdict(n, float(n)) for n in (1, 2, 3)] == [RESTART, RESTART, STALLED]


def test_a_window_above_the_floor_forgives() -> None:
    watch = FloorWatch(1000, 1.0, 0.0)
    assert [watch.verdict(n, at) for n, at in ((1, 1.0), (5000, 2.0), (5001, 3.0), (5002, 4.0))] == [
        RESTART,
        GO_ON,
        RESTART,
        RESTART,
    ]


def test_a_cap_below_the_floor_is_no_stall() -> None:
    watch = FloorWatch(1000, 1.0, 0.0)
    assert watch.verdict(100, 1.0, limit=150) is GO_ON


@pytest.fixture
def ledger() -> Ledger:
    thing = thing_of({"a": bytes(40 * KIB), "b": bytes(16 * KIB)}, 16 * KIB)
    return Ledger(thing.content, thing.piece_length, {0: frozenset({1})})


def test_a_ledger_knows_what_is_missing_and_what_that_weighs(ledger: Ledger) -> None:
    assert ledger.missing == [{0, 2}, {0}]
    assert ledger.proven_bytes == 16 * KIB
    ledger.prove(PieceAt(0, 2))
    assert ledger.proven_bytes_of(0) == 24 * KIB
    assert ledger.span(PieceAt(0, 2)) == (32 * KIB, 40 * KIB)
    ledger.prove(PieceAt(0, 0))
    assert not ledger.complete
    ledger.prove(PieceAt(1, 0))
    assert ledger.complete
    assert ledger.proven_bytes == 56 * KIB
    ledger.lose(PieceAt(1, 0))
    assert ledger.is_missing(PieceAt(1, 0))


def test_aria2_is_told_only_of_proven_pieces(ledger: Ledger) -> None:
    control = ledger.control(0)
    assert (control.piece_length, control.size) == (16 * KIB, 40 * KIB)
    assert list(pieces_of(control.bitfield, ledger.count(0))) == [1]


def test_mirrors_are_probed_with_different_pieces_while_there_are_some(ledger: Ledger) -> None:
    taken: set[PieceAt] = set()
    for _ in range(3):
        at = ledger.some_missing(Random(1), taken)
        assert at is not None
        assert at not in taken
        taken.add(at)
    assert ledger.some_missing(Random(1), taken) in taken
    assert ledger.some_proven(Random(1)) == PieceAt(0, 1)


def test_the_order_for_a_file_names_size_pieces_and_mirrors() -> None:
    document = metalink("0", 40 * KIB, 16 * KIB, ["http://h/x?a=1&b=<2>", "http://i/y"])
    (file,) = ET.fromstring(document)
    space = "{urn:ietf:params:xml:ns:metalink}"
    pieces = file.find(f"{space}pieces")
    assert file.get("name") == "0"
    assert file.findtext(f"{space}size") == str(40 * KIB)
    assert pieces is not None
    assert (pieces.get("length"), len(pieces)) == (str(16 * KIB), 3)
    assert [url.text for url in file.findall(f"{space}url")] == ["http://h/x?a=1&b=<2>", "http://i/y"]


def test_the_configuration_holds_the_secret_and_keeps_to_loopback() -> None:
    text = options.configuration(port=6800, secret="s" * 64, parent=42, download_limit=7)
    lines = dict(line.split("=", 1) for line in text.splitlines())
    assert lines["rpc-secret"] == "s" * 64
    assert lines["rpc-listen-all"] == "false"
    assert lines["stop-with-process"] == "42"
    assert lines["max-overall-download-limit"] == "7"
    assert lines["no-netrc"] == "true"


def test_the_options_of_a_file_keep_within_what_aria2_takes() -> None:
    made = options.download(Aria2Settings(stall_seconds=0.5), folder="/x", per_host=99)
    assert made["max-connection-per-server"] == "16"
    assert made["timeout"] == made["connect-timeout"] == "1"


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("aria2 version 1.36.0\nCopyright", (1, 36, 0)),
        ("aria2 version 1.37", (1, 37)),
        ("aria2 version x", None),
        ("sh: not found", None),
        ("", None),
    ],
)
def test_the_version_is_read_from_what_aria2c_says(said: str, version: tuple[int, ...] | None) -> None:
    assert options.version_of(said) == version


def test_what_is_wrong_with_aria2c_is_said_in_one_line_with_the_package() -> None:
    for path, version in ((None, None), ("/bin/aria2c", None), ("/bin/aria2c", (1, 19, 0))):
        assert "apt-get install aria2" in options.objection(path, version)
        assert "\n" not in options.objection(path, version)
    assert options.objection("/bin/aria2c", (1, 36, 0)) == ""
