"""How often a node reads what the others report of themselves."""

import pytest

from fleetcast.daemons.distributor.rollcall import FOLLOWED_NODES, READ_PER_SECOND, expired, pause_seconds


@pytest.mark.parametrize("nodes", [0, 1, FOLLOWED_NODES])
def test_in_a_small_fleet_every_heartbeat_is_heard_as_it_comes(nodes: int) -> None:
    assert pause_seconds(nodes) is None


@pytest.mark.parametrize("nodes", [FOLLOWED_NODES + 1, 300, 5000])
def test_what_a_node_reads_of_the_others_does_not_grow_with_the_fleet(nodes: int) -> None:
    pause = pause_seconds(nodes)

    assert pause is not None
    assert nodes / pause == pytest.approx(READ_PER_SECOND)


def test_a_heartbeat_that_is_gone_comes_as_one_without_data() -> None:
    (gone,) = expired({"$KV.fc_nodes.n1.distributor"})

    assert (gone.subject, gone.data) == ("$KV.fc_nodes.n1.distributor", b"")
