"""What may be said about a training run."""

import json
import math

import pytest
from pydantic import ValidationError

from fleetcast.events.envelope import EventInvalid, new_event, parse
from fleetcast.events.examples import EXAMPLES
from fleetcast.events.names import CATALOGUE, find
from fleetcast.events.payloads import Payload
from fleetcast.events.runs import RunEpochLogged, RunStarted

RUN = "hex8-2p-0042"


def typed(name: str, **fields: object) -> Payload:
    """The payload of an event that somebody typed."""
    body = json.dumps({"node": "gpu-1", **fields}).encode()
    return parse(body, subject=f"fc.ev.{name}.{RUN}", stream="FC_EVENTS", sequence=7).payload


def refused(name: str, **fields: object) -> EventInvalid:
    with pytest.raises(EventInvalid) as caught:
        typed(name, **fields)
    return caught.value


def test_a_run_is_the_key_of_everything_that_is_said_about_it() -> None:
    entries = [entry for entry in CATALOGUE if entry.name.startswith("run.")]
    assert sum(entry.manual for entry in entries) == 7
    for entry in entries:
        event = new_event(entry.payload.model_validate(EXAMPLES[entry.name]), source="/fleet/gpu-1/train")
        assert event.subject == f"fc.ev.{entry.stem}.{RUN}"
        assert find(entry.stem) is entry


@pytest.mark.parametrize(
    ("name", "fields", "field", "reason"),
    [
        ("run.epoch_logged", {"epoch": 0, "metrics": {"loss": math.nan}}, "metrics.loss", "NaN is not a JSON number"),
        ("run.epoch_logged", {"epoch": 0, "metrics": {"loss": "nan"}}, "metrics.loss", "finite number"),
        ("run.epoch_logged", {"epoch": 0, "metrics": {"loss": True}}, "metrics.loss", "truth value"),
        ("run.epoch_logged", {"epoch": -1}, "epoch", "greater than or equal to 0"),
        ("run.epoch_logged", {"epoch": 1.5}, "epoch", "valid integer"),
        ("run.epoch_logged", {"epoch": True}, "epoch", "truth value"),
        ("run.epoch_logged", {"epoch": 0, "seconds": -1}, "seconds", "greater than or equal to 0"),
        ("run.epoch_logged", {"epoch": 0, "samples": -1}, "samples", "greater than or equal to 0"),
        ("run.epoch_logged", {"metrics": {}}, "epoch", "epoch is missing"),
        ("run.started", {}, None, "neither lane nor model"),
        ("run.started", {"lane": "hex8_2p", "git_commit": "HEAD"}, "git_commit", "pattern"),
        ("run.started", {"lane": "hex8_2p", "data": [{"filter": "x"}]}, "data.0.data_set", "missing"),
        ("run.started", {"lane": "Hex 8"}, "lane", "is not a name"),
        ("run.checkpoint_saved", {"epoch": 0, "path": "x", "sha256": "0" * 64, "size": 1}, "path", "not absolute"),
        ("run.checkpoint_saved", {"epoch": 0, "path": "/x", "sha256": "0" * 63, "size": 1}, "sha256", "pattern"),
        ("run.checkpoint_saved", {"epoch": 0, "path": "/x", "sha256": "0" * 64, "size": 0}, "size", "greater than"),
        ("run.degraded", {"reason": "x", "since_epoch": -2}, "since_epoch", "greater than or equal to 0"),
        ("run.fault_recorded", {"fault_class": "bad luck", "signature": "x", "reason": "y"}, "fault_class", "oom"),
        (
            "run.fault_recorded",
            {"fault_class": "oom", "signature": "x", "reason": "y", "at": "yesterday"},
            "at",
            "is no time",
        ),
        ("run.finished", {"outcome": "fine"}, "outcome", "'succeeded', 'failed', 'preempted' or 'cancelled'"),
        ("run.finished", {"outcome": "failed", "metrics": {"loss": math.inf}}, "metrics.loss", "not a JSON number"),
    ],
)
def test_what_a_run_cannot_say_is_refused_with_the_field(
    name: str, fields: dict[str, object], field: str | None, reason: str
) -> None:
    fault = refused(name, **fields)
    assert fault.field == field
    assert reason in fault.reason
    assert f"nats pub -J fc.ev.{name}.{RUN} " in fault.next_step


def test_a_run_without_a_node_is_not_asked_for_a_file() -> None:
    with pytest.raises(EventInvalid) as caught:
        parse(b'{"epoch": 0}', subject=f"fc.ev.run.epoch_logged.{RUN}", sequence=7)
    assert caught.value.field == "node"
    assert "file" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_program_cannot_make_an_epoch_with_a_number_that_is_none(value: float) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        RunEpochLogged(run_id=RUN, node="gpu-1", epoch=0, metrics={"loss": value})


def test_a_version_inherits_what_its_run_was_made_from() -> None:
    facts = RunStarted.model_validate(EXAMPLES["run.started"]).facts
    assert facts.model_dump(exclude_none=True) == {
        "run_id": RUN,
        "experiment_id": "wider-net",
        "git_commit": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
        "environment": "sha256:9f2c41d07b",
        "reproducibility_hash": "sha256:51d3e8aa90",
    }
