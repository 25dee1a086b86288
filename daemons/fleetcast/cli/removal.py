"""`fleetcast gc`: nodes remove what nothing pins, or say what that would be, and why the rest stays. Distributors look
after versions, trainers after the folders of runs."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from pydantic import ValidationError
from rich.console import Group, RenderableType
from rich.text import Text

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, ServiceFailed
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.live import Fleet, watched
from fleetcast.cli.problems import Exit, Problem, not_found
from fleetcast.cli.running import run_async
from fleetcast.cli.table import table
from fleetcast.cli.units import counted, parse_duration, size
from fleetcast.daemons.distributor.report import GC_SUBJECT, CollectionReport, CollectionRequest
from fleetcast.daemons.trainer.folders.commands import FoldersReport, FoldersRequest
from fleetcast.events.training import folders_subject

KEPT_SHOWN = 40
"""Kept versions that are listed for people; --json has all."""


def run(call: Call, *, nodes: Sequence[str], reason: str | None, dry_run: bool, timeout: str) -> Exit:
    """Have *nodes* (none: all) remove what nothing pins; exit 1 when one did not answer."""
    seconds = parse_duration(timeout, option="--timeout")
    aim = target(call)
    request = CollectionRequest(dry_run=dry_run, nodes=tuple(nodes) or None, actor=aim.source, reason=reason)
    reports, folders, silent, failed = run_async(_ask(aim, request, seconds))
    call.out.document(
        {
            "dry_run": dry_run,
            "ok": not (silent or failed),
            "nodes": [report.model_dump(mode="json", exclude={"dry_run"}) for report in reports],
            "bytes": sum(report.bytes for report in reports),
            "run_folders": [report.model_dump(mode="json", exclude={"dry_run"}) for report in folders],
            "silent": silent,
            "failed": failed,
        }
    )
    call.out.show(picture(reports, folders, dry_run=dry_run))
    call.out.say(sentence(reports, silent, folders, failed, dry_run=dry_run))
    return Exit.FAILED if silent or failed else Exit.OK


async def _ask(
    aim: Target, request: CollectionRequest, seconds: float
) -> tuple[list[CollectionReport], list[FoldersReport], list[str], dict[str, str]]:
    """What distributors and trainers answer, asked at the same time; who is silent, and who failed with which words."""
    async with connected(aim) as bus, watched(bus, aim.settings.distributor.heartbeat_seconds) as fleet:
        alive, expected = _expected(fleet, request)
        (reports, silent), (folders, mute, failed) = await asyncio.gather(
            ask(bus, request, alive, expected, timeout_seconds=seconds),
            ask_trainers(bus, fleet, request, timeout_seconds=seconds),
        )
    said = {f"the trainer of {node}": why for node, why in failed.items()}
    return reports, folders, [*silent, *(f"the trainer of {node}" for node in mute)], said


def _expected(fleet: Fleet, request: CollectionRequest) -> tuple[set[str], set[str]]:
    """The nodes that run, and those of them that are to answer.

    Raises:
        Problem: a node that was named does not run, or none does.
    """
    alive = {node.name for node in fleet.nodes if node.alive}
    expected = alive & set(request.nodes) if request.nodes else alive
    missing = sorted(set(request.nodes or ()) - alive)
    if missing:
        raise not_found(f"no running node is called {', '.join(missing)}", next_step="fleetcast status")
    if not expected:
        raise Problem("no_daemon", "no node is running that could answer", next_step="fleetcast status")
    return alive, expected


async def ask(
    bus: Bus, request: CollectionRequest, alive: Collection[str], expected: Collection[str], *, timeout_seconds: float
) -> tuple[list[CollectionReport], list[str]]:
    """What the nodes answer, by name, and those of *expected* that did not."""
    answers = await bus.request_many(
        # Removing takes as long as a node has versions: the first answer says nothing about the last.
        GC_SUBJECT,
        request.model_dump_json().encode(),
        timeout_seconds=timeout_seconds,
        expect=len(alive),
        settle_seconds=None,
    )
    reports = sorted((r for r in map(_report, answers) if r.node in expected), key=lambda r: r.node)
    return reports, sorted(set(expected) - {report.node for report in reports})


async def ask_trainers(
    bus: Bus, fleet: Fleet, request: CollectionRequest, *, timeout_seconds: float
) -> tuple[list[FoldersReport], list[str], dict[str, str]]:
    """What the trainers of the nodes answer, by name; those that should have answered and did not; and what those say
    that could not do it, by node."""
    body = FoldersRequest(dry_run=request.dry_run, actor=request.actor, reason=request.reason).model_dump_json()

    async def one(node: str) -> FoldersReport | str | None:
        try:
            said = await bus.request(folders_subject(node), body.encode(), timeout_seconds=timeout_seconds)
            return FoldersReport.model_validate_json(said)
        except ServiceFailed as error:
            return str(error)
        except ValidationError as error:
            return f"its answer is no report: {error}"
        except (BusTimeout, ConnectionLost, NoResponder):
            return None

    alive = {trainer.name for trainer in fleet.attendants(("trainer",))["trainer"] if trainer.alive}
    asked = sorted(alive & set(request.nodes) if request.nodes else alive)
    answers = dict(zip(asked, await asyncio.gather(*(one(node) for node in asked)), strict=True))
    reports = [said for said in answers.values() if isinstance(said, FoldersReport)]
    failed = {node: said for node, said in answers.items() if isinstance(said, str)}
    return reports, [node for node, said in answers.items() if said is None], failed


def _report(answer: bytes) -> CollectionReport:
    try:
        return CollectionReport.model_validate_json(answer)
    except ValidationError as error:
        raise Problem("bad_answer", "a node answered something that is no report", why=str(error)) from error


def picture(
    reports: Sequence[CollectionReport], folders: Sequence[FoldersReport] = (), *, dry_run: bool
) -> RenderableType:
    """What goes from where, then what stays and why; the same version on many nodes is one row."""
    verb = "WOULD GO" if dry_run else "REMOVED"
    gone = _rows((r.node, f"{v.model}@{v.version}", v.bytes, "") for r in reports for v in r.removed)
    gone += _rows((r.node, f"run {f.run}", f.bytes, "") for r in folders for f in r.removed)
    kept = _rows((r.node, f"{v.model}@{v.version}", v.bytes, "; ".join(v.why)) for r in reports for v in r.kept)
    kept += _rows((r.node, f"run {f.run}", f.bytes, f.why) for r in folders for f in r.kept)
    parts: list[RenderableType] = []
    if gone:
        lines = [(name, size(count), nodes) for name, count, nodes, _ in gone]
        parts += [table((verb, "BYTES", "FROM"), lines, right=(1,))]
    if kept:
        rows = [(name, size(count), why, nodes) for name, count, nodes, why in kept[:KEPT_SHOWN]]
        parts += [Text("")] * bool(parts) + [table(("KEPT", "BYTES", "BECAUSE", "ON"), rows, right=(1,))]
        rest = len(kept) - KEPT_SHOWN
        parts += [Text(f"… and {rest} more; --json shows all")] * (rest > 0)
    return Group(*parts)


def _rows(found: Iterable[tuple[str, str, int, str]]) -> list[tuple[str, int, str, str]]:
    """Name, bytes, nodes and reason, one row for what is alike on several nodes."""
    alike: dict[tuple[str, int, str], list[str]] = {}
    for node, name, count, why in found:
        alike.setdefault((name, count, why), []).append(node)
    return [(name, count, _nodes(nodes), why) for (name, count, why), nodes in sorted(alike.items())]


def _nodes(nodes: Sequence[str]) -> str:
    return ", ".join(nodes) if len(nodes) <= 4 else f"{', '.join(nodes[:3])} and {len(nodes) - 3} more"


def sentence(
    reports: Sequence[CollectionReport],
    silent: Sequence[str],
    folders: Sequence[FoldersReport] = (),
    failed: Mapping[str, str] = MappingProxyType({}),
    *,
    dry_run: bool,
) -> str:
    """`would remove 2 versions, 128.0 MiB in 2 files, on 3 nodes; 1 folder of ended runs, 40.0 MiB`."""
    verb = "would remove" if dry_run else "removed"
    versions, files = sum(len(r.removed) for r in reports), sum(r.files for r in reports)
    amount = size(sum(r.bytes for r in reports))
    counts = f"{counted(versions, 'version')}, {amount} in {counted(files, 'file')}"
    said = [f"{verb} {counts}, on {counted(len(reports), 'node')}"]
    if left := [folder for report in folders for folder in report.removed]:
        said.append(f"{counted(len(left), 'folder')} of ended runs, {size(sum(folder.bytes for folder in left))}")
    said += [f"{who} failed: {why}" for who, why in failed.items()]
    return "; ".join([*said, *(f"{node} did not answer" for node in silent)])
