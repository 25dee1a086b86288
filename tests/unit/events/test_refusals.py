"""What a person reads when an event was refused, and can paste."""

import json
import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.events.envelope import EventInvalid, parse
from fleetcast.events.names import CATALOGUE, EventType
from fleetcast.events.recipes import Recipe

SUBJECT = "fc.ev.model.promoted.hex8_2p"
MANUAL = [entry for entry in CATALOGUE if entry.manual]


def refusal(body: object, subject: str = SUBJECT) -> EventInvalid:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(EventInvalid) as caught:
        parse(data, subject=subject, stream="FC_EVENTS", sequence=7)
    return caught.value


def pasted(fault: EventInvalid) -> Recipe:
    """The command in the next step, as a shell would read it."""
    return Recipe("", tuple(shlex.split(fault.next_step[fault.next_step.index("nats pub") :])))


def test_missing_node_is_refused_with_the_command_that_names_it() -> None:
    fault = refusal({"version": "43", "path": "/models/m.pt"})
    assert fault.field == "node"
    assert fault.next_step.endswith(
        """nats pub -J fc.ev.model.promoted.hex8_2p '{"version":"43","path":"/models/m.pt","node":"gpu-1"}'"""
    )
    assert "do that for you" in fault.next_step
    assert str(fault) == f"{fault.reason}. {fault.next_step}"


def test_what_was_right_is_kept_in_the_command() -> None:
    fault = refusal({"verison": 44, "path": "/data/other.pt", "node": "gpu-9", "epoch": 7})
    publication = pasted(fault).publication
    assert publication is not None
    assert json.loads(publication.body) == {"version": 44, "path": "/data/other.pt", "node": "gpu-9", "epoch": 7}


def test_fraction_as_version_is_refused_with_its_quotes() -> None:
    fault = refusal({"version": 1.5, "path": "/models/m.pt", "node": "gpu-1"})
    assert fault.reason == 'version is text; write it in quotes: "1.5"'
    assert '"version":"1.5"' in fault.next_step


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({"version": "1/5", "path": "/m", "node": "gpu-1"}, "version", "is not a version"),
        ({"version": "43\n", "path": "/m", "node": "gpu-1"}, "version", "is not a version"),
        ({"version": "current", "path": "/m", "node": "gpu-1"}, "version", "name of a slot"),
        ({"version": "43", "path": "m.pt", "node": "gpu-1"}, "path", "not absolute"),
        ({"version": "43", "path": "", "node": "gpu-1"}, "path", "at least 1 character"),
        ({"version": "43", "path": "/m", "node": "GPU 1"}, "node", "is not a name"),
        ({"version": "43", "path": "/m", "node": "gpu-1", "epoch": -1}, "epoch", "greater than or equal to 0"),
        ({"version": "43", "path": "/m", "node": "gpu-1", "metrics": [1]}, "metrics", "valid dictionary"),
        ({"version": "43", "node": "gpu-1"}, "path", "path is missing; model.promoted needs it"),
        ({}, "version", "version is missing"),
        (b"", None, "the body is empty"),
        (b"version=43", None, "not JSON"),
    ],
)
def test_every_fault_has_its_field_and_its_words(body: object, field: str | None, reason: str) -> None:
    fault = refusal(body)
    assert fault.field == field
    assert reason in fault.reason
    assert parse_again(fault)


def parse_again(fault: EventInvalid) -> bool:
    publication = pasted(fault).publication
    assert publication is not None
    return parse(publication.body, subject=publication.subject, sequence=8).source == "/manual/natscli"


def test_quote_in_a_body_survives_the_shell() -> None:
    fault = refusal({"path": "/models/it's $HOME `x`.pt", "version": "43"})
    command = fault.next_step[fault.next_step.index("nats pub") :].replace("nats pub", "printf '%s\\n'", 1)
    printed = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed.splitlines()[-1])["path"] == "/models/it's $HOME `x`.pt"


def test_body_that_the_nats_cli_would_expand_is_protected() -> None:
    fault = refusal({"version": "43", "path": "/models/m.pt", "metadata": {"note": "{{ID}}"}})
    assert "nats pub -J --no-templates " in fault.next_step


def test_a_huge_body_is_answered_with_the_plain_example() -> None:
    fault = refusal({"version": "43", "path": "/models/m.pt", "metadata": {"log": "x" * 10_000}})
    assert len(fault.next_step) < 500


def test_a_refusal_stays_short_whatever_was_sent() -> None:
    fault = refusal({"x" * 100_000: "y" * 100_000})
    assert len(str(fault)) < 3000
    assert fault.field is not None
    assert len(fault.field) <= 200


def test_fact_that_only_daemons_emit_is_not_answered_with_a_command_to_forge_it() -> None:
    fault = refusal({"slot": "production"}, "fc.ev.slot.ordered.hex8_2p")
    assert "nats pub" not in fault.next_step
    assert "fleetcast dlq ls" in fault.next_step


def test_event_without_its_key_in_the_subject_is_answered_with_the_right_subject() -> None:
    fault = refusal({"version": "43"}, "fc.ev.model.promoted")
    assert "lacks its last token, the model" in fault.reason
    assert parse_again(fault)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
FIELDS = sorted({name for entry in MANUAL for name in entry.payload.model_fields} | {"verison", "Path", "nodes", "x"})


@given(entry=st.sampled_from(MANUAL), body=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8))
def test_the_command_in_every_refusal_is_right_as_it_stands(entry: EventType, body: dict[str, object]) -> None:
    fault = fault_in(json.dumps(body).encode(), entry.subject("hex8_2p"))
    if fault is not None:
        assert parse_again(fault)
        assert pasted(fault).command[-2] == entry.subject("hex8_2p")


def fault_in(data: bytes, subject: str) -> EventInvalid | None:
    try:
        parse(data, subject=subject, sequence=7)
    except EventInvalid as fault:
        return fault
    return None
