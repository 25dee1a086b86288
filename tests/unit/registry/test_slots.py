"""Which slots a node asks for."""

from fleetcast.events.content import Kind
from fleetcast.events.payloads import Wants
from fleetcast.events.state import slot_subject
from fleetcast.registry.slots import ALL_SLOTS, MAX_SUBJECTS, line_of, subjects_for


def test_wants_that_are_names_are_asked_for_by_name() -> None:
    wants = Wants(models=("hex8", "fraud"), lanes=("games",))
    assert set(subjects_for(wants)) == {
        "fc.reg.state.slot.hex8",
        "fc.reg.state.slot.fraud",
        "fc.reg.state.lane.games",
    }


def test_what_is_held_without_being_wanted_is_asked_for_as_well() -> None:
    found = subjects_for(Wants(models=("hex8",), lanes=()), [(Kind.MODEL, "old"), (Kind.DATASET, "games")])
    assert set(found) == {"fc.reg.state.slot.hex8", "fc.reg.state.slot.old", "fc.reg.state.lane.games"}


def test_one_pattern_and_every_slot_is_asked_for() -> None:
    for pattern in ("*", "hex?", "hex[89]"):
        assert subjects_for(Wants(models=("fraud", pattern), lanes=())) == ALL_SLOTS


def test_more_names_than_a_server_should_compare_are_asked_for_together() -> None:
    names = tuple(f"m{n}" for n in range(MAX_SUBJECTS + 1))
    assert subjects_for(Wants(models=names, lanes=())) == ALL_SLOTS


def test_who_wants_nothing_asks_for_nothing_that_exists() -> None:
    assert subjects_for(Wants(models=(), lanes=())) == ("fc.reg.state.slot._none",)


def test_a_name_that_no_model_can_have_is_not_put_into_a_subject() -> None:
    assert subjects_for(Wants(models=("hex8", "a.>", ""), lanes=())) == ("fc.reg.state.slot.hex8",)


def test_a_subject_says_whose_slots_it_keeps() -> None:
    for line in ((Kind.MODEL, "hex8"), (Kind.DATASET, "hex8")):
        assert line_of(slot_subject(line[1], line[0])) == line
