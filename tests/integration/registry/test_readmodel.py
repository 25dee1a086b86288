"""The read model on a real server: true to the streams, whatever happens to its file."""

import asyncio
import signal
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.integration.registry.projecting import (
    PATIENCE_SECONDS,
    answers,
    fill,
    last_sequence,
    projected,
    promote,
    until,
)

from fleetcast.bus import Bus, connect, declare
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import fast_settings
from fleetcast.daemons.registry import projector as projecting
from fleetcast.daemons.registry import queries
from fleetcast.registry import Registry
from fleetcast.registry.errors import NoKeeper
from fleetcast.registry.querying import pages, query
from fleetcast.registry.readmodel import BadQuery, NothingFound, NotYet

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("no_task_left")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "registry" / "read-model.sqlite"


@pytest.fixture
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projecting, "LOOK_SECONDS", 0.1)


async def test_whoever_asks_with_the_sequence_of_what_they_wrote_sees_it(bus: Bus, path: Path) -> None:
    registry = Registry(bus)
    async with projected(bus, path):
        for number in range(1, 21):
            await promote(registry, "m", number)
            found = await query(bus, "models", {}, min_seq=await last_sequence(bus))
            [model] = found.result["models"]
            assert (model["production"], model["generation"]) == (str(number), number)
            assert found.as_of_seq >= await last_sequence(bus)


