"""The tables in docs/performance.md say what the documents say."""

from typing import Any

from tests.benchmarks._table import figures, peers


def document(**more: Any) -> dict[str, Any]:
    figure = {"value": 1.5, "unit": "ratio", "required": 1.4, "goal": 1.15, "ok": False}
    return {
        "bench": "swarm",
        "conditions": {"command": "fleetcast bench swarm"},
        "figures": {"last_node_over_bound": figure},
        "peers": {},
        **more,
    }


def test_a_figure_that_was_missed_says_so() -> None:
    assert [*figures([document()])][-1] == (
        "| last node / bound | 1.4 | 1.15 | 1.5 (missed) | `fleetcast bench swarm` |"
    )


def test_a_peer_without_a_figure_has_an_empty_cell() -> None:
    made = document(peers={"rsync": {"time_over_ours": 5.0}, "aria2": {"last_node_over_bound": 3.0}})
    assert [*peers(made)][2:] == [
        "| last node / bound | 1.5 |  | 3 |",
        "| time / ours | 1 | 5 |  |",
    ]
