"""`fleetcast evidence`: what is said about a version, for gates and people."""

import hashlib
import json
from pathlib import Path
from typing import Any

from fleetcast.bus import Bus
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.problems import Exit, not_found, usage
from fleetcast.cli.registry.asking import ask, decide, parsed, show
from fleetcast.cli.running import run_async
from fleetcast.events.lifecycle import Facts
from fleetcast.events.payloads import ObjectRef
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import Describe

MAX_REPORT_BYTES = 16 * 2**20
_TRUTH = {"true": True, "yes": True, "false": False, "no": False}


def record(
    call: Call,
    model: str,
    version: str,
    pairs: tuple[str, ...],
    *,
    report: Path | None,
    reason: str | None,
    dry_run: bool,
) -> Exit:
    """Record facts and flags of a version."""
    facts, flags, metadata = split(pairs)
    fields: dict[str, object] = {"do": "describe", "model": model, "version": version}
    named = {name: {"value": value} for name, value in flags.items()}
    command = parsed({**fields, "facts": facts, "flags": named, "metadata": metadata})
    assert isinstance(command, Describe)
    if report is not None and not flags:
        raise usage("--report is about flags, and none is set", next_step="name=true beside --report FILE")
    data = _read(report) if report else None
    return run_async(_record(call, target(call), command, report, data, reason, dry_run=dry_run))


async def _record(
    call: Call,
    aim: Target,
    command: Describe,
    report: Path | None,
    data: bytes | None,
    reason: str | None,
    *,
    dry_run: bool,
) -> Exit:
    async with connected(aim) as bus:
        if report is not None and data is not None:
            kept = await _keep(bus, report, data, dry_run=dry_run)
            flags = {name: flag.model_copy(update={"report": kept}) for name, flag in command.flags.items()}
            command = command.model_copy(update={"flags": flags})
        return show(call, await ask(RegistryClient(bus, actor=aim.source), command, reason=reason, dry_run=dry_run))


async def _keep(bus: Bus, report: Path, data: bytes, *, dry_run: bool) -> ObjectRef:
    """The report in the object bucket, under its digest: the record names it for ever."""
    digest = hashlib.sha256(data).hexdigest()
    name = f"report/{digest[:32]}/{report.name}"
    if not dry_run:
        await bus.object_put(name, data)
    return ObjectRef(name=name, sha256=digest, size=len(data))


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise not_found(f"{path} cannot be read: {error.strerror}", next_step="--report with a file that is") from error
    if not 0 < len(data) <= MAX_REPORT_BYTES:
        raise usage(f"{path} has {len(data)} bytes; a report has 1 to {MAX_REPORT_BYTES}")
    return data


def split(pairs: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, bool], dict[str, Any]]:
    """Facts, flags and metadata of `NAME=VALUE` arguments: a fact is known by its name, a flag by its truth value,
    metadata by `metadata.NAME`, a metric by `metrics.NAME`.

    Raises:
        Problem: an argument is none of them.
    """
    facts: dict[str, Any] = {}
    flags: dict[str, bool] = {}
    metadata: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise usage(f"{pair!r} is not NAME=VALUE", next_step="fleetcast evidence set MODEL VERSION NAME=VALUE …")
        if name.startswith("metadata."):
            metadata[name.removeprefix("metadata.")] = _value(text)
        elif name.startswith("metrics."):
            facts.setdefault("evaluation_metrics", {})[name.removeprefix("metrics.")] = _value(text)
        elif name in {"tags", "data_sets"}:
            facts[name] = [part for part in text.split(",") if part]
        elif name in Facts.model_fields:
            facts[name] = text if _is_text(name) else _value(text)
        elif text.lower() in _TRUTH:
            flags[name] = _TRUTH[text.lower()]
        else:
            raise usage(
                f"{name} is neither a fact nor a flag: {text!r} is no truth value",
                why="facts: " + ", ".join(sorted(set(Facts.model_fields) - {"evaluations", "rating"})),
                next_step=f"{name}=true for a flag, metrics.{name}=… for a metric, metadata.{name}=… for the rest",
            )
    return facts, flags, metadata


def _is_text(name: str) -> bool:
    return "str" in str(Facts.model_fields[name].annotation)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def games(call: Call, model: str, version: str, results: tuple[str, ...], *, reason: str | None, dry_run: bool) -> Exit:
    """Record the games of an evaluation: `OPPONENT=WINS/LOSSES[/DRAWS]`."""
    counts: dict[str, object] = {}
    for result in results:
        opponent, _, score = result.partition("=")
        parts = score.split("/")
        if not opponent or len(parts) not in {2, 3} or not all(part.lstrip("-").isdigit() for part in parts):
            raise usage(f"{result!r} is not OPPONENT=WINS/LOSSES[/DRAWS]", next_step="random=92/6/2")
        counts[opponent] = dict(zip(("wins", "losses", "draws"), map(int, parts), strict=False))
    command = parsed({"do": "evaluate", "model": model, "version": version, "games": counts})
    return decide(call, command, reason=reason, dry_run=dry_run)


def rating(
    call: Call,
    model: str,
    version: str,
    elo: float,
    *,
    played: int,
    error: float | None,
    delta: float | None,
    delta_error: float | None,
    reason: str | None,
    dry_run: bool,
) -> Exit:
    """Record a rating."""
    said = {"elo": elo, "games": played, "error": error, "delta": delta, "delta_error": delta_error}
    command = parsed({"do": "evaluate", "model": model, "version": version, "rating": said})
    return decide(call, command, reason=reason, dry_run=dry_run)