async def test_a_sequence_that_does_not_come_is_not_waited_for_for_ever(
    bus: Bus, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MIN_SEQ_SECONDS", 0.3)
    await fill(bus)
    async with projected(bus, path):
        await answers(bus)
        with pytest.raises(NotYet, match=r"sequence 1000000 was not reached .* as of \d+, 0 behind"):
            await query(bus, "models", {}, min_seq=10**6)


@pytest.mark.parametrize(
    ("name", "asked", "error", "says"),
    [
        ("models", {"color": "red"}, BadQuery, "it takes model, stage"),
        ("drop", {}, BadQuery, "there is no query 'drop'; there is compare"),
        ("info", {"model": "m", "version": "99"}, NothingFound, "there is no version m@99"),
        ("x" * 300, {}, BadQuery, "ask like"),
    ],
)
async def test_a_question_without_an_answer_is_told_why(
    bus: Bus, path: Path, name: str, asked: dict[str, object], error: type[Exception], says: str
) -> None:
    await fill(bus)
    async with projected(bus, path):
        await answers(bus)
        with pytest.raises(error, match=says):
            await query(bus, name, asked)


async def test_an_answer_that_no_message_can_hold_is_refused_with_the_way_out(bus: Bus, path: Path) -> None:
    await fill(bus, versions=12)
    async with projected(bus, path):
        await answers(bus)
        small = fast_settings(bus.settings.url)
        async with connect(small, node="n2", daemon="test") as other:
            bus.wire.max_payload = 8192
            with pytest.raises(BadQuery, match="ask with a lower limit"):
                await query(other, "history", {"model": "m"})
            found = [page async for page in pages(other, "history", {"model": "m", "limit": 2})]
        assert [record["n"] for page in found for record in page.result["records"]] == list(range(24, 0, -1))


async def test_where_nobody_keeps_a_read_model_that_is_said_at_once(bus: Bus) -> None:
    with pytest.raises(NoKeeper, match="no registry daemon answered"):
        await query(bus, "models", {})


async def test_a_projector_that_was_stopped_goes_on_where_it_was(bus: Bus, path: Path) -> None:
    await fill(bus)
    async with projected(bus, path):
        await answers(bus)
    await promote(Registry(bus), "m", 9)

    with capture_logs() as logs:
        async with projected(bus, path):
            again = await answers(bus)
    async with projected(bus, path.with_name("fresh.sqlite")):
        assert again == await answers(bus)
    assert again["models"]["models"][0]["production"] == "9"
    assert not [entry for entry in logs if entry["event"] == "readmodel.set_aside"]


def deleted(path: Path) -> None:
    path.unlink()


def flipped(path: Path) -> None:
    """One bit in the middle: an owner, a version or a time becomes another one."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def of_another_layout(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE versions")
        db.execute("PRAGMA user_version = 999")
    db.close()


@pytest.mark.parametrize("damage", [deleted, flipped, truncated, emptied, of_another_layout])
async def test_a_file_that_is_lost_or_damaged_is_made_again_with_the_same_answers(
    bus: Bus, path: Path, damage: Callable[[Path], None]
) -> None:
    await fill(bus)
    async with projected(bus, path):
        before = await answers(bus)

    damage(path)

    with capture_logs() as logs:
        async with projected(bus, path):
            assert await answers(bus) == before
    told = [entry["reason"] for entry in logs if entry["event"] == "readmodel.set_aside"]
    assert len(told) == (damage is not deleted)


@pytest.mark.usefixtures("look_often")
async def test_a_file_that_is_taken_away_from_a_running_daemon_is_made_again(bus: Bus, path: Path) -> None:
    await fill(bus)
    async with projected(bus, path):
        before = await answers(bus)
        path.unlink()

        await until(lambda: there(path))
        assert await answers(bus) == before


async def there(path: Path) -> bool:
    return path.exists()


async def test_a_file_that_breaks_under_a_running_daemon_is_made_again_and_nobody_is_told_a_lie(
    bus: Bus, path: Path
) -> None:
    await fill(bus, versions=40)
    async with projected(bus, path) as projector:
        before = await answers(bus)
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
        content = path.read_bytes()
        path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
        # What the connections hold in memory is still right; a write makes them look.
        await promote(Registry(bus), "other", 51)
        await promote(Registry(bus), "other", 52)

        after = await answers(bus)

        assert {name: after[name] for name in ("info", "compare", "history")} == {
            name: before[name] for name in ("info", "compare", "history")
        }
        assert projector.behind == 0
    async with projected(bus, path.with_name("fresh.sqlite")):
        assert after == await answers(bus)


@pytest.mark.usefixtures("look_often")
@pytest.mark.parametrize("versions", [1, 12])
async def test_a_stream_that_was_made_anew_is_read_anew_also_when_it_has_grown_past_the_old_one(
    bus: Bus, path: Path, versions: int
) -> None:
    """With 12 versions the new stream has more messages than the cursor counts: the sequence alone tells nothing."""
    await fill(bus, versions=3)
    async with projected(bus, path):
        await answers(bus)
        await bus.js.api("STREAM.DELETE.FC_REGISTRY")
        await declare(bus, 1)
        for number in range(1, versions + 1):
            await promote(Registry(bus), "another", number)

        async def forgotten() -> bool:
            found = await query(bus, "models", {})
            return [(m["model"], m["generation"]) for m in found.result["models"]] == [("another", versions)]

        await until(forgotten)


@pytest.mark.parametrize("versions", [1, 12])
async def test_a_stream_that_was_made_anew_while_the_daemon_was_down_is_noticed_at_its_start(
    bus: Bus, path: Path, versions: int
) -> None:
    await fill(bus, versions=3)
    async with projected(bus, path):
        await answers(bus)
    await bus.js.api("STREAM.DELETE.FC_REGISTRY")
    await declare(bus, 1)
    for number in range(1, versions + 1):
        await promote(Registry(bus), "another", number)

    with capture_logs() as logs:
        async with projected(bus, path):
            found = await query(bus, "models", {}, min_seq=await last_sequence(bus))

    assert [m["model"] for m in found.result["models"]] == ["another"]
    assert "FC_REGISTRY was made anew" in [entry.get("reason") for entry in logs]


async def set_aside_while_written(bus: Bus, path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often the file was given up while the stream was written and looked at all the time."""
    monkeypatch.setattr(projecting, "LOOK_SECONDS", 0.02)
    with capture_logs() as logs:
        async with projected(bus, path):
            for number in range(1, 31):
                await promote(Registry(bus), "m", number)
    return len([entry for entry in logs if entry["event"] == "readmodel.set_aside"])


async def test_a_stream_that_is_written_while_it_is_looked_at_is_not_taken_for_another_one(
    bus: Bus, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await set_aside_while_written(bus, path, monkeypatch) == 0


async def test_to_look_at_the_stream_before_the_cursor_would_be_caught_by_that_test(
    bus: Bus, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant: what is written between the two looks seems to have been lost."""

    async def recognised(self: projecting.Projector, stream: str) -> tuple[str, int]:
        created, last = await self._stream(stream)
        await asyncio.sleep(0.05)
        cursor = await self._write(partial(self._model.cursor, stream))
        if cursor.created and cursor.sequence > last:
            raise projecting.Remade(f"{stream} was made anew")
        return created, last

    monkeypatch.setattr(projecting.Projector, "_recognised", recognised)
    assert await set_aside_while_written(bus, path, monkeypatch) > 0


async def test_a_server_that_goes_away_and_comes_back_costs_nothing(server: LocalServer, bus: Bus, path: Path) -> None:
    await fill(bus)
    async with projected(bus, path):
        before = await answers(bus)
        await server.kill_async()
        await server.start_async()
        await bus.wire.wait_connected(PATIENCE_SECONDS)
        await promote(Registry(bus), "m", 50)

        after = await answers(bus)

    assert after["models"]["models"][0]["production"] == "50"
    assert after["history"]["records"][2:] == before["history"]["records"]


CHILD = """
import sys, time
from pathlib import Path
from fleetcast.bus.streams import REGISTRY
from fleetcast.registry.readmodel import ReadModel, model, projection
from tests.unit.registry.readmodel.records import Message
import asyncio
from fleetcast.bus import connect
from fleetcast.bus.testing import fast_settings

async def read(url):
    async with connect(fast_settings(url), node="n1", daemon="child") as bus:
        return [entry async for entry in bus.tail(REGISTRY, [])]

def half(db, records):
    records = list(records)
    if sys.argv[3] == "broken":
        model._move_cursor(db, REGISTRY, records[-1])
        db.execute("COMMIT")
        db.execute("BEGIN IMMEDIATE")
    projection.project_registry(db, records[: len(records) // 2])
    print("half", flush=True)
    time.sleep(600)

entries = asyncio.run(read(sys.argv[1]))
kept = ReadModel(Path(sys.argv[2]))
kept.open()
kept.identify(REGISTRY, sys.argv[4])
kept.apply(REGISTRY, entries[:10])
model._PROJECTIONS[REGISTRY] = half
kept.apply(REGISTRY, entries)
"""


async def killed_in_the_middle(bus: Bus, path: Path, manner: str) -> None:
    """A process that reads the whole stream into *path* and is killed when half of a batch is written."""
    created = (await bus.js.api("STREAM.INFO.FC_REGISTRY"))["created"]
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, bus.settings.url, path, manner, created), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while b"half" not in (line := await child.stdout.readline()):
                assert line, "the child ended by itself"
    finally:
        child.send_signal(signal.SIGKILL)
        await child.communicate()


async def test_killed_in_the_middle_of_a_batch_it_goes_on_as_if_nothing_had_been(bus: Bus, path: Path) -> None:
    await fill(bus, versions=10)
    async with projected(bus, path.with_name("fresh.sqlite")):
        expected = await answers(bus)

    await killed_in_the_middle(bus, path, "as it is")

    with capture_logs() as logs:
        async with projected(bus, path):
            assert await answers(bus) == expected
    assert not [entry for entry in logs if entry["event"] == "readmodel.set_aside"]


async def test_a_cursor_that_went_ahead_of_its_rows_would_be_caught_by_that_test(bus: Bus, path: Path) -> None:
    """The broken variant: the cursor is committed first, so that what is missing is never read again."""
    await fill(bus, versions=10)
    await killed_in_the_middle(bus, path, "broken")

    async with projected(bus, path):
        found = await query(bus, "versions", {}, min_seq=await last_sequence(bus))

    assert len(found.result["versions"]) < 10
