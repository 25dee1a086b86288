"""Which artifacts a node keeps."""

import pytest

from fleetcast.events.content import Kind
from fleetcast.events.payloads import Wants
from fleetcast.events.wants import addressed, wants


def test_a_node_keeps_everything_by_default() -> None:
    assert all(wants(Wants(), kind, "hex8_2p") for kind in Kind)


def test_models_and_bundles_go_by_models_data_sets_by_lanes() -> None:
    node = Wants(models=("hex8_*",), lanes=("go9",))
    assert wants(node, Kind.MODEL, "hex8_2p")
    assert wants(node, Kind.BUNDLE, "hex8_2p")
    assert not wants(node, Kind.DATASET, "hex8_2p")
    assert wants(node, Kind.DATASET, "go9")
    assert not wants(node, Kind.MODEL, "go9")


def test_a_node_without_patterns_keeps_nothing() -> None:
    assert not any(wants(Wants(models=(), lanes=()), kind, "hex8_2p") for kind in Kind)


@pytest.mark.parametrize(
    ("pattern", "name", "kept"),
    [
        ("hex8_2p", "hex8_2p", True),
        ("hex8", "hex8_2p", False),
        ("hex?_2p", "hex8_2p", True),
        ("hex[89]_*", "hex9_4p", True),
        ("hex[!8]_*", "hex8_4p", False),
    ],
)
def test_patterns_are_those_of_the_shell_over_the_whole_name(pattern: str, name: str, kept: bool) -> None:
    assert wants(Wants(models=(pattern,)), Kind.MODEL, name) is kept


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("gpu-2", True),
        ("gpu-*", True),
        ("*", True),
        ("gpu=nvidia", True),
        ("gpu=*", True),
        ("gpu", False),
        ("nvidia", False),
        ("gpu=amd", False),
        ("*=*", True),
        ("cpu-*", False),
    ],
)
def test_a_distribution_means_nodes_by_name_and_with_an_equals_sign_by_label(pattern: str, meant: bool) -> None:
    assert addressed((pattern,), "gpu-2", {"gpu": "nvidia"}) is meant
