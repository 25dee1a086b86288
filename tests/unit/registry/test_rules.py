import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.registry.audit_chains import chain_of

from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.payloads import Endpoints, Origin
from fleetcast.events.state import Cause, SlotEntry, SlotState, VersionState
from fleetcast.registry import VersionTaken
from fleetcast.registry.rules import (
    RequestRecord,
    SlotOutcome,
    broken_links,
    decide_order,
    decide_reservation,
    dump,
    link_of,
)

AT = "2026-11-20T10:00:00.000Z"


def entry(version: str) -> SlotEntry:
    return SlotEntry(version=version, artifact=(version * 64)[:64])


def cause(sequence: int) -> Cause:
    return Cause(event=f"event-{sequence}", sequence=sequence, by="/test", correlation="c")


def order(current: SlotState | None, version: str, sequence: int) -> SlotOutcome:
    return decide_order(current, model="m", kind=Kind.MODEL, entry=entry(version), cause=cause(sequence), at=AT)


def test_the_first_order_makes_generation_one_without_a_previous() -> None:
    outcome = order(None, "1", 5)

    assert outcome.kind == "moved"
    assert (1, entry("1"), None) == (outcome.state.generation, outcome.state.production, outcome.state.previous)


def test_the_next_order_keeps_the_old_production_as_previous() -> None:
    outcome = order(order(None, "1", 5).state, "2", 6)

    assert outcome.kind == "moved"
    assert (2, entry("2"), entry("1")) == (
        outcome.state.generation,
        outcome.state.production,
        outcome.state.previous,
    )


def test_an_older_version_promoted_by_a_later_event_is_a_new_generation() -> None:
    second = order(order(None, "1", 5).state, "2", 6).state

    outcome = order(second, "1", 7)

    assert (3, entry("1"), entry("2")) == (
        outcome.state.generation,
        outcome.state.production,
        outcome.state.previous,
    )


def test_the_same_version_again_keeps_the_previous_to_roll_back_to() -> None:
    second = order(order(None, "1", 5).state, "2", 6).state

    outcome = order(second, "2", 9)

    assert (3, entry("1")) == (outcome.state.generation, outcome.state.previous)


def test_an_earlier_cause_that_arrives_later_changes_nothing() -> None:
    current = order(None, "2", 6).state

    assert order(current, "1", 5) == SlotOutcome("superseded", current)


def test_the_same_cause_again_changes_nothing() -> None:
    current = order(None, "2", 6).state

    assert order(current, "2", 6) == SlotOutcome("repeated", current)


@given(st.permutations(list(range(1, 8))), st.lists(st.integers(0, 6), max_size=10))
def test_in_whatever_order_and_number_orders_arrive_the_latest_cause_is_served(
    arrival: list[int], repeats: list[int]
) -> None:
    state: SlotState | None = None
    generations: list[int] = []
    for sequence in [*arrival, *(arrival[n] for n in repeats)]:
        state = order(state, str(sequence), sequence).state
        generations.append(state.generation)

    assert state is not None
    assert state.production == entry("7")
    assert generations == sorted(generations)


def version(size: int) -> VersionState:
    file = ContentFile(path="m.pt", size=size, sha256="0" * 64, pieces_root="0" * 64)
    content = Content(kind=Kind.MODEL, format=Format.OPAQUE, files=(file,))
    return VersionState(
        model="m",
        version="1",
        artifact=content.artifact,
        content=content,
        origin=Origin(node="gpu-1", endpoints=Endpoints()),
        cause=cause(1),
        at=AT,
    )


def test_a_version_is_reserved_once_and_found_again() -> None:
    assert decide_reservation(None, version(1)).created
    assert not decide_reservation(version(1), version(1)).created


def test_other_content_under_the_same_version_is_refused_and_the_winner_named() -> None:
    with pytest.raises(VersionTaken, match=r"m@1 .* gpu-1 .* immutable") as taken:
        decide_reservation(version(1), version(2))

    assert taken.value.winner == version(1)


def test_states_are_stored_with_their_schema_and_read_back() -> None:
    state = order(None, "1", 5).state

    assert b'"schema":1' in dump(state)
    assert SlotState.model_validate_json(dump(state)) == state


def test_an_unbroken_chain_has_nothing_wrong() -> None:
    assert broken_links([]) == []
    assert broken_links(map(link_of, chain_of(5)[0])) == []


def test_a_changed_record_is_noticed_at_the_next_one() -> None:
    records, _ = chain_of(5)
    records[2] = records[2].replace(b'"version":"3"', b'"version":"9"')

    assert broken_links(map(link_of, records)) == ["record 4 does not follow from the record before it"]


def test_a_record_taken_out_is_noticed() -> None:
    records, _ = chain_of(5)
    del records[2]

    assert any("record 3 is missing" in problem for problem in broken_links(map(link_of, records)))


def test_a_record_that_cannot_be_read_is_noticed_and_the_rest_still_checked() -> None:
    records, _ = chain_of(4)
    records[1] = b"{}"

    problems = broken_links(map(link_of, records))

    assert problems[0].startswith("record 2 cannot be read")
    assert problems[1] == "record 3 does not follow from the record before it"


def test_a_request_record_is_read_back() -> None:
    record = RequestRecord("order/01", "moved", 3, "nonce")

    assert RequestRecord.decode(record.encode()) == record
