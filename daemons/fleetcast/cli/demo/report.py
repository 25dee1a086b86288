"""What the demo ends with: one JSON document, or a table, the paths, and the NATS commands that do the same."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleetcast.cli import history
from fleetcast.cli.demo.evidence import check, sha256_of
from fleetcast.cli.demo.material import CIRCLE, JUDGED, LANE, MODEL
from fleetcast.cli.demo.stage import ORIGIN, Stage
from fleetcast.cli.local.layout import Layout
from fleetcast.cli.output import Output
from fleetcast.cli.table import table
from fleetcast.cli.units import duration, rate, size
from fleetcast.events.payloads import VersionInstalled


@dataclass(frozen=True)
class StepResult:
    """One step: what it proved, or how it failed."""

    name: str
    ok: bool
    seconds: float
    detail: str

    def document(self) -> dict[str, object]:
        """The step in JSON."""
        return {"name": self.name, "ok": self.ok, "seconds": round(self.seconds, 3), "detail": self.detail}


@dataclass
class Report:
    """What has been shown so far."""

    steps: list[StepResult] = field(default_factory=list)
    nodes: list[dict[str, object]] = field(default_factory=list)
    installs: list[dict[str, object]] = field(default_factory=list)
    error: Mapping[str, object] | None = None

    @property
    def ok(self) -> bool:
        """Every step did what it should."""
        return self.error is None and bool(self.steps) and all(step.ok for step in self.steps)

    def document(self, seconds: float) -> dict[str, object]:
        """The whole in JSON."""
        said: dict[str, object] = {
            "ok": self.ok,
            "seconds": round(seconds, 3),
            "nodes": self.nodes,
            "steps": [step.document() for step in self.steps],
            "installs": self.installs,
        }
        return said | ({"error": dict(self.error)} if self.error else {})


async def installs(stage: Stage) -> list[dict[str, object]]:
    """Every install of the log, with the SHA-256 of the file that lies there now, read here.

    Raises:
        Disproved: an install that was reported is not there, or was not checked.
    """
    events = await history.collect(stage.bus, history.subjects(("version.installed",), None))
    newest = {
        (fact.model, fact.version, fact.node): fact
        for event in events
        if isinstance(fact := event.payload, VersionInstalled) and _is_shown(fact)
    }
    return [await asyncio.to_thread(_install, stage, fact) for _, fact in sorted(newest.items())]


def _is_shown(fact: VersionInstalled) -> bool:
    # What a run brings to other nodes, its checkpoints, is given back when it ends.
    return fact.model in {MODEL, JUDGED, LANE, CIRCLE}


def _install(stage: Stage, fact: VersionInstalled) -> dict[str, object]:
    # A lane and the model that it feeds may be called the same.
    folder = "datasets" if fact.path and Path(fact.path).parent.parent.name == "datasets" else "models"
    place = stage.local.layout.data(fact.node) / folder / fact.model / fact.version
    files = [path for path in place.rglob("*") if path.is_file()]
    check(len(files) == 1, f"{fact.node} reported {fact.model}@{fact.version}, but {place} holds {len(files)} files")
    size_found = files[0].stat().st_size
    check(size_found == fact.bytes, f"{files[0]} has {size_found} bytes, {fact.bytes} were reported")
    return {
        "node": fact.node,
        "model": fact.model,
        "version": fact.version,
        "sha256": sha256_of(files[0]),
        "bytes": size_found,
        "transport": fact.transport,
        "seconds": fact.seconds,
        "checks": fact.checks.model_dump(),
    }


def nodes(stage: Stage) -> list[dict[str, object]]:
    """The nodes as they are at the end."""
    found: list[dict[str, object]] = []
    for node in stage.fleet.nodes:
        served = {model.model: model.current for model in node.status.models}
        data = str(stage.local.layout.data(node.name))
        found.append({"node": node.name, "state": node.state, "data": data, "serves": served})
    return found


def tell(out: Output, report: Report, layout: Layout, *, kept: bool) -> None:
    """Table, paths and commands for a person."""
    out.text("")
    out.show(table(_COLUMNS, map(_row, report.installs), right=(3, 5, 6)))
    where = str(layout.folder) if kept else "DIR"
    for line in (*_paths(where, kept=kept), "", *_commands(where)):
        out.text(line)


_COLUMNS = ("NODE", "VERSION", "SHA-256", "BYTES", "TRANSPORT", "SECONDS", "RATE", "SIZE", "SHA256", "FORMAT")


def _row(install: Mapping[str, object]) -> Sequence[object]:
    count, seconds, checks = install["bytes"], install["seconds"], install["checks"]
    assert isinstance(count, int)
    assert isinstance(seconds, float)
    assert isinstance(checks, Mapping)
    fetched = install["transport"] not in {"none", "local", "origin"} and seconds > 0
    return (
        install["node"],
        f"{install['model']}@{install['version']}",
        str(install["sha256"])[:16],
        size(count),
        install["transport"],
        duration(seconds),
        rate(count / seconds) if fetched else "-",
        checks["size"],
        checks["sha256"],
        checks["format"],
    )


def _paths(where: str, *, kept: bool) -> Iterable[str]:
    yield ""
    yield f"paths on each node ({'kept' if kept else 'gone now; `fleetcast demo --keep` keeps the folder'}):"
    for name, meaning in (
        (f"nodes/NODE/data/models/{MODEL}/current/", "what is served; a symlink that only ever moves by rename"),
        (f"nodes/NODE/data/models/{MODEL}/previous/", "the version before it, complete: a rollback moves no bytes"),
        (f"nodes/NODE/data/models_essential/{MODEL}.safetensors", "the same under one flat name"),
        (f"nodes/NODE/data/datasets/{LANE}/", "data sets"),
        ("nodes/NODE/data/store/sha256/", "every file once, named by its SHA-256"),
        ("logs/", "one file per process"),
    ):
        yield f"  {where}/{name:<58} {meaning}"


def _commands(where: str) -> Iterable[str]:
    yield "the same with the NATS command line, while `fleetcast up --folder DIR` runs:"
    body = f'{{"version":"1","path":"{where}/publish/{MODEL}-1.safetensors","node":"{ORIGIN}"}}'
    data = f'{{"path":"{where}/publish/{LANE}-gen-1.npz","node":"{ORIGIN}","samples_new":20000,"samples_total":20000}}'
    for command in (
        f"nats pub -J fc.ev.model.promoted.{MODEL} '{body}'",
        f"nats pub -J fc.ev.export.completed.{LANE} '{data}'",
        "nats sub 'fc.ev.>' --translate 'fleetcast fmt'",
        "nats sub 'fc.progress.*'",
        f"nats stream get FC_REGISTRY --last-for fc.reg.state.slot.{MODEL}",
        "nats kv get fc_nodes node-1.distributor --raw",
        f'nats req fc.svc.distributor.verify \'{{"model":"{MODEL}"}}\' --replies 3 --timeout 30s',
        "nats micro ls",
    ):
        yield f"  {command}"
