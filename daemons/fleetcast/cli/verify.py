"""`fleetcast verify`: nodes read and hash what they have installed; what differs is named and fetched from peers."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from rich.console import Group, RenderableType
from rich.text import Text

from fleetcast.bus import Bus
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.live import Fleet, watched
from fleetcast.cli.problems import Exit, Problem, not_found, timed_out
from fleetcast.cli.running import run_async
from fleetcast.cli.table import table
from fleetcast.cli.units import duration, parse_duration, size
from fleetcast.cli.waiting import split_target
from fleetcast.daemons.distributor.report import VERIFY_SUBJECT, FileVerdict, InspectionReport, InspectionRequest

AGAIN_SECONDS = 1.0
"""Distance of looks at a repair: one look hashes everything that was asked for."""


@dataclass(frozen=True)
class Wanted:
    """What is to be verified: a model and version (None: all), on these nodes (empty: all)."""

    model: str | None
    version: str | None
    nodes: tuple[str, ...]

    def request(self) -> bytes:
        """The body of the service request."""
        request = InspectionRequest(model=self.model, version=self.version, nodes=self.nodes or None)
        return request.model_dump_json().encode()


@dataclass(frozen=True)
class Verification:
    """What all nodes found.

    Attributes:
        silent: nodes that should have answered and did not.
    """

    reports: tuple[InspectionReport, ...]
    silent: tuple[str, ...]

    @property
    def damaged(self) -> tuple[tuple[str, FileVerdict], ...]:
        """Node and file of everything that differs."""
        return tuple((report.node, file) for report in self.reports for file in report.checked if not file.ok)

    @property
    def ok(self) -> bool:
        """Every node that should have answered found everything right."""
        return not self.damaged and not self.silent

    def cures(self, earlier: "Verification") -> bool:
        """Whether everything that was damaged *earlier* is there again, and right. A version that is being fetched is
        not installed meanwhile, so that nothing of it is checked at all."""
        right = {(report.node, file.path) for report in self.reports for file in report.checked if file.ok}
        return self.ok and all((node, file.path) in right for node, file in earlier.damaged)

    def document(self) -> dict[str, object]:
        """The verification in JSON."""
        return {
            "ok": self.ok,
            "checked": [
                {"node": report.node} | file.model_dump(mode="json")
                for report in self.reports
                for file in report.checked
            ],
            "repairing": [
                {"node": report.node} | each.model_dump() for report in self.reports for each in report.repairing
            ],
            "silent": list(self.silent),
        }


def run(call: Call, wanted: str | None, *, everything: bool, nodes: Sequence[str], wait: bool, timeout: str) -> Exit:
    """Verify, show, and with *wait* return when what was damaged is right again."""
    seconds = parse_duration(timeout, option="--timeout")
    model, version = split_target(wanted) if wanted and not everything else (None, None)
    named = Wanted(model, version, tuple(nodes))
    return run_async(_run(call, target(call), named, seconds, wait=wait, per_node=everything))


async def _run(call: Call, aim: Target, wanted: Wanted, seconds: float, *, wait: bool, per_node: bool) -> Exit:
    async with connected(aim) as bus, watched(bus, aim.settings.distributor.heartbeat_seconds) as fleet:
        first = await ask(bus, fleet, wanted, timeout_seconds=seconds)
        if not any(report.checked for report in first.reports) and not first.silent:
            raise not_found(f"nothing of {wanted.model or 'any model'} is installed", next_step="fleetcast status")
        repaired = False
        if first.damaged and wait:
            call.out.say(_sentence(first))
            await until_repaired(bus, fleet, wanted, first, timeout_seconds=seconds)
            repaired = True
    call.out.document(first.document() | {"repaired": repaired})
    call.out.show(per_node_picture(first) if per_node else table(_COLUMNS, _rows(first)))
    call.out.say(_sentence(first) + ("; all of it is repaired" if repaired else ""))
    return Exit.OK if first.ok or (repaired and not first.silent) else Exit.FAILED


async def ask(bus: Bus, fleet: Fleet, wanted: Wanted, *, timeout_seconds: float) -> Verification:
    """Have the nodes verify.

    Raises:
        Problem: no node can answer, or one that was named is not there.
    """
    alive = {node.name for node in fleet.nodes if node.alive}
    expected = alive & set(wanted.nodes) if wanted.nodes else alive
    missing = sorted(set(wanted.nodes) - alive)
    if missing:
        raise not_found(f"no running node is called {', '.join(missing)}", next_step="fleetcast status")
    if not expected:
        raise Problem("no_daemon", "no node is running that could verify", next_step="fleetcast status")
    answers = await bus.request_many(
        # Nodes hash for as long as they have bytes: the first answer says nothing about when the last one comes.
        VERIFY_SUBJECT,
        wanted.request(),
        timeout_seconds=timeout_seconds,
        expect=len(alive),
        settle_seconds=None,
    )
    reports = sorted((r for r in map(_report, answers) if r.node in expected), key=lambda r: r.node)
    silent = expected - {report.node for report in reports}
    return Verification(tuple(reports), tuple(sorted(silent)))


async def until_repaired(
    bus: Bus, fleet: Fleet, wanted: Wanted, damage: Verification, *, timeout_seconds: float
) -> Verification:
    """Verify again and again until all of *damage* is made good.

    Raises:
        Problem: something is still missing or differs when time is up.
    """
    found = damage
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                found = await ask(bus, fleet, wanted, timeout_seconds=timeout_seconds)
                if found.cures(damage):
                    return found
                await asyncio.sleep(AGAIN_SECONDS)
    except TimeoutError:
        why = _sentence(found) if found else "no answer came"
        raise timed_out(f"not repaired after {timeout_seconds:g} s", why=why, next_step="fleetcast transfers") from None


def _report(answer: bytes) -> InspectionReport:
    try:
        return InspectionReport.model_validate_json(answer)
    except ValidationError as error:
        raise Problem("bad_answer", "a node answered something that is no report", why=str(error)) from error


def per_node_picture(found: Verification) -> RenderableType:
    """One line per node, then the files that differ."""
    rows = [_node_row(report) for report in found.reports]
    rows += [(node, "-", "-", "-", "-", "no answer") for node in found.silent]
    lines = table(("NODE", "VERSIONS", "FILES", "BYTES", "TOOK", "RESULT"), rows, right=(1, 2, 3, 4))
    wrong = [row for row in _rows(found) if row[3] != "ok"]
    return Group(lines, Text(""), table(_COLUMNS, wrong)) if wrong else lines


def _node_row(report: InspectionReport) -> Sequence[object]:
    versions = {(file.kind, file.model, file.version) for file in report.checked}
    wrong = sum(not file.ok for file in report.checked)
    result = f"{wrong} DAMAGED" if wrong else "ok"
    amount = size(sum(file.bytes for file in report.checked))
    return report.node, len(versions), len(report.checked), amount, duration(report.seconds), result


_COLUMNS = ("NODE", "MODEL@VERSION", "FILE", "RESULT", "EXPECTED", "FOUND")


def _rows(found: Verification) -> Iterable[Sequence[object]]:
    for report in found.reports:
        for file in report.checked:
            name = f"{file.model}@{file.version}"
            result, actual = ("ok", "same") if file.ok else ("DAMAGED", (file.actual or "missing")[:16])
            yield report.node, name, file.path, result, file.expected[:16], actual


def _sentence(found: Verification) -> str:
    files = sum(len(report.checked) for report in found.reports)
    said = [f"{files} files on {len(found.reports)} nodes verified"]
    said += [f"{node} holds damaged {file.path}; it is being fetched again from peers" for node, file in found.damaged]
    said += [f"{node} did not answer" for node in found.silent]
    return "; ".join(said)
