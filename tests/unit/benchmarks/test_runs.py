"""The figures of the distribution benchmark are those of their definitions."""

import pytest
from tests.benchmarks._hosts import Flow
from tests.benchmarks._runs import (
    MIB,
    NodeRun,
    Run,
    bound_seconds,
    cpu_per_gib,
    equal_links_bound,
    figures,
    spread,
    tail_ratio,
    values,
)


def run_of(*seconds: float, sent: int = 100, size: int = 100) -> Run:
    return Run(size, sent, tuple(NodeRun(f"node-{n}", s) for n, s in enumerate(seconds)))


@pytest.mark.parametrize(
    ("origin_up", "receivers", "expected"),
    [
        (10.0, [(10.0, 10.0)] * 4, 10.0),  # equal links: one file time, whatever the number
        (5.0, [(100.0, 100.0)] * 4, 20.0),  # the origin's link
        (100.0, [(100.0, 100.0), (100.0, 4.0)], 25.0),  # the slowest receiver
        (10.0, [(0.0, 100.0)] * 4, 40.0),  # nobody helps: the origin sends every copy
        (10.0, [(2.5, 100.0)] * 4, 20.0),  # what all send together
    ],
)
def test_the_bound_is_the_largest_of_its_three_terms(
    origin_up: float, receivers: list[tuple[float, float]], expected: float
) -> None:
    assert bound_seconds(100, origin_up, receivers) == expected


def test_with_equal_links_the_bound_is_the_time_of_one_copy() -> None:
    assert equal_links_bound(64 * MIB, 40, 8) == pytest.approx(64 * MIB * 8 / 40e6)


def test_the_tail_is_that_of_the_node_where_it_took_most() -> None:
    quick = NodeRun("quick", proven=10.0, nearly=9.9)
    slow = NodeRun("slow", proven=10.0, nearly=8.0)
    assert tail_ratio(Run(1, 1, (quick, slow))) == pytest.approx(0.2)


def test_spread_compares_the_slowest_with_the_median() -> None:
    assert spread(run_of(10.0, 10.0, 10.0, 15.0)) == 1.5


def test_processor_time_is_a_mean_over_nodes_per_gib() -> None:
    nodes = (NodeRun("a", 1.0, cpu_seconds=1.0), NodeRun("b", 1.0, cpu_seconds=3.0))
    assert cpu_per_gib(Run(512 * MIB, 0, nodes)) == 4.0


def test_one_bad_run_of_three_does_not_make_the_figure() -> None:
    found = values([run_of(10.0), run_of(11.0), run_of(50.0)], bound=10.0)
    assert found["last_node_over_bound"] == 1.1


def test_what_nobody_measured_is_left_out() -> None:
    assert set(values([run_of(10.0)], bound=10.0)) == {
        "last_node_over_bound",
        "spread_p99_over_p50",
        "egress_over_size",
    }


def test_the_last_node_is_judged_only_where_something_is_asked() -> None:
    found = {"last_node_over_bound": 1.5}
    assert not figures(found, 8, 40, 64)["last_node_over_bound"].ok
    assert figures(found, 5, 40, 64)["last_node_over_bound"].ok


def test_headers_are_no_bytes_of_a_stream() -> None:
    assert Flow(bytes=10 * (1448 + 66), packets=10).stream_bytes == 10 * 1448
