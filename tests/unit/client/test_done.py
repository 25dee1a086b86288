"""The last word of a lane's job: that it is done, and what it said that counts once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetcast.client import emit, run
from fleetcast.client.emit import emitter
from fleetcast.daemons.trainer import finishing
from fleetcast.events.envelope import Event

Said = Callable[[], list[Event]]
ONCE = {"model.promoted", "export.completed"}


@pytest.fixture
def word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a job of a lane, under its third claim, says that it is done."""
    given = {"RUN_ID": "hex8-1", "CLAIM": "3", "LANE": "hex8", "DONE_FILE": str(tmp_path / "done")}
    for name, value in given.items():
        monkeypatch.setenv(f"FLEETCAST_{name}", value)
    return tmp_path / "done"


def test_the_word_names_the_claim_and_every_event_that_counts_once_whoever_in_the_process_said_it(
    word: Path, said: Said
) -> None:
    with run() as r:
        r.log_epoch(0, loss=1.0)
        r.export("/x.npz", samples_new=5, lane="next", dataset_id="d1")
        r.promote("/m.pt", version="43")
        emit("model.promoted", model="other", version="7", path="/o.pt")
        emit("model.promoted", model="foreign", version="1", path="/f.pt", run_id="somebody-else")
        assert not word.exists()
        r.done()
    found = finishing.done(word, 3)
    assert found is not None
    assert [(each.line, each.version) for each in found.effects] == [("next", "d1"), ("hex8", "43"), ("other", "7")]
    sent = [event.id for event in said() if event.type.name in ONCE and "foreign" not in event.key]
    assert [each.event for each in found.effects] == sent
    assert finishing.done(word, 2) is None, "it is the word of this claim alone"


def test_what_could_not_be_said_is_named_too_so_that_it_is_never_taken_for_accepted(
    word: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run() as r:
        monkeypatch.setattr(type(emitter()), "_append", _full)
        assert r.promote("/m.pt", version="43") is None
        monkeypatch.undo()
        r.done()
    assert len(json.loads(word.read_bytes())["effects"]) == 1


def _full(*_: object) -> None:
    raise OSError("the disk is full")


@pytest.mark.parametrize("missing", ["FLEETCAST_CLAIM", "FLEETCAST_DONE_FILE"])
def test_a_job_that_no_lane_started_says_it_to_nobody(
    word: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delenv(missing)
    with run() as r:
        r.done()
    assert not word.exists()


def test_a_word_that_cannot_be_written_harms_nothing_and_is_warned_of(
    word: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLEETCAST_DONE_FILE", str(word / "no" / "folder"))
    with run() as r:
        r.done()
    assert "cannot say that it is done" in caplog.text


def test_other_ranks_say_it_to_nobody(word: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with run() as r:
        r.done()
    assert not word.exists()
