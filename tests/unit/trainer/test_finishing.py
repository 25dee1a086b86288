"""What is made of a job's word that it is done."""

import os
from pathlib import Path

import pytest
from tests.unit.trainer.claims.values import run

from fleetcast.daemons.trainer.finishing import Done, Effect, done
from fleetcast.events.training import Commit

PROMOTED = Effect(event="e1", line="hex8", version="43")
WORD = Done(claim=3, effects=(PROMOTED,))


def test_a_word_is_read_under_its_claim_and_what_is_no_word_is_none(tmp_path: Path) -> None:
    file = tmp_path / "done"
    assert done(file, 3) is None
    file.write_text(WORD.model_dump_json())
    assert (done(file, 3), done(file, 4)) == (WORD, None)
    file.write_text('{"claim": 3}\n')
    assert done(file, 3) == Done(claim=3)


@pytest.mark.parametrize(
    "junk", [b"", b"yes", b"[3]", b'{"claim": "no"}', b'{"claim": 3, "effects": [{}]}', b"\xff" * 9]
)
def test_junk_is_no_word(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "done").write_bytes(junk)
    assert done(tmp_path / "done", 3) is None


def test_neither_a_fifo_nor_a_file_without_end_holds_the_trainer_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "done")
    assert done(tmp_path / "done", 3) is None
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert done(tmp_path / "zero", 3) is None


def test_it_is_accepted_once_every_event_is_noted_in_the_run_s_record() -> None:
    assert Done(claim=3).is_accepted(run())
    assert not WORD.is_accepted(run())
    assert WORD.is_accepted(run(commits=(Commit(claim=3, what="x", event="e1", at="2026-11-21T12:00:00Z"),)))


def test_it_is_held_only_where_every_version_is_known_to_be() -> None:
    assert Done(claim=3).is_held(lambda *_: False)
    assert WORD.is_held(lambda line, version: (line, version) == ("hex8", "43"))
    assert not WORD.is_held(lambda *_: False)
    assert not Done(claim=3, effects=(PROMOTED, Effect(event="e2", line="next"))).is_held(lambda *_: True)
