"""Whether all trainers have the same lanes."""

from tests.unit.trainer.lanes.builders import lane

from fleetcast.cli.training import lane_tables
from fleetcast.daemons.trainer.lanes.commands import LaneView
from fleetcast.registry.picture.agreement import LaneCopies, differing, told

SAID = "lane hex8 differs between nodes: aaaa on gpu-1, gpu-3; bbbb on gpu-2; unknown to gpu-4"
COPIES = LaneCopies(digests={"aaaa": ("gpu-1", "gpu-3"), "bbbb": ("gpu-2",)}, unknown_to=("gpu-4",))


def test_lanes_that_are_the_same_everywhere_are_no_news() -> None:
    assert differing({"gpu-1": {"hex8": "aaaa"}, "gpu-2": {"hex8": "aaaa"}}) == {}


def test_a_lane_with_two_definitions_names_who_has_which_and_who_has_none() -> None:
    known = {
        "gpu-1": {"hex8": "aaaa", "same": "cccc"},
        "gpu-2": {"hex8": "bbbb", "same": "cccc"},
        "gpu-3": {"hex8": "aaaa", "same": "cccc"},
        "gpu-4": {"same": "cccc"},
    }
    assert differing(known) == {"hex8": COPIES}
    assert told("hex8", COPIES) == SAID


def test_a_trainer_without_any_lane_only_takes_what_others_queued_and_disagrees_with_nobody() -> None:
    assert differing({"gpu-1": {"hex8": "aaaa"}, "gpu-2": {}}) == {}


def test_whatever_changes_in_a_definition_changes_its_digest() -> None:
    assert lane().digest == lane().digest
    assert lane().digest != lane(grace_seconds=61.0).digest
    assert lane().digest != lane(bucket={"required": 201}).digest


def test_people_are_told_in_the_list_in_why_and_of_one_lane() -> None:
    view = LaneView(lane="hex8", copies=COPIES)
    assert lane_tables.differences([view, LaneView(lane="other")]) == [SAID]
    assert SAID in lane_tables.told(view)
    (facts,) = lane_tables.shown(view)
    assert SAID in [str(cell) for cell in facts.columns[1].cells]
