"""The ladder of a transfer in plain words."""

from tests.unit.cli.builders import ARTIFACT, event, node, transfer

from fleetcast.cli.narrate import sentence
from fleetcast.cli.rungs import told
from fleetcast.cli.why import transfer_facts
from fleetcast.events import payloads as p
from fleetcast.registry.picture.nodes import NodeView

RUNGS = [
    {"transport": "bittorrent", "state": "stalled", "reason": "no byte for 5 s", "received_bytes": 2**20, "seconds": 9},
    {"transport": "aria2", "state": "running", "received_bytes": 2**19, "seconds": 1},
    {"transport": "rsync", "state": "skipped", "reason": "no node that holds all of it serves rsync"},
]


def test_the_choice_comes_first_then_every_rung_that_has_run() -> None:
    running = transfer("node-2", choice="bittorrent first: 64 MB is 50 MB or more", rungs=RUNGS)

    assert told(running) == (
        "node-2 fetches hex8@2: bittorrent first: 64 MB is 50 MB or more",
        "  bittorrent was left after 1.0 MiB in 9.00 s: no byte for 5 s",
        "  aria2 runs, 512.0 KiB in 1.00 s",
    )


def test_a_transfer_that_chose_nothing_yet_has_nothing_to_tell() -> None:
    assert told(transfer("node-2")) == ()


def test_why_tells_of_running_transfers_of_the_model_or_of_the_node() -> None:
    running = transfer("node-2", choice="aria2 first: a single receiver gains nothing from a swarm")
    ended = transfer("node-2", state="installed", version="1", choice="bittorrent first: large")
    view = NodeView(node("node-2", transfers=(running, ended)), 1.0, lost=False)

    for name in ("hex8", "node-2"):
        assert transfer_facts(name, (view,)) == [
            "node-2 fetches hex8@2: aria2 first: a single receiver gains nothing from a swarm"
        ]
    assert transfer_facts("other", (view,)) == []


def test_a_move_tells_from_what_to_what_with_what_and_why() -> None:
    payload = p.TransferMoved(
        transfer="t",
        artifact=ARTIFACT,
        node="node-3",
        transport="aria2",
        model="hex8",
        version="2",
        reason="no byte for 5 s, 2 sources connected",
        from_transport="bittorrent",
        bytes_kept=3 * 2**20,
    )
    assert sentence(event(payload)) == (
        "node-3 moves hex8@2 from bittorrent to aria2, keeps 3.0 MiB: no byte for 5 s, 2 sources connected"
    )
