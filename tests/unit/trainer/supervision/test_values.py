"""What is written about a run is read back as it was, and what is no such thing is refused."""

from pathlib import Path

import pytest

from fleetcast.daemons.trainer.supervision.folder import read_order, read_spec, read_state, write_order, write_spec
from fleetcast.daemons.trainer.supervision.spec import Exit, Process, RunSpec, SpecInvalid, State, parse

SPEC = RunSpec("run-1", 3, ("python", "train.py"), "/code", {"PATH": "/bin"}, "/data/runs/run-1", 60.0, 3600.0, 1 << 20)
EXIT = Exit(None, 6, 12.5, ("HSA_STATUS_ERROR", "\ufffd"), "ended", "", 7)
PROCESS = Process(41, 1234, "boot")


def test_a_spec_is_read_back_with_the_token_of_its_start(tmp_path: Path) -> None:
    spec = RunSpec.load(SPEC.dump() | {"folder": str(tmp_path)})
    write_spec(spec, "token")
    assert read_spec(tmp_path) == (spec, "token")
    assert (tmp_path / "spec.json").stat().st_mode & 0o077 == 0


def test_a_state_is_read_back_with_the_end_in_it() -> None:
    for state in (
        State("run-1", 3, "token", PROCESS, 1.5),
        State("run-1", 3, "token", PROCESS, 1.5, PROCESS, 99, unit="a.service", cage="/sys/x", exit=EXIT),
    ):
        assert State.load(state.dump()) == state


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"null", b'{"run": 1}', b"\xff\xfe", b'{"a":' * 5000])
def test_what_is_no_state_is_none(tmp_path: Path, text: bytes) -> None:
    for name in ("spec.json", "state.json", "order.json"):
        (tmp_path / name).write_bytes(text)
    assert read_spec(tmp_path) is None
    assert read_state(tmp_path) is None
    assert read_order(tmp_path, "token") is None


def test_a_pipe_in_place_of_a_file_holds_nobody_up(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "state.json")
    assert read_state(tmp_path) is None


def test_an_order_counts_for_its_own_start_only(tmp_path: Path) -> None:
    write_order(tmp_path, "token", 2.5, "the lease was lost")
    assert read_order(tmp_path, "token") == (2.5, "the lease was lost")
    assert read_order(tmp_path, "another") is None
    write_order(tmp_path, "token", None, "")
    assert read_order(tmp_path, "token") == (None, "")
    write_order(tmp_path, "token", -5, "")
    assert read_order(tmp_path, "token") == (0.0, "")


@pytest.mark.parametrize(
    "change",
    [
        {"command": ()},
        {"command": ("",)},
        {"command": ("a\0b",)},
        {"env": {"A=B": "c"}},
        {"env": {"A": "b\0"}},
        {"folder": "relative"},
        {"cwd": "a\0"},
    ],
)
def test_what_no_system_could_start_is_refused_before_it_is_tried(change: dict[str, object]) -> None:
    with pytest.raises(SpecInvalid):
        RunSpec.load(SPEC.dump() | change)


def test_a_document_of_another_shape_is_named() -> None:
    with pytest.raises(SpecInvalid, match="not a run to start"):
        RunSpec.load({"run": "run-1"})
    with pytest.raises(SpecInvalid, match="not JSON"):
        parse(b"{")


def test_an_end_is_told_in_words() -> None:
    assert Exit(0, None, 1.0).text == "exit 0"
    assert Exit(0, None, 1.0).ok
    assert not Exit(0, None, 1.0, reason="stopped").ok
    assert EXIT.text == "killed by SIGABRT"
    assert Exit(None, 64, 1.0).text == "killed by SIGRTMAX"
    assert Exit(None, 99, 1.0).text == "killed by signal 99"
    assert Exit(None, None, 0.0, reason="could_not_start", detail="x: no such file").text == (
        "could not start: x: no such file"
    )
    assert Exit(None, None, 0.0, reason="lost", detail="its supervisor was killed").text == (
        "no end that anybody saw: its supervisor was killed"
    )
