"""Whom a distribution means, what it is called, and how far it has come."""

from pathlib import Path

import pytest
from tests.unit.cli.builders import NOW, node

from fleetcast.cli.distribute import addressees, default_name
from fleetcast.cli.problems import Exit, Problem
from fleetcast.events.state import NodeStatus
from fleetcast.registry.picture.nodes import NodeView, views


def fleet(*statuses: NodeStatus) -> tuple[NodeView, ...]:
    return views(statuses, now=NOW, heartbeat_seconds=5.0)


LABELLED = node("big").model_copy(update={"labels": {"gpu": "nvidia"}})


def test_patterns_mean_names_and_labels() -> None:
    nodes = fleet(node("gpu-1"), node("gpu-2"), node("cpu-1"), LABELLED)
    assert addressees(["gpu-*"], nodes) == ("gpu-1", "gpu-2")
    assert addressees(["gpu=nvidia", "cpu-1"], nodes) == ("big", "cpu-1")
    assert addressees(["*"], nodes) == ("big", "cpu-1", "gpu-1", "gpu-2")


def test_a_pattern_that_means_nobody_is_refused_with_the_nodes_that_there_are() -> None:
    with pytest.raises(Problem) as refused:
        addressees(["gpu-*", "tpu-*"], fleet(node("gpu-1"), LABELLED))
    assert refused.value.what == "no node matches 'tpu-*'"
    assert refused.value.why == "known nodes: big, gpu-1; known labels: gpu=nvidia"
    assert refused.value.exit is Exit.NOT_FOUND


@pytest.mark.parametrize(
    ("file", "name"),
    [("Base Model.v2.pt", "base-model"), ("x.npz", "x"), ("a_b-c.tar.gz", "a_b-c"), ("A" * 90, "a" * 48)],
)
def test_a_file_that_nobody_names_is_called_by_its_name(file: str, name: str) -> None:
    assert default_name(Path("/publish") / file) == name


def test_a_name_of_which_no_id_can_be_made_asks_for_one() -> None:
    with pytest.raises(Problem, match="no id"):
        default_name(Path("/publish/….pt"))
