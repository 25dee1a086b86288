"""A version that somebody reads by path stays, whatever retention says, and never for longer than somebody says so."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fleetcast.events.content import Kind
from fleetcast.transport.store import Line
from fleetcast.transport.store.readers import NOTE_SECONDS, Readers, settled

Workplace = Any
LINE = Line(Kind.DATASET, "hex8")


def fill(workplace: Workplace, count: int = 4) -> None:
    """Bring data sets 1 to *count*; only the newest two would stay."""
    workplace.again(keep_versions=2)
    for number in range(1, count + 1):
        workplace.receive("hex8", str(number), {"hex8.npz": bytes([number]) * 1000}, Kind.DATASET)


def note(workplace: Workplace, *versions: str, name: str = "hex8-1.1", reader: str = "run hex8-1") -> Path:
    """Say that somebody reads versions."""
    reads = [{"kind": "dataset", "name": "hex8", "version": version} for version in versions]
    path: Path = workplace.data / "readers" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"reader": reader, "versions": reads}))
    return path


def here(workplace: Workplace) -> list[str]:
    return [v.version for v in workplace.store.installed("hex8", Kind.DATASET)]


def test_what_a_run_reads_stays_when_everything_else_has_to_go(workplace: Workplace) -> None:
    fill(workplace)
    note(workplace, "1")
    collected = workplace.store.collect(until_free_bytes=2**60)
    assert here(workplace) == ["1", "3", "4"]
    assert collected.versions == ((LINE, "2"),)
    assert (workplace.data / "datasets/hex8/1/hex8.npz").read_bytes() == bytes([1]) * 1000


def test_gc_says_who_reads_it(workplace: Workplace) -> None:
    fill(workplace)
    note(workplace, "1")
    said = {judged.version.version: judged.reasons for judged in workplace.store.judge()}
    newest = ("one of the newest 2 that were never served",)
    assert said == {"1": ("read by run hex8-1",), "2": (), "3": newest, "4": newest}
    assert workplace.store.foresee().versions == ((LINE, "2"),)


def test_it_goes_once_nobody_reads_it_any_more(workplace: Workplace) -> None:
    fill(workplace)
    first, second = note(workplace, "1"), note(workplace, "1", name="hex8-2.1")
    first.unlink()
    workplace.store.collect()
    assert here(workplace) == ["1", "3", "4"]
    second.unlink()
    workplace.store.collect()
    assert here(workplace) == ["3", "4"]


def test_a_note_that_nobody_renewed_for_a_day_keeps_nothing(workplace: Workplace) -> None:
    fill(workplace)
    path = note(workplace, "1")
    os.utime(path, (time.time() - NOTE_SECONDS + 600,) * 2)
    workplace.store.collect()
    assert here(workplace) == ["1", "3", "4"]
    os.utime(path, (time.time() - NOTE_SECONDS - 600,) * 2)
    workplace.store.collect()
    assert here(workplace) == ["3", "4"]


def test_a_note_that_cannot_be_read_lets_nothing_go_and_names_itself(workplace: Workplace) -> None:
    fill(workplace)
    path = note(workplace, "1")
    path.write_text('{"reader": ')
    assert workplace.store.collect().versions == ()
    assert all(any(str(path) in why for why in judged.reasons) for judged in workplace.store.judge())
    assert here(workplace) == ["1", "2", "3", "4"]


def test_who_begins_to_read_waits_for_a_removal_under_way_and_sees_that_it_is_gone(workplace: Workplace) -> None:
    fill(workplace)
    begun, seen = threading.Event(), []

    def read() -> None:
        begun.set()
        with settled(workplace.data, 30.0):
            seen.append((workplace.data / "datasets/hex8/1").is_dir())

    readers = Readers(workplace.data)
    with readers.unless_read(LINE, "1") as free:
        assert free
        reader = threading.Thread(target=read)
        reader.start()
        begun.wait(30.0)
        assert seen == []
        workplace.store._versions.remove(LINE, "1")
    reader.join(30.0)
    assert seen == [False]


def test_nothing_is_removed_while_somebody_is_about_to_read(workplace: Workplace) -> None:
    fill(workplace)
    with settled(workplace.data, 1.0), Readers(workplace.data, 0.05).unless_read(LINE, "1") as free:
        assert not free


@pytest.mark.soak
def test_broken_variant_a_store_that_asks_nobody_removes_what_is_read(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Readers, "read_now", lambda _: {})
    fill(workplace)
    note(workplace, "1")
    workplace.store.collect()
    assert here(workplace) == ["3", "4"]
