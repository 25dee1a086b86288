"""The board: one character per model and node, small enough to be asked for often."""

from typing import Any

import pytest
from tests.unit.cli.builders import node, transfer

from fleetcast.daemons.gateway.board import board
from fleetcast.registry.picture.nodes import NodeView

NAMES = ("node-1", "node-2", "node-3", "node-4")


def nodes() -> list[NodeView]:
    return [NodeView(node(name), 1.0, lost=name == "node-4") for name in NAMES]


def served(**said: Any) -> dict[str, Any]:
    nobody: dict[str, list[Any]] = {"ready": [], "waiting": [], "strangers": [], "drained": []}
    empty = {**nobody, "canary": None, "previous": None}
    about = {"kind": "model", "model": "hex8", "version": "2", "generation": 7, "wanted": 4, "complete": False}
    return {**about, **empty, **said}


def waits(name: str, reason: str = "fetching 40 %", lag: str = "not verified") -> dict[str, str]:
    return {"node": name, "reason": reason, "lag": lag}


def row(**said: Any) -> dict[str, Any]:
    (made,) = board(nodes(), [served(**said)])["models"]
    assert isinstance(made, dict)
    return made


def test_every_node_has_its_character() -> None:
    canary = {"version": "3", "percent": 25, "form": "nodes", "ready": ["node-2"], "waiting": []}
    made = row(ready=["node-1"], canary=canary, waiting=[waits("node-3")], drained=["node-4"])
    assert made["cells"] == "scwd"
    assert (made["ready"], made["wanted"]) == (2, 4)
    assert made["canary"] == {"version": "3", "percent": 25, "form": "nodes"}


@pytest.mark.parametrize(
    ("reason", "lag", "cell"),
    [
        ("fetching 40 %", "not verified", "w"),
        ("failed 40 %: no source has it", "not verified", "f"),
        ("exit 1", "hook failed", "f"),
        ("lost, last heard 40 s ago", "silent", "w"),
    ],
)
def test_what_needs_help_is_told_from_what_needs_time(reason: str, lag: str, cell: str) -> None:
    assert row(waiting=[waits("node-3", reason, lag)])["cells"] == f"--{cell}-"


def test_who_serves_what_nobody_ordered_is_seen() -> None:
    stranger = {"node": "node-2", "version": "9", "generation": 3}
    assert row(ready=["node-1", "node-3"], strangers=[stranger])["cells"] == "sxs-"


def test_a_node_that_is_not_known_any_more_has_no_place() -> None:
    assert row(ready=["node-1", "node-9"])["cells"] == "s---"


def test_what_is_on_its_way_is_told() -> None:
    coming = [transfer(name, version="3", state="fetching", model="hex8") for name in NAMES[:2]]
    done = transfer("node-3", version="3", state="installed", model="hex8")
    views = [NodeView(node(each.node, transfers=(each,)), 1.0, lost=False) for each in (*coming, done)]
    (made,) = board(views, [served(ready=["node-1"])])["models"]
    assert made["moving"] == {"3": 2}


def test_lanes_are_no_rows() -> None:
    assert board(nodes(), [served(kind="dataset")])["models"] == []


def test_a_node_that_fell_silent_says_since_when() -> None:
    last = board(nodes(), [])["nodes"][3]
    assert (last["alive"], last["state"], bool(last["heard_at"])) == (False, "lost", True)
