"""Lanes for people: the list, one lane, and the ledger that `fleetcast why` prints."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from fleetcast.cli.table import table
from fleetcast.cli.units import clock, counted, moment
from fleetcast.daemons.trainer.lanes.commands import LaneView
from fleetcast.events.training import CountedExport, LaneState, TrainingPhase
from fleetcast.registry.picture import agreement

_MARK = "-"
_EXPORT = "fleetcast emit EXPORT_COMPLETED lane={} path=FILE.npz samples_new=N samples_total=N"
SHOWN = 10
"""Data sets in a list; --json has all that are kept."""


def listing(lanes: Sequence[LaneView]) -> Table:
    """One row per lane."""
    columns = ("LANE", "SAMPLES", "REQUIRED", "STATUS", "BUCKET", "RUNS", "RUN", "NEXT")
    return table(columns, [_row(each) for each in lanes], right=(1, 2, 4, 5))


def _row(view: LaneView) -> tuple[object, ...]:
    return (
        view.lane,
        f"{view.samples:,}",
        f"{view.required:,}" if view.defined else _MARK,
        view.standing,
        f"{view.tokens:,g}/{view.needed:,}" if view.defined else f"{view.tokens:,g}",
        view.state.runs if view.state is not None else 0,
        _run(view),
        _next(view),
    )


def _run(view: LaneView) -> str:
    if view.run is None:
        return _MARK
    where = f" on {view.run.owner}" if view.run.owner else ""
    return f"{view.run.phase.value}{where}"


def _next(view: LaneView) -> str:
    if view.run is not None:
        paused = view.state.paused if view.state is not None else None
        return f"nothing after this run: paused by {paused.by}: {paused.reason}" if paused else "when the run has ended"
    said = "; ".join(view.reasons)
    return f"due: {said}" if view.due else said


def differences(lanes: Sequence[LaneView]) -> list[str]:
    """The lanes that are not the same on all nodes, a sentence each."""
    return [agreement.told(each.lane, each.copies) for each in lanes if each.copies is not None]


def shown(view: LaneView) -> list[Table]:
    """Everything about one lane but the nodes."""
    drawn = [table(("FACT", "VALUE"), list(_facts(view)))]
    if view.state is not None and view.state.exports:
        drawn.append(_exports(view.state.exports[:SHOWN]))
    return drawn


def _facts(view: LaneView) -> Iterable[tuple[str, str]]:
    yield "lane", view.lane
    yield "status", view.standing
    yield "next", _next(view)
    if view.state is not None:
        yield from _ledger(view.state)
    yield from _flat("", view.definition)
    if view.file:
        yield "file", f"{view.file} ({view.digest})"
    if view.copies is not None:
        yield "other nodes", agreement.told(view.lane, view.copies)


def _ledger(state: LaneState) -> Iterable[tuple[str, str]]:
    yield "samples in", f"{state.samples_in:,}"
    yield "samples spent", f"{state.samples_spent:,}"
    yield "not carried over", f"{state.samples_capped:,}"
    yield "in the bucket", f"{state.tokens:,g}"
    yield "runs", str(state.runs)
    if state.run is not None:
        yield "run", state.run
    if state.started_at is not None:
        yield "last run queued", clock(moment(state.started_at))
    if state.exported_at is not None:
        yield "last export begun", clock(moment(state.exported_at))
    if state.paused is not None:
        yield "paused", f"by {state.paused.by} at {clock(moment(state.paused.at))}: {state.paused.reason}"


def _flat(prefix: str, values: dict[str, object]) -> Iterable[tuple[str, str]]:
    """A definition in lines; what was left out and means nothing is left out here."""
    for name, value in values.items():
        if value is None or value == {} or value == [] or value == "" or name == "name":
            continue
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{name}.", value)
        elif isinstance(value, list):
            yield f"{prefix}{name}", " ".join(str(each) for each in value)
        else:
            yield f"{prefix}{name}", str(value)


def _exports(exports: Sequence[CountedExport]) -> Table:
    columns = ("DATA SET", "NEW", "TOTAL", "INTO THE BUCKET", "FROM", "AT", "")
    rows = [
        (
            each.version,
            f"{each.samples:,}",
            f"{each.total:,}",
            f"{each.added:,g}",
            each.node or _MARK,
            clock(moment(each.at)),
            "withdrawn" if each.withdrawn else "",
        )
        for each in exports
    ]
    return table(columns, rows, right=(1, 2, 3))


def told(view: LaneView) -> list[str]:
    """A lane's ledger in sentences: samples in, spent, what is missing, which nodes may take a run and why each other
    one may not."""
    said = [_standing(view)]
    if view.state is not None:
        said.append(_money(view.state, view.needed))
        said += _newest(view.state)
        said += _last_end(view.state)
    if view.copies is not None:
        said.append(agreement.told(view.lane, view.copies))
    if view.defined or view.run is not None:
        said.append(_what_next(view))
    if view.defined and (view.state is None or view.state.latest is None):
        said.append(f"next: {_EXPORT.format(view.lane)}")
    may = [each for each in view.nodes if each.eligible]
    said += [f"{each.node} may take it, score {each.score:g}" for each in sorted(may, key=lambda each: -each.score)]
    said += [f"{each.node} may not: {each.reason}" for each in view.nodes if not each.eligible]
    return said


def _standing(view: LaneView) -> str:
    if not view.defined:
        return f"lane {view.lane} is undefined: {'; '.join(view.reasons)}"
    enough = f"the newest data set has {view.samples:,} of {view.required:,} samples"
    return f"lane {view.lane} is {view.standing}: {enough}"


def _money(state: LaneState, needed: int) -> str:
    capped = f", {state.samples_capped:,} not carried over" if state.samples_capped else ""
    spent = f"{state.samples_spent:,} spent in {counted(state.runs, 'run')}"
    owed = f" (a debt of {-state.tokens:,g})" if state.tokens < 0 else ""
    of = f" of {needed:,}" if needed else ""
    return f"{state.samples_in:,} samples in{capped}, {spent}; {state.tokens:,g}{of} in the bucket{owed}"


def _newest(state: LaneState) -> list[str]:
    if state.latest is None:
        return []
    used = "was trained on" if state.latest.artifact == state.used else "is new to training"
    came = clock(moment(state.latest.at))
    return [f"newest data set: {state.lane}@{state.latest.version}, {state.latest.samples:,} new, at {came}; it {used}"]


def _last_end(state: LaneState) -> list[str]:
    if state.ended is None:
        return []
    end = state.ended
    verb = "was cancelled" if end.phase is TrainingPhase.CANCELLED else end.phase.value
    detail = f": {end.detail}" if end.detail else ""
    return [f"the last run that ended, {end.run}, {verb} at {clock(moment(end.at))}{detail}"]


def _what_next(view: LaneView) -> str:
    if view.run is not None:
        where = f" on {view.run.owner}, claim {view.run.claim}" if view.run.owner else ""
        detail = f": {view.run.phase_detail}" if view.run.phase_detail else ""
        return f"run {view.run.run} is {view.run.phase.value}{where}{detail}"
    at = f"; due at {clock(moment(view.due_at))} if nothing changes" if view.due_at else ""
    return f"{'a run is due' if view.due else 'no run is due'}: {'; '.join(view.reasons)}{at}"
