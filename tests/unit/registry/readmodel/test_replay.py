"""The tables follow from the streams alone: in what portions they are read makes no difference."""

import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.registry.readmodel import records as r

from fleetcast.bus.streams import EVENTS, REGISTRY
from fleetcast.events.content import Kind
from fleetcast.events.lifecycle import Facts, Phase, StageName
from fleetcast.events.payloads import Checks, VersionInstalled, VersionRemoved
from fleetcast.events.runs import RunEpochLogged, RunFinished, RunOutcome, RunStarted
from fleetcast.registry.readmodel import model as file
from fleetcast.registry.readmodel.projection import project_registry

MODELS = ("hex8_2p", "hex8_4p")
VERSIONS = ("1", "2", "10")
HAPPENINGS = ("version", "entry", "slot", "rollout", "freeze", "noise", "run", "epoch", "node")

names = st.sampled_from(MODELS)
versions = st.sampled_from(VERSIONS)
tags = st.lists(st.sampled_from(["nlp", "vision", "weekly"]), max_size=3).map(tuple)
facts = st.builds(
    Facts,
    owner=st.sampled_from([None, "anna", "ben"]),
    tags=tags,
    evaluations=st.dictionaries(
        st.sampled_from(["random", "heuristic"]), st.builds(r.games, st.integers(0, 9), st.just(1))
    ),
    rating=st.none() | st.builds(r.rating, st.floats(1000, 2000)),
)
flags = st.dictionaries(st.sampled_from(["bias_check_passed", "parity"]), st.builds(r.flag, st.booleans()))
stages = st.lists(st.sampled_from(StageName), max_size=3)


def size_of(version: str) -> int:
    """Content is for ever: the same version has the same size, whenever it is written."""
    return int(version) + 1


@st.composite
def histories(draw: st.DrawFn) -> r.Writer:
    """What happened to a few models, in any order."""
    writer = r.Writer()
    for what in draw(st.lists(st.sampled_from(HAPPENINGS), max_size=25)):
        model, version = draw(names), draw(versions)
        if what == "version":
            writer.version(model, version, size_of(version), draw(st.sampled_from([Kind.MODEL, Kind.DATASET])))
        elif what == "entry":
            came = tuple(r.stage_change(stage, place) for place, stage in enumerate(draw(stages)))
            stage = came[-1].stage if came else StageName.DEVELOPMENT
            said = {"facts": draw(facts), "flags": draw(flags), "stage": stage, "stages": came}
            writer.entry(model, version, size_of(version), **said)
        elif what == "slot":
            writer.order(model, version, canary=draw(st.none() | versions), size=size_of(version))
        elif what == "rollout":
            writer.rollout(model, version, draw(st.sampled_from(Phase)))
        elif what == "freeze":
            writer.freeze(model, frozen=draw(st.booleans()))
        elif what == "noise":
            writer.registry.put(f"fc.reg.state.entry.{model}.damaged", b"not JSON")
        else:
            say(writer, what, model, version, draw)
    return writer


def say(writer: r.Writer, what: str, model: str, version: str, draw: st.DrawFn) -> None:
    run_id = f"run-{model}"
    moment = float(len(writer.events.messages))
    if what == "run":
        outcome = draw(st.none() | st.sampled_from(RunOutcome))
        ended = None if outcome is None else RunFinished(run_id=run_id, node="n1", outcome=outcome)
        writer.say(ended or RunStarted(run_id=run_id, node="n1", lane=model), moment=moment)
    elif what == "epoch":
        metrics = draw(st.dictionaries(st.sampled_from(["loss", "accuracy"]), st.floats(0, 1)))
        writer.say(
            RunEpochLogged(run_id=run_id, node="n1", epoch=draw(st.integers(0, 2)), metrics=metrics), moment=moment
        )
    else:
        artifact = r.content(size_of(version)).artifact
        checks = Checks(size="ok", sha256="ok", format="ok")
        installed = VersionInstalled(model=model, version=version, artifact=artifact, node="n1", checks=checks)
        removed = VersionRemoved(model=model, version=version, artifact=artifact, node="n1")
        writer.say(draw(st.sampled_from([installed, removed])), moment=moment)


@st.composite
def portions(draw: st.DrawFn, count: int) -> list[tuple[int, int]]:
    """Slices that begin anywhere in what was read already, and together reach the end."""
    made, reached = [], 0
    while reached < count:
        begin = draw(st.integers(0, reached))
        end = draw(st.integers(reached, count))
        made.append((begin, end))
        reached = max(reached, end) if end > reached else reached + draw(st.integers(0, 1))
        if made[-1][1] < reached:
            made.append((0, reached))
    return made


