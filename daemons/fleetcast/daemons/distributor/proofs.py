"""Proofs that content loads: the format test of every file, and what the tests saw."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fleetcast.config.settings import VerifySettings
from fleetcast.events.content import Content, ContentFile, Format
from fleetcast.transport.checks import FormatReport, Verdict, check_format, detect_format, has_telling_name
from fleetcast.transport.errors import FormatRefused

Reports = dict[str, FormatReport]
"""Reports by path."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the format tests of some content said.

    Attributes:
        verdict: `ok` or `not tested (…)`.
        facts: what each test saw, by path.
    """

    verdict: str
    facts: Mapping[str, Mapping[str, object]]


async def prove(
    content: Content, paths: Mapping[str, Path], settings: VerifySettings, *, whole: bool = False, nice: int = 0
) -> Proof:
    """Run the format test on every file that has one.

    The files of a bundle are told apart by their names and first bytes. ONNX models come first: the files that they
    take weights from are data, whatever their first bytes look like.

    Raises:
        FormatRefused: a file does not load.
    """
    formats = await asyncio.to_thread(_formats, content, paths)
    reports: Reports = {}
    weights: frozenset[str] = frozenset()
    for file in sorted(content.files, key=lambda f: formats[f.path] is not Format.ONNX):
        if file.path in weights and not has_telling_name(file.path):
            continue
        report = await check_format(paths[file.path], formats[file.path], settings, whole=whole, nice=nice)
        if report.verdict is Verdict.REFUSED:
            raise FormatRefused(f"{file.path}: {report.detail}")
        reports[file.path] = report
        weights |= weights_beside(file.path, report)
    return Proof(summary(content, reports), {path: report.facts for path, report in reports.items()})


def _formats(content: Content, paths: Mapping[str, Path]) -> dict[str, Format]:
    return {f.path: _format(content, f, paths[f.path]) for f in content.files}


def _format(content: Content, file: ContentFile, path: Path) -> Format:
    return detect_format(path, name=file.path) if content.format is Format.MIXED else content.format


def weights_beside(path: str, report: FormatReport) -> frozenset[str]:
    """The files that a model takes its weights from, by path; none for what is no model."""
    return frozenset(
        str(PurePosixPath(path).parent / str(location)) for location in _listed(report.facts.get("external"))
    )


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def summary(content: Content, reports: Mapping[str, FormatReport]) -> str:
    """One verdict for all files. Beside files that were proven, those that have no test (texts, tables) do not count;
    those that have none because it would run them (pickles) always do."""
    verdicts = {report.verdict for report in reports.values()}
    untested = [(path, r.detail) for path, r in reports.items() if r.verdict is Verdict.NOT_TESTED]
    if Verdict.OK in verdicts:
        untested = [(path, detail) for path, detail in untested if detail != Format.OPAQUE.value]
    if not untested:
        return "ok"
    path, detail = untested[-1]
    return f"not tested ({detail})" if len(content.files) == 1 else f"not tested ({path}: {detail})"
