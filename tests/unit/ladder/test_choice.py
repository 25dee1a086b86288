"""Which transport comes first, and what is said about it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.config.settings import LadderSettings
from fleetcast.transport.ladder import ENDPOINTS, Ladder, choose
from fleetcast.transport.protocol import Availability, Source

HERE = Availability(ok=True)
NO_ARIA2 = Availability(ok=False, reason="aria2c is not installed: apt install aria2")
ALL = dict.fromkeys(ENDPOINTS, HERE)
ORIGIN = Source("origin", "10.0.0.1:6881", "http://10.0.0.1:6880/secret", "ssh://fleetcast@10.0.0.1:22", complete=True)
PEER = Source("peer", "10.0.0.2:6881", "http://10.0.0.2:6880/secret", complete=False)
MB = 10**6


def ladder(
    size: int,
    receivers: int | None = 8,
    *,
    available: dict[str, Availability] = ALL,
    sources: tuple[Source, ...] = (ORIGIN, PEER),
    **settings: Any,
) -> Ladder:
    return choose(
        size, receivers, available=available, sources=sources, settings=LadderSettings.model_validate(settings)
    )


@pytest.mark.parametrize(
    ("size", "first"), [(50 * MB, "bittorrent"), (49 * MB, "aria2"), (10**10, "bittorrent"), (16 * MB, "aria2")]
)
def test_size_decides_at_fifty_megabytes_while_nothing_else_is_known(size: int, first: str) -> None:
    assert ladder(size, None).first == first


@pytest.mark.parametrize(
    ("megabytes", "receivers", "first"),
    [(24, 2, "aria2"), (25, 2, "bittorrent"), (16, 3, "aria2"), (17, 3, "bittorrent"), (16, 16, "bittorrent")],
)
def test_over_links_of_unknown_speed_counts_what_the_origin_would_send_alone(
    megabytes: int, receivers: int, first: str
) -> None:
    assert ladder(megabytes * MB, receivers).first == first


@pytest.mark.parametrize(("receivers", "megabytes"), [(8, 54), (3, 188)])
def test_a_known_bandwidth_moves_the_limit_with_the_number_of_receivers(receivers: int, megabytes: int) -> None:
    """At 10 Gbit/s: N copies from one node, against 0.3 s."""
    at: Any = {"bandwidth_bytes_per_second": 1_250_000_000}

    assert ladder((megabytes - 2) * MB, receivers, **at).first == "aria2"
    assert ladder((megabytes + 2) * MB, receivers, **at).first == "bittorrent"


def test_a_single_receiver_needs_no_swarm_however_large_the_file() -> None:
    assert ladder(10**12, 1).first == "aria2"


@pytest.mark.parametrize("receivers", [None, 1, 8])
def test_a_file_that_is_here_before_aria2c_has_started_comes_by_the_swarm(receivers: int | None) -> None:
    assert ladder(15 * MB, receivers).first == "bittorrent"


def test_rsync_is_last_unless_the_settings_say_otherwise() -> None:
    assert [r.transport for r in ladder(20 * MB, 2).rungs] == ["aria2", "bittorrent", "rsync"]
    assert [r.transport for r in ladder(10**9).rungs] == ["bittorrent", "aria2", "rsync"]
    assert ladder(1, order=("rsync", "bittorrent")).usable == ("rsync", "bittorrent")


def test_a_tool_that_is_missing_is_one_clear_line() -> None:
    found = ladder(10**9, available={**ALL, "aria2": NO_ARIA2})

    assert found.usable == ("bittorrent", "rsync")
    assert found.choice == (
        "bittorrent first: 8 GB for 8 receivers is 50 MB or more; without aria2: aria2c is not installed: apt install "
        "aria2"
    )


def test_what_would_suit_and_is_missing_is_named_together_with_what_is_taken() -> None:
    found = ladder(20 * MB, None, available={**ALL, "aria2": NO_ARIA2})

    assert found.first == "bittorrent"
    assert found.choice.startswith("bittorrent first, although 20 MB is less than 50 MB; without aria2: aria2c is not")


def test_a_transport_that_no_complete_node_serves_is_skipped() -> None:
    found = ladder(10**9, sources=(PEER,))

    assert found.usable == ("bittorrent",)
    assert {r.transport: r.skipped for r in found.rungs} == {
        "bittorrent": "",
        "aria2": "no node that holds all of it serves HTTP",
        "rsync": "no node that holds all of it serves rsync",
    }


def test_without_any_transport_the_line_says_why() -> None:
    found = ladder(1, available={"aria2": NO_ARIA2})

    assert found.first is None
    assert found.choice == ("no transport can be used now; without aria2: aria2c is not installed: apt install aria2")


sources = st.builds(
    Source,
    st.sampled_from(["a", "b", "c"]),
    st.none() | st.just("h:1"),
    st.none() | st.just("http://h:1/c"),
    st.none() | st.just("rsync://h:1/m"),
    st.booleans(),
)
availability = st.dictionaries(
    st.sampled_from(list(ENDPOINTS)),
    st.builds(Availability, st.booleans(), st.sampled_from(["", "x is not installed: apt install x"])),
)


@given(
    st.integers(0, 2**45),
    st.none() | st.integers(0, 1000),
    availability,
    st.lists(sources).map(tuple),
    st.none() | st.integers(1, 10**11),
)
def test_only_what_is_there_is_usable_and_everything_else_has_a_reason(
    size: int,
    receivers: int | None,
    available: dict[str, Availability],
    known: tuple[Source, ...],
    bandwidth: int | None,
) -> None:
    found = ladder(size, receivers, available=available, sources=known, bandwidth_bytes_per_second=bandwidth)

    assert {r.transport for r in found.rungs} == set(available)
    for rung in found.rungs:
        served = any(s.complete and ENDPOINTS[rung.transport](s) for s in known) or rung.transport == "bittorrent"
        assert (not rung.skipped) == (available[rung.transport].ok and served)
    assert "\n" not in found.choice
    assert found.choice
