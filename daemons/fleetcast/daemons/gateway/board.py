"""What the dashboard shows of a whole fleet, small enough to be asked for often: one character per model and node.
Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fleetcast.registry.fleet import Lag
from fleetcast.registry.picture.nodes import NodeView
from fleetcast.registry.picture.pace import ENDED

Document = dict[str, Any]

SERVES: Final = "s"
CANARY: Final = "c"
WAITS: Final = "w"
FAILS: Final = "f"
STRANGE: Final = "x"
DRAINED: Final = "d"
NOTHING: Final = "-"


def board(nodes: Sequence[NodeView], rollouts: Iterable[Mapping[str, Any]]) -> Document:
    """Nodes in short, and of every model what each of them does about it.

    Args:
        nodes: all, by name.
        rollouts: of all models, as `rollout_document` writes them.

    Returns:
        `nodes`: name, state, when it was heard, what is wrong; `models`: what is ordered, `ready` of `wanted`, `cells`
        with one character per node in the order of `nodes` (`s` serves production, `c` the canary, `w` is behind, `f`
        is behind and will not get there by itself, `x` serves what nobody ordered, `d` is out of service, `-` does not
        want it), `waiting`: the reasons, and `moving`: how many nodes fetch which version.
    """
    places = {node.name: number for number, node in enumerate(nodes)}
    moving = _moving(nodes)
    models = [
        {**_row(each, places), "moving": moving.get(each["model"], {})} for each in rollouts if each["kind"] == "model"
    ]
    return {"nodes": [_node(node) for node in nodes], "models": models}


def _moving(nodes: Iterable[NodeView]) -> dict[str, Counter[str]]:
    """By model and version, how many nodes fetch it now."""
    found: dict[str, Counter[str]] = {}
    for node in nodes:
        for transfer in node.status.transfers:
            if transfer.state not in ENDED:
                found.setdefault(transfer.model, Counter())[transfer.version] += 1
    return found


def _row(served: Mapping[str, Any], places: Mapping[str, int]) -> Document:
    canary = served["canary"]
    waiting = [*served["waiting"], *(canary["waiting"] if canary else ())]
    cells = [NOTHING] * len(places)

    def mark(names: Iterable[str], with_: str) -> None:
        for name in names:
            if name in places:
                cells[places[name]] = with_

    mark(served["ready"], SERVES)
    mark(canary["ready"] if canary else (), CANARY)
    for each in waiting:
        mark((each["node"],), FAILS if _is_stuck(each) else WAITS)
    mark((each["node"] for each in served["strangers"]), STRANGE)
    mark(served["drained"], DRAINED)
    return {
        "model": served["model"],
        "version": served["version"],
        "previous": served.get("previous"),
        "generation": served["generation"],
        "canary": {name: canary[name] for name in ("version", "percent", "form")} if canary else None,
        "ready": len(served["ready"]) + (len(canary["ready"]) if canary else 0),
        "wanted": served["wanted"],
        "complete": served["complete"],
        "cells": "".join(cells),
        "waiting": waiting,
        "strangers": list(served["strangers"]),
    }


def _is_stuck(waiting: Mapping[str, Any]) -> bool:
    """Whether not time, but somebody, has to help."""
    return waiting["lag"] == Lag.HOOK_FAILED.value or str(waiting["reason"]).startswith("failed")


def _node(node: NodeView) -> Document:
    status = node.status
    return {
        "node": node.name,
        "state": node.state,
        "alive": node.alive,
        "status": status.status,
        "version": status.version,
        "heard_at": status.at,
        "started_at": status.started_at,
        "models": len(status.models),
        "disk_free": status.disk_free,
        "spool_entries": status.spool_entries,
        "spool_lost": status.spool_lost,
        "labels": status.labels,
        "reclaim_deadline": status.reclaim_deadline,
        "quarantine": status.quarantine,
        "drain": node.out_of_service,
        "transfers": sum(t.state not in ENDED for t in status.transfers),
    }
