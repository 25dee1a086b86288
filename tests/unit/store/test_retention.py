"""What may be removed, as a rule over values."""

from hypothesis import given
from hypothesis import strategies as st

from fleetcast.events.content import Kind
from fleetcast.events.payloads import Checks
from fleetcast.events.state import CanaryEntry, Cause, InstalledVersion, SlotEntry, SlotState
from fleetcast.transport.store import Line, Pins
from fleetcast.transport.store.retention import LineView, expendable, judge

LINE = Line(Kind.MODEL, "hex8")


def artifact(version: str) -> str:
    return version.rjust(64, "0")


def installed(*versions: str) -> tuple[InstalledVersion, ...]:
    """Versions in the order of their installation."""
    checks = Checks(size="ok", sha256="ok", format="ok")
    return tuple(
        InstalledVersion(
            version=v, artifact=artifact(v), bytes=1, checks=checks, transport="t", seconds=0, installed_at=f"{n:04}"
        )
        for n, v in enumerate(versions)
    )


def slot(production: str | None, previous: str | None = None, canary: str | None = None) -> SlotState:
    def named(version: str | None) -> SlotEntry | None:
        return SlotEntry(version=version, artifact=artifact(version)) if version else None

    return SlotState(
        model="hex8",
        generation=1,
        production=named(production),
        previous=named(previous),
        canary=CanaryEntry(version=canary, artifact=artifact(canary), percent=10) if canary else None,
        cause=Cause(event="e", sequence=1, by="/t", correlation="e"),
        at="now",
    )


def removed(view: LineView, keep: int = 3, pins: Pins | None = None) -> list[str]:
    return [e.version.version for e in expendable([view], keep, pins or Pins())]


def test_nothing_goes_from_a_line_with_few_versions() -> None:
    assert removed(LineView(LINE, installed("1", "2"), slot("2", "1"), ("2", "1"))) == []


def test_versions_behind_the_last_in_production_go_the_oldest_first() -> None:
    view = LineView(LINE, installed("1", "2", "3", "4", "5"), slot("5", "4"), ("5", "4", "3", "2", "1"))
    assert removed(view) == ["1", "2"]


def test_every_slot_pins_its_version() -> None:
    view = LineView(LINE, installed("1", "2", "3", "4", "5", "6"), slot("1", "2", "3"), ("6", "5", "4", "3", "2", "1"))
    assert removed(view, keep=2) == ["4"]


def test_version_in_production_twice_counts_once() -> None:
    view = LineView(LINE, installed("1", "2", "3", "4"), slot("1", "4"), ("1", "4", "3", "2"))
    assert removed(view) == ["2"]


def test_served_versions_that_are_not_here_any_more_do_not_use_up_the_count() -> None:
    view = LineView(LINE, installed("1", "2", "3"), slot("3"), ("3", "9", "8", "7", "2", "1"))
    assert removed(view) == []


def test_never_served_versions_are_kept_by_age() -> None:
    view = LineView(LINE, installed("a", "b", "c", "d"), slot(None))
    assert removed(view, keep=2) == ["a", "b"]


def test_line_without_a_slot_order_keeps_its_newest() -> None:
    assert removed(LineView(LINE, installed("1", "2", "3", "4")), keep=3) == ["1"]


def test_caller_pins_by_version_and_by_artifact() -> None:
    view = LineView(LINE, installed("1", "2", "3", "4", "5", "6"), slot("6"), ("6", "5", "4", "3", "2", "1"))
    pins = Pins(frozenset({(LINE, "1")}), frozenset({artifact("2")}))
    assert removed(view, pins=pins) == ["3"]


def test_a_pin_of_a_lane_does_not_pin_the_model_of_the_same_name() -> None:
    view = LineView(LINE, installed("1", "2", "3", "4"), slot("4"), ("4", "3", "2", "1"))
    assert removed(view, pins=Pins(frozenset({(Line(Kind.DATASET, "hex8"), "1")}))) == ["1"]


VERSIONS = st.lists(st.sampled_from("123456789"), unique=True, max_size=9)


@given(here=VERSIONS, served=VERSIONS, production=st.sampled_from("123456789"), keep=st.integers(2, 5))
def test_whatever_happened_slots_and_the_last_in_production_stay(
    here: list[str], served: list[str], production: str, keep: int
) -> None:
    gone = removed(LineView(LINE, installed(*here), slot(production), tuple(served)), keep)
    assert production not in gone
    assert not set(gone) & {*[v for v in served if v in here][:keep]}
    assert set(gone) <= set(here)


def reasons(view: LineView, keep: int = 2, pins: Pins | None = None) -> dict[str, tuple[str, ...]]:
    return {j.version.version: j.reasons for j in judge([view], keep, pins or Pins())}


def test_every_version_that_stays_says_why() -> None:
    view = LineView(LINE, installed("1", "2", "3", "4", "5"), slot("4", "3"), ("4", "3", "2", "1"))
    assert reasons(view, pins=Pins(frozenset({(LINE, "1")}))) == {
        "1": ("pinned",),
        "2": (),
        "3": ("previous", "one of the last 2 in production"),
        "4": ("production", "one of the last 2 in production"),
        "5": ("one of the newest 2 that were never served",),
    }


def test_what_was_kept_for_a_time_goes_when_that_is_over_unless_a_slot_names_it() -> None:
    view = LineView(LINE, installed("1", "2"), slot("2"), ("2",))
    released = Pins(released=frozenset({(LINE, "1"), (LINE, "2")}))
    assert removed(view, pins=released) == ["1"]


def test_three_former_production_versions_of_the_order_stay_although_this_node_never_served_them() -> None:
    former = tuple(SlotEntry(version=v, artifact=artifact(v)) for v in ("5", "4", "3", "2"))
    order = slot("6", "5").model_copy(update={"former": former})
    here = installed("1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert removed(LineView(LINE, here, order, ("6",)), keep=2) == ["1", "2", "7"]


def test_a_canary_stays_whatever_is_newer() -> None:
    here = installed("1", "2", "3", "4", "5", "6", "7")
    assert "1" not in removed(LineView(LINE, here, slot("4", None, "1"), ("4",)), keep=1)


def test_what_an_archive_keeps_goes_and_takes_no_place_among_those_that_stay() -> None:
    view = LineView(LINE, installed("1", "2", "3", "4", "5"), None, ("5", "4"))
    pins = Pins(archived=frozenset({(LINE, "5"), (LINE, "3")}))
    assert removed(view, keep=2, pins=pins) == ["3", "5"]


def test_what_an_archive_keeps_stays_while_a_slot_or_somebody_needs_it() -> None:
    archived = frozenset((LINE, v) for v in "1234")
    view = LineView(LINE, installed("1", "2", "3", "4"), slot("1", "2", "3"))
    pins = Pins(versions=frozenset({(LINE, "4")}), archived=archived)
    assert removed(view, pins=pins) == []
    assert removed(view, pins=Pins(archived=archived)) == ["4"]
