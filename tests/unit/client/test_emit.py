"""`emit`: one event into the spool, and nothing that can harm a training job."""

import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fleetcast.client import emit, lost
from fleetcast.client.emit import Emitter
from fleetcast.client.notices import Notices
from fleetcast.client.spool import SpoolReader
from fleetcast.events.envelope import Event, EventInvalid, parse
from fleetcast.events.payloads import ModelPromoted


def spooled(folder: Path) -> list[bytes]:
    with SpoolReader(folder / "spool") as reader:
        return [record.data for record in reader.pending()]


def only(folder: Path) -> Event:
    (record,) = spooled(folder)
    return parse(record)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "fleetcast.client"]


def test_what_is_emitted_is_the_event_that_a_distributor_publishes(tmp_path: Path) -> None:
    event_id = emit("model.promoted", model="hex8_2p", version=43, path="/models/m.pt", metrics={"elo": 1712})
    event = only(tmp_path)
    assert event.id == event_id == event.correlationid
    assert event.subject == "fc.ev.model.promoted.hex8_2p"
    assert event.payload == ModelPromoted(
        model="hex8_2p", version="43", path="/models/m.pt", node="gpu-1", metrics={"elo": 1712}
    )
    assert abs((datetime.now(UTC) - event.time).total_seconds()) < 60
    assert event.source.startswith("/fleet/gpu-1/")


@pytest.mark.parametrize("spelling", ["model.registered", "MODEL_REGISTERED", "model.registered.v1"])
def test_every_spelling_is_accepted(tmp_path: Path, spelling: str) -> None:
    emit(spelling, model="hex8_2p", version="43", path="/models/m.pt")
    assert only(tmp_path).type.name == "model.registered"


def test_relative_path_is_made_absolute_where_it_is_known_what_it_is_relative_to(tmp_path: Path) -> None:
    emit("model.promoted", model="hex8_2p", version="43", path=Path("out/m.pt"))
    payload = only(tmp_path).payload
    assert isinstance(payload, ModelPromoted)
    assert payload.path == f"{Path.cwd()}/out/m.pt"


def test_node_that_is_given_stays(tmp_path: Path) -> None:
    emit("model.promoted", model="hex8_2p", version="43", path="/m.pt", node="gpu-7")
    payload = only(tmp_path).payload
    assert isinstance(payload, ModelPromoted)
    assert payload.node == "gpu-7"


class Scalar:
    """What numpy and torch give for one number."""

    ndim = 0

    def __init__(self, value: float) -> None:
        self.value = value

    def item(self) -> float:
        return self.value


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (Scalar(1.5), 1.5),
        (Scalar(float("nan")), "nan"),
        ({"b", "a"}, ["a", "b"]),
        (Path("/x"), "/x"),
        ({1: {2: float("nan")}}, {"1": {"2": "nan"}}),
        ([float("inf"), 1, None, True], ["inf", 1, None, True]),
        ("\ud800", "refused"),
        (object, str(object)),
    ],
)
def test_value_that_json_has_no_word_for_is_written_in_words(tmp_path: Path, value: Any, written: object) -> None:
    assert emit("model.promoted", model="hex8_2p", version="43", path="/m.pt", metrics={"value": value})
    (record,) = spooled(tmp_path)
    if written == "refused":
        with pytest.raises(EventInvalid, match="surrogate"):
            parse(record)
        return
    payload = parse(record).payload
    assert isinstance(payload, ModelPromoted)
    assert payload.metrics == {"value": written}


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    emit("model.promoted", model="m", version=numpy.int64(43), path="/m.pt", metrics={"elo": numpy.float32(0.5)})
    payload = only(tmp_path).payload
    assert isinstance(payload, ModelPromoted)
    assert (payload.version, payload.metrics) == ("43", {"elo": 0.5})


def test_value_that_contains_itself_is_cut_and_not_fatal(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    assert emit("model.promoted", model="hex8_2p", version="43", path="/m.pt", metadata=loop)
    assert b"\\u2026" in spooled(tmp_path)[0]


def test_unknown_event_is_spooled_with_a_warning_for_it_will_be_refused_in_public(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert emit('model.promotd "', model="hex8_2p")
    assert "did you mean model.promoted?" in warnings(caplog)[0]
    with pytest.raises(EventInvalid, match=r"no event is called 'model.promotd"):
        parse(spooled(tmp_path)[0])


@pytest.mark.parametrize(
    ("environment", "emits"),
    [
        ({}, True),
        ({"RANK": "0"}, True),
        ({"RANK": "1"}, False),
        ({"SLURM_PROCID": "3"}, False),
        ({"RANK": "0", "SLURM_PROCID": "3"}, True),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}, False),
        ({"PMI_RANK": "2"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0", "NODE_RANK": "1"}, True),
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"RANK": "", "SLURM_PROCID": ""}, True),
        ({"RANK": "3", "FLEETCAST_RANKS": "all"}, True),
        ({"FLEETCAST_MODE": "disabled"}, False),
        ({"FLEETCAST_MODE": "offline"}, True),
    ],
)
def test_only_rank_0_emits_unless_all_are_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], emits: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (emit("node.started") is not None) is emits
    assert len(list((tmp_path / "spool").glob("*.jsonl"))) == emits


