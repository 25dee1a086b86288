"""What this machine is called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.client import node
from fleetcast.client.node import default_node_id, name_from
from fleetcast.events.ids import is_name


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("gpu-1", "gpu-1"),
        ("GPU-1.cluster.example", "gpu-1"),
        ("My Laptop", "my-laptop"),
        ("_dmarc", "dmarc"),
        ("-x", "x"),
        ("", "node"),
        ("...", "node"),
        ("ü", "node"),
        ("a" * 80, "a" * 48),
    ],
)
def test_host_name_becomes_the_name_of_a_node(host: str, name: str) -> None:
    assert name_from(host) == name


@given(st.text())
def test_every_host_name_becomes_a_valid_name(host: str) -> None:
    assert is_name(name_from(host))


@given(st.text("az09_-A \nü", max_size=50))
def test_client_and_catalogue_agree_on_what_is_a_name(text: str) -> None:
    assert node.is_name(text) == is_name(text)


def test_this_machine_has_a_name() -> None:
    assert is_name(default_node_id())
