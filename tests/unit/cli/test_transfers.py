"""Transfers as a person sees them: rows, sums, and one artifact's story."""

from collections.abc import Sequence

from rich.console import Console, RenderableType
from tests.unit.cli.builders import ARTIFACT, event, transfer

from fleetcast.cli.feeding import Story, choose, fed, from_facts, picture, stories
from fleetcast.cli.transfers import drawn, in_one_line
from fleetcast.events.payloads import TransferFailed, TransferMoved, TransferVerified
from fleetcast.events.state import RungStatus, TransferStatus
from fleetcast.registry.picture.pace import by_artifact, newest, summary

MIB = 2**20


def shown(picture: RenderableType, width: int = 500) -> list[str]:
    console = Console(width=width, no_color=True, highlight=False)
    with console.capture() as captured:
        console.print(picture)
    return [line.rstrip() for line in captured.get().splitlines()]


def rows(transfers: Sequence[TransferStatus], *, limit: int = 40, width: int = 500) -> list[str]:
    summaries = [summary(group) for group in by_artifact(newest(transfers)).values()]
    return shown(drawn(transfers, summaries, limit=limit, width=width), width)


def running(node: str, **more: object) -> TransferStatus:
    fields: dict[str, object] = {
        "bytes_total": 64 * MIB,
        "done": 32 * MIB,
        "seconds": 10.0,
        "rate_bytes_per_second": 4.0 * MIB,
        "eta_seconds": 8.0,
        "peers": 2,
        "bytes_by_source": {"node-1": 20 * MIB, "node-3": 12 * MIB},
    }
    return transfer(node, **(fields | more))  # type: ignore[arg-type]


def test_a_wide_terminal_shows_who_how_far_how_fast_how_and_from_whom() -> None:
    header, line = rows([running("node-2", bytes_uploaded=3 * MIB)])
    for column in ("NODE", "%", "RATE", "LEFT", "RUNG", "SLOW", "FROM", "SENT"):
        assert column in header
    for value in ("node-2", "hex8@2", "50", "4.0 MiB/s", "8.00 s", "bittorrent", "node-1 20.0 MiB", "3.0 MiB"):
        assert value in line


def test_a_narrow_terminal_keeps_what_matters_and_wraps_nothing() -> None:
    lines = rows([running("node-2")], width=80)
    assert len(lines) == 2
    assert lines[0].split() == ["NODE", "MODEL@VERSION", "%", "LEFT", "SLOW"]


def test_a_left_rung_is_shown_beside_the_one_that_runs() -> None:
    rungs = (RungStatus(transport="bittorrent", state="stalled"), RungStatus(transport="aria2", state="running"))
    _, line = rows([running("node-2", transport="aria2", rungs=rungs)])
    assert "aria2 (after bittorrent)" in line


def test_300_nodes_are_summed_up_and_the_slow_ones_shown_first() -> None:
    fleet = [running(f"node-{i}") for i in range(299)] + [running("zz", rate_bytes_per_second=1.0, done=1)]
    lines = rows(fleet, limit=5)
    assert lines[0].startswith("hex8@2, 64.0 MiB: 300 fetching; 50 % (median), ")
    assert lines[0].endswith("; 1 is slow")
    assert "5 of 300 transfers" in lines[2]
    assert lines[4].startswith("zz ")
    assert len(lines) == 9
    assert len(rows(fleet, limit=0)) == 301


def test_nothing_to_show_is_said() -> None:
    assert rows([]) == ["nothing is being transferred"]


def test_a_transfer_fits_into_one_line_for_status() -> None:
    assert in_one_line(running("node-2"), "its disk: 40 MiB wait to be written") == (
        "node-2 fetching hex8@2: 50 %, 4.0 MiB/s, 8.00 s left, by bittorrent; its disk: 40 MiB wait to be written"
    )