def test_disabled_client_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETCAST_MODE", "disabled")
    assert emit("model.promoted", model=object()) is None
    assert not (tmp_path / "spool").exists()


def test_misspelt_mode_is_said_and_taken_as_online(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLEETCAST_MODE", "ofline")
    assert emit("node.started")
    assert "FLEETCAST_MODE=ofline is none of online, offline, disabled" in warnings(caplog)[0]


class Hostile:
    """A value whose every text is an error."""

    def __str__(self) -> str:
        raise HostileError

    __repr__ = __str__


class HostileError(Exception):
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


@pytest.mark.parametrize(
    "fields",
    [
        {"metrics": Hostile()},
        {"path": Hostile()},
        {"metadata": "x" * 2_000_000},
        {"metrics": {Hostile(): 1}},
    ],
)
def test_no_exception_ever_leaves_emit(fields: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert emit("model.promoted", model="hex8_2p", version="43", **fields) is None
    assert "an event was lost" in capsys.readouterr().err
    assert lost() == 1


def test_spool_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FLEETCAST_SPOOL", str(tmp_path / "file"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert emit("model.promoted", model="hex8_2p") is None
    assert "no spool can be written" in capsys.readouterr().err


def test_spool_that_no_distributor_reads_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("FLEETCAST_SPOOL")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("fleetcast.client.folders.NODE_SPOOL", str(tmp_path / "none"))
    assert emit("model.promoted", model="hex8_2p")
    assert "until it is forwarded" in warnings(caplog)[0]


def test_one_warning_a_minute_and_the_others_are_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr("fleetcast.client.notices.time.monotonic", lambda: now)
    said = Notices()
    for _ in range(5):
        said.warn("full")
    assert warnings(caplog) == ["fleetcast: full"]
    now += 60.0
    said.warn("full")
    assert warnings(caplog)[1:] == ["fleetcast: full (4 more since the last warning)"]


def test_broken_log_handler_of_the_job_is_not_fatal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError

    handler = Broken()
    logging.getLogger("fleetcast.client").addHandler(handler)
    try:
        assert emit("no.such.event")
    finally:
        logging.getLogger("fleetcast.client").removeHandler(handler)


def test_durable_events_are_synced_and_cheap_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    emit("transfer.started")
    emit("no.such.event")
    assert synced == []
    emit("model.promoted")
    assert len(synced) == 2, "the folder with the new file's name, and the file"
    emit("model.promoted")
    assert len(synced) == 3


def test_interpreter_that_emits_and_ends_at_once_loses_nothing(tmp_path: Path) -> None:
    script = """
import atexit
from fleetcast.client import emit
atexit.register(lambda: emit("node.stopped", daemon="x"))
emit("model.promoted", model="hex8_2p", version=1, path="m.pt")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    types = sorted(json.loads(record)["type"] for record in spooled(tmp_path))
    assert types == ["model.promoted.v1", "node.stopped.v1"]


def test_forked_workers_of_other_ranks_stay_silent(tmp_path: Path) -> None:
    script = """
import os
from fleetcast.client import emit
emit("model.promoted", model="m", version=1, path="m.pt")
for rank in ("1", "2", "0"):
    child = os.fork()
    if not child:
        os.environ["RANK"] = rank
        emit("model.promoted", model="m", version=1, path="m.pt", run_id=rank)
        os._exit(0)
    os.waitpid(child, 0)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    records = [json.loads(record) for record in spooled(tmp_path)]
    assert [record["data"].get("run_id") for record in records] == [None, "0"]
    assert len({record["id"] for record in records}) == 2


def test_name_of_the_script_is_the_job(tmp_path: Path) -> None:
    (tmp_path / "train hex8.py").write_text("from fleetcast.client import emit\nemit('node.started')\n")
    subprocess.run([sys.executable, str(tmp_path / "train hex8.py")], check=True)
    assert json.loads(spooled(tmp_path)[0])["source"] == "/fleet/gpu-1/train-hex8"


def test_emitter_takes_its_environment_once(tmp_path: Path) -> None:
    emitter = Emitter({"FLEETCAST_SPOOL": str(tmp_path / "spool"), "FLEETCAST_NODE_ID": "gpu-9"})
    emitter.emit("node.started", {})
    assert json.loads(spooled(tmp_path)[0])["data"] == {"node": "gpu-9"}