def replayed(
    path: Path, feeds: Mapping[str, tuple[Sequence[r.Message], Sequence[tuple[int, int]]]]
) -> dict[str, list[tuple[object, ...]]]:
    """All tables, once the messages of each stream came in these portions."""
    with r.opened(path) as model:
        for stream, (messages, parts) in feeds.items():
            for begin, end in parts:
                model.apply(stream, messages[begin:end])
        return r.tables(model)


@settings(max_examples=25)
@given(st.data())
def test_the_tables_are_the_same_in_whatever_portions_and_however_often_records_come(data: st.DataObject) -> None:
    writer = data.draw(histories())
    streams = {REGISTRY: writer.registry.messages, EVENTS: writer.events.messages}
    whole = {stream: (messages, [(0, len(messages))]) for stream, messages in streams.items()}
    pieces = {stream: (messages, data.draw(portions(len(messages)))) for stream, messages in streams.items()}
    with tempfile.TemporaryDirectory() as folder:
        once = replayed(Path(folder) / "once.sqlite", whole)
        often = replayed(Path(folder) / "often.sqlite", pieces)

    assert once == often


@settings(max_examples=25)
@given(histories())
def test_a_file_made_again_from_what_the_stream_still_has_is_the_one_that_followed_it(writer: r.Writer) -> None:
    messages, left = writer.registry.messages, writer.registry.compacted()
    one_by_one = [(n, n + 1) for n in range(len(messages))]
    with tempfile.TemporaryDirectory() as folder:
        followed = replayed(Path(folder) / "followed.sqlite", {REGISTRY: (messages, one_by_one)})
        rebuilt = replayed(Path(folder) / "rebuilt.sqlite", {REGISTRY: (left, [(0, len(left))])})

    assert followed == rebuilt


def test_without_a_cursor_a_repeated_batch_would_bring_an_older_state_back(tmp_path: Path) -> None:
    """The broken variant of the two above: the projection alone believes what it is told last."""
    writer = r.Writer()
    writer.entry("m", "1", facts=Facts(owner="anna"))
    writer.entry("m", "1", facts=Facts(owner="ben"))
    first = writer.registry.messages[:1]

    with r.made_of(tmp_path / "good.sqlite", writer) as model:
        model.apply(REGISTRY, first)
        assert owners(r.tables(model)) == ["ben"]
    with r.made_of(tmp_path / "broken.sqlite", writer) as model:
        project_registry(model._open_writer, first)
        assert owners(r.tables(model)) == ["anna"]


def owners(found: dict[str, list[tuple[object, ...]]]) -> list[object]:
    return [row[5] for row in found["versions"]]


def test_a_record_that_cannot_be_read_hides_nothing_else(tmp_path: Path) -> None:
    writer = r.Writer()
    writer.register("m", "1")
    writer.registry.put("fc.reg.state.entry.m.x", b'{"model": "m", "version": "2"}')
    writer.registry.put("fc.reg.log.m.00000009", b"\xff\xfe")
    writer.registry.put("fc.reg.state.slot.m", b'{"generation": "many"}')
    writer.register("m", "3")

    with r.made_of(tmp_path / "r.sqlite", writer) as model:
        assert [row[2] for row in r.tables(model)["versions"]] == ["1", "3"]
        assert model.cursor(REGISTRY).sequence == len(writer.registry.messages)


def test_a_number_that_no_table_can_hold_costs_its_own_record_only(tmp_path: Path) -> None:
    writer = r.Writer()
    writer.register("m", "1")
    writer.entry("m", "2", bytes=2**70)
    writer.register("m", "3")

    with r.made_of(tmp_path / "r.sqlite", writer) as model:
        assert [row[2] for row in r.tables(model)["versions"]] == ["1", "3"]
        assert model.cursor(REGISTRY).sequence == len(writer.registry.messages)


def test_a_batch_that_fails_in_its_middle_leaves_nothing_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = r.Writer()
    writer.register("m", "1")
    with r.made_of(tmp_path / "r.sqlite", writer) as model:
        before = r.tables(model)
        writer.register("m", "2")

        def fails(db: sqlite3.Connection, batch: Sequence[r.Message]) -> None:
            project_registry(db, batch)
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setitem(file._PROJECTIONS, REGISTRY, fails)
        with pytest.raises(Exception, match="disk I/O error"):
            model.apply(REGISTRY, writer.registry.messages)
        assert r.tables(model) == before
        monkeypatch.undo()
        model.apply(REGISTRY, writer.registry.messages)
        assert [row[2] for row in r.tables(model)["versions"]] == ["1", "2"]
