"""The file: what cannot be trusted is moved aside, never read."""

import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from tests.unit.registry.readmodel import records as r

from fleetcast.bus.streams import REGISTRY
from fleetcast.registry.readmodel import ReadModel, ReadModelDamaged, answer
from fleetcast.registry.readmodel.schema import SCHEMA_VERSION


def filled(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """A file that was closed in order, with enough in it that its tables have several pages."""
    writer = r.Writer()
    for number in range(60):
        writer.register(f"model_{number % 7}", str(number), owner="anna", tags=("nlp",), description="x" * 300)
    with r.made_of(path, writer) as model:
        return r.tables(model)


def reopened(path: Path) -> tuple[str | None, int]:
    """Why the file was put aside (None: it was not), and how far what is there now was read."""
    model = ReadModel(path)
    reason = model.open()
    try:
        return reason, model.cursor(REGISTRY).sequence
    finally:
        model.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "readmodel.sqlite"


def test_a_file_that_was_closed_goes_on_where_it_was(path: Path) -> None:
    filled(path)

    assert reopened(path) == (None, 60 * 5)


def test_a_missing_file_is_begun_anew(path: Path) -> None:
    filled(path)
    path.unlink()

    assert reopened(path) == (None, 0)


def test_what_a_file_that_is_gone_left_behind_is_not_taken_for_its_own(path: Path) -> None:
    filled(path)
    path.unlink()
    path.with_name(path.name + "-wal").write_bytes(b"left over")

    reason, sequence = reopened(path)

    assert (reason, sequence) == ("its file is missing", 0)


@pytest.mark.parametrize("version", [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1])
def test_a_file_of_another_layout_is_put_aside_and_kept(path: Path, version: int) -> None:
    filled(path)
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    path.with_name(path.name + ".sha256").unlink()

    reason, sequence = reopened(path)

    assert reason == f"it has layout {version}, this fleetcast makes {SCHEMA_VERSION}"
    assert sequence == 0
    assert path.with_name(path.name + ".aside").exists()


def test_a_database_of_somebody_else_is_put_aside(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.close()

    assert reopened(path)[0] == f"it has layout {SCHEMA_VERSION}, this fleetcast makes {SCHEMA_VERSION}"


@pytest.mark.parametrize("seed", range(12))
def test_a_bit_that_flips_in_a_closed_file_is_noticed_wherever_it_is(path: Path, seed: int) -> None:
    filled(path)
    content = bytearray(path.read_bytes())
    place = random.Random(seed).randrange(len(content))
    content[place] ^= 1 << random.Random(seed).randrange(8)
    path.write_bytes(content)

    reason, sequence = reopened(path)

    assert reason is not None
    assert sequence == 0


def test_without_the_seal_a_flipped_letter_would_be_read_as_if_it_were_true(path: Path) -> None:
    """The broken variant: SQLite's own check finds nothing wrong with another owner."""
    filled(path)
    path.write_bytes(path.read_bytes().replace(b'"owner":"anna"', b'"owner":"anne"'))
    path.with_name(path.name + ".sha256").unlink()

    model = ReadModel(path)
    reason = model.open()
    with model.reader() as db:
        shown = answer(db, "versions", {"limit": 1})["versions"]
    model.close()

    assert reason is None
    assert shown[0]["owner"] == "anne"


@pytest.mark.parametrize("left", [0, 1, 100, 4096, 50_000])
def test_a_file_that_was_cut_off_is_put_aside_even_when_it_was_never_closed(path: Path, left: int) -> None:
    filled(path)
    path.write_bytes(path.read_bytes()[:left])
    path.with_name(path.name + ".sha256").unlink()

    reason, sequence = reopened(path)

    assert reason is not None
    assert sequence == 0


@pytest.mark.parametrize("page", [1, 2, 5])
def test_a_page_of_rubbish_in_a_file_that_was_never_closed_is_noticed(path: Path, page: int) -> None:
    filled(path)
    content = bytearray(path.read_bytes())
    content[page * 8192 : (page + 1) * 8192] = random.Random(page).randbytes(8192)
    path.write_bytes(content)
    path.with_name(path.name + ".sha256").unlink()

    assert reopened(path)[0] is not None


def test_a_file_that_was_not_closed_goes_on_after_its_last_transaction(path: Path, tmp_path: Path) -> None:
    writer = r.Writer()
    writer.register("m", "1")
    model = ReadModel(path)
    model.open()
    model.apply(REGISTRY, writer.registry.messages)
    taken = tmp_path / "taken"
    # What a power cut leaves: the file and its write-ahead log, as they are while both are open.
    shutil.copytree(path.parent, taken)
    model.close()

    assert reopened(taken / path.name) == (None, len(writer.registry.messages))


def test_one_file_that_was_put_aside_is_kept_not_many(path: Path) -> None:
    for _ in range(3):
        filled(path)
        path.write_bytes(b"rubbish")
        reopened(path)

    aside = [file.name for file in path.parent.iterdir() if "aside" in file.name]
    assert aside == [f"{path.name}.aside"]


def test_a_question_to_a_file_that_breaks_while_it_is_open_says_so(path: Path) -> None:
    writer = r.Writer()
    for number in range(200):
        writer.register("m", str(number), description="x" * 500)
    with r.made_of(path, writer) as model:
        model._open_writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        content = path.read_bytes()
        path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
        with pytest.raises(ReadModelDamaged), model.reader() as db:
            answer(db, "versions", {})
        model.reset("it is damaged")
        assert model.cursor(REGISTRY).sequence == 0
        model.apply(REGISTRY, writer.registry.messages)
        with model.reader() as db:
            assert len(answer(db, "versions", {"limit": 500})["versions"]) == 200


def test_a_statement_that_is_wrong_is_not_blamed_on_the_file(path: Path) -> None:
    with (
        r.made_of(path, r.Writer()) as model,
        pytest.raises(sqlite3.OperationalError, match="no such column"),
        model.reader() as db,
    ):
        db.execute("SELECT nonsense FROM versions")


def test_a_file_that_was_taken_away_while_it_is_open_is_missed(path: Path) -> None:
    with r.made_of(path, r.Writer()) as model:
        assert model.present()
        path.rename(path.with_name("elsewhere"))
        assert not model.present()


def test_a_question_sees_one_state_while_records_are_written(path: Path) -> None:
    writer = r.Writer()
    writer.register("m", "1")
    with r.made_of(path, writer) as model, model.reader() as db:
        before = answer(db, "stats", {})
        writer.register("m", "2")
        model.apply(REGISTRY, writer.registry.messages)
        assert answer(db, "stats", {}) == before
        with model.reader() as other:
            assert answer(other, "stats", {})["versions"] == 2