FACT = {
    "transfer": "t9",
    "artifact": ARTIFACT,
    "node": "node-3",
    "transport": "aria2",
    "model": "hex8",
    "version": "2",
    "bytes_by_source": {"node-1": 60 * MIB, "node-2": 4 * MIB},
    "seconds": 16.0,
}


def test_an_ended_transfer_is_told_from_its_facts_with_its_moves() -> None:
    moved = TransferMoved(**FACT, reason="no byte for 5 s", from_transport="bittorrent", bytes_kept=30 * MIB)
    log = [event(moved, after=6), event(TransferVerified(**FACT), after=16)]
    story = stories([], log, {ARTIFACT: ["node-1", "node-3"]})[ARTIFACT]
    lines = shown(picture(story, limit=40, width=500))
    assert lines[0] == "hex8@2, 64.0 MiB: 1 installed"
    assert "installed on node-1, node-3" in lines
    assert "  node-3 went from bittorrent to aria2: no byte for 5 s" in lines


def test_what_a_node_shows_says_more_than_its_facts() -> None:
    live = transfer("node-3", transfer="t9", state="installed", done=100, choice="bittorrent first: because")
    story = stories([live], [event(TransferVerified(**FACT), after=16)], {})[ARTIFACT]
    assert [t.choice for t in story.transfers] == ["bittorrent first: because"]


def test_a_failed_transfer_keeps_its_reason_and_the_size_that_others_know() -> None:
    failed = from_facts([event(TransferFailed(**FACT | {"bytes_by_source": {}}, reason="no source answered"))])
    story = stories([running("node-2"), *failed], [], {})[ARTIFACT]
    known = next(t for t in story.transfers if t.node == "node-3")
    assert (known.state, known.reason, known.bytes_total, known.bytes_done) == (
        "failed",
        "no source answered",
        64 * MIB,
        0,
    )


def test_who_feeds_whom_is_a_matrix_while_it_fits() -> None:
    story = Story((running("node-2"), running("node-3", bytes_by_source={"node-1": 5 * MIB})))
    lines = shown(picture(story, limit=40, width=500))
    at = lines.index("who feeds whom:")
    assert lines[at + 1].split() == ["TO", "\\", "FROM", "node-1", "node-3"]
    assert lines[at + 2].split() == ["node-2", "20.0", "MiB", "12.0", "MiB"]
    assert lines[at + 3].split() == ["node-3", "5.0", "MiB", "-"]


def test_who_feeds_whom_in_a_large_fleet_names_the_largest_sources() -> None:
    fleet = tuple(running(f"n{i:03}", bytes_by_source={f"n{i - 1:03}": i, "o": MIB}) for i in range(1, 301))
    lines = shown(picture(Story(fleet), limit=5, width=500))
    at = lines.index("who feeds whom:")
    assert lines[at + 1].strip().startswith("o gave 300.0 MiB to 300 nodes, most to n001 1.0 MiB")
    assert len(lines) < 40


def test_bytes_are_summed_by_source_largest_first() -> None:
    assert list(fed([running("node-2"), running("node-4")])) == ["node-1", "node-3"]


def test_a_story_is_found_by_name_by_version_and_by_the_start_of_an_id() -> None:
    other = transfer("node-2", version="3", artifact="b" * 64, transfer="zz1", started_at="2026-11-21T13:00:00Z")
    found = stories([running("node-2"), other], [], {})
    assert choose(found, "hex8@2") is found[ARTIFACT]
    assert choose(found, "bbbb") is found["b" * 64]
    assert choose(found, "ZZ1") is found["b" * 64]
    assert choose(found, "hex8@9") is None


def test_the_reason_why_a_node_is_slow_stands_in_the_story() -> None:
    slow = running("node-4", slow="verification: 90 MiB have arrived and are not proven yet")
    lines = shown(picture(Story((running("node-2"), slow)), limit=40, width=500))
    assert "  node-4: verification: 90 MiB have arrived and are not proven yet" in lines
