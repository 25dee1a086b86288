"""One table, every spelling."""

import contextlib
import importlib
import pkgutil
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast import events
from fleetcast.client import names as client_names
from fleetcast.events.examples import EXAMPLES
from fleetcast.events.names import CATALOGUE, EventType, UnknownEventType, find, from_subject, of
from fleetcast.events.payloads import EventRejected, ModelPromoted, Payload

every_event = pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)


def test_the_spellings_of_a_promotion() -> None:
    promoted = find("MODEL_PROMOTED")
    assert promoted is find("model.promoted") is find("model.promoted.v1")
    assert promoted.payload is ModelPromoted
    assert promoted.subject("hex8_2p") == "fc.ev.model.promoted.hex8_2p"
    assert from_subject("fc.ev.MODEL_PROMOTED.hex8_2p") == (promoted, "hex8_2p")


def test_inner_dots_become_underscores_in_the_subject() -> None:
    rollback = EventType(name="model.rollback.requested", payload=ModelPromoted, key_field="model")
    assert rollback.subject("hex8_2p") == "fc.ev.model.rollback_requested.hex8_2p"
    assert rollback.alias == "MODEL_ROLLBACK_REQUESTED"


@every_event
def test_every_spelling_and_subject_leads_to_the_same_event(entry: EventType) -> None:
    assert {find(spelling) for spelling in (entry.name, entry.type, entry.alias, entry.stem)} == {entry}
    subjects = (entry.subject("k"), entry.fact_subject("k"), *entry.filters("k"))
    assert {from_subject(subject) for subject in subjects} == {(entry, "k")}


@every_event
def test_every_subject_has_five_tokens(entry: EventType) -> None:
    assert entry.subject("k").count(".") == 4


@every_event
def test_every_example_is_right_and_has_its_key(entry: EventType) -> None:
    payload = entry.payload.model_validate(EXAMPLES[entry.name])
    assert of(payload) is entry
    assert entry.key_of(payload) in {
        "hex8_2p",
        "fraud_detector",
        "hex8-2p-0042",
        "gpu-1",
        "gpu-2",
        "oncall",
        "control-1",
        "intake",
    }


@every_event
def test_names_keep_to_letters_and_dots_so_that_aliases_read_back(entry: EventType) -> None:
    assert re.fullmatch(r"[a-z]+(\.[a-z]+)+", entry.name)


def test_no_two_events_share_a_spelling_or_a_subject() -> None:
    spellings = [s for entry in CATALOGUE for s in {entry.name, entry.type, entry.alias, entry.stem}]
    assert len(spellings) == len(set(spellings))


def test_every_payload_is_in_the_catalogue() -> None:
    shared = {"ModelSubmitted", "TransferFact", "RunFact", "AboutResource", "IncidentFact"}
    modules = [
        importlib.import_module(f"fleetcast.events.{each.name}") for each in pkgutil.iter_modules(events.__path__)
    ]
    classes = {
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Payload) and each is not Payload and each.__name__ not in shared
    }
    assert classes == {entry.payload for entry in CATALOGUE}


def test_the_client_knows_the_same_names() -> None:
    assert tuple(entry.name for entry in CATALOGUE) == client_names.NAMES


@every_event
def test_the_client_takes_the_same_spellings(entry: EventType) -> None:
    assert {client_names.name_of(spelling) for spelling in (entry.name, entry.type, entry.alias, entry.stem)} == {
        entry.name
    }


@pytest.mark.parametrize(
    ("spelling", "close"), [("model.promotd", "model.promoted"), ("MODEL_PROMOTE", "model.promoted")]
)
def test_misspelt_event_is_refused_with_what_was_meant(spelling: str, close: str) -> None:
    with pytest.raises(UnknownEventType) as refused:
        find(spelling)
    assert refused.value.close[0] == close
    assert f"did you mean {close}" in str(refused.value)


def test_newer_major_version_is_refused_as_newer() -> None:
    with pytest.raises(UnknownEventType, match="newer than this fleetcast"):
        find("model.promoted.v2")


@pytest.mark.parametrize("subject", ["fc.ev.model.promoted", "fc.ev.MODEL_PROMOTED"])
def test_subject_without_its_key_is_refused_with_the_missing_token(subject: str) -> None:
    with pytest.raises(UnknownEventType, match=re.escape("lacks its last token, the model")):
        from_subject(subject)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        ".",
        "fc.ev.",
        "fc.ev..",
        "fc.ev.model.promoted.",
        "fc.ev.model.promoted.Hex8",
        "fc.ev.model.promoted.a.b",
        "fc.ev.model.promoted.v1.hex8",
        "fc.ev.model.promoted.hex8\n",
        "fc.evil.model.promoted.hex8",
        "fc.work.gpu.hex8",
        "fc.ev.model.*.hex8",
    ],
)
def test_what_is_no_subject_of_an_event_is_refused(subject: str) -> None:
    with pytest.raises(UnknownEventType):
        from_subject(subject)


@given(st.text(max_size=60))
def test_any_text_is_an_event_or_refused(text: str) -> None:
    for look_up in (find, from_subject):
        with contextlib.suppress(UnknownEventType):
            assert look_up(text)


def test_rejection_about_nothing_nameable_has_the_key_unknown() -> None:
    rejected = EventRejected(event="e", subject="s", reason="r", next_step="n", node="No Name")
    assert of(rejected).key_of(rejected) == "unknown"


def test_class_outside_the_catalogue_is_refused() -> None:
    with pytest.raises(UnknownEventType):
        of(Payload())
