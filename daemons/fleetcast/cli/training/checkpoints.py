"""`fleetcast checkpoints RUN`: what a run can go on from, why each is kept, and pins."""

from typing import Any

from rich.table import Table

from fleetcast.bus import Bus, patience
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, NotFound, ServiceFailed
from fleetcast.bus.streams import TRAINING
from fleetcast.cli.call import Call
from fleetcast.cli.connection import connected, target
from fleetcast.cli.narrate import printable
from fleetcast.cli.problems import Exit, Problem, not_found, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.table import table
from fleetcast.cli.units import clock, counted, duration, moment, size
from fleetcast.daemons.trainer.checkpoints import cadence
from fleetcast.daemons.trainer.checkpoints.commands import (
    CHECKPOINTS_SUBJECT,
    CheckpointAnswer,
    PinCheckpoint,
    UnpinCheckpoint,
)
from fleetcast.daemons.trainer.checkpoints.records import retention_of
from fleetcast.daemons.trainer.checkpoints.retention import Judgement, judge
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.daemons.trainer.ledger import read
from fleetcast.events.training import CheckpointRecord, TrainingRunState, training_subject

DEADLINE_SECONDS = 15.0
"""A person waits this long for a trainer that is just being restarted."""
LIST = "fleetcast runs    (lists them)"


def listed(call: Call, run: str) -> Exit:
    """A run's checkpoints, the newest first, with the reasons for which they stay."""
    found = run_async(_found(call, run))
    definition = LaneDefinition.of(found.definition)
    judged = judge(found.checkpoints, retention_of(definition))
    advice = cadence.advise(
        cadence.save_cost(found.checkpoints),
        cadence.mtbf([found], moment(found.at)),
        definition.checkpoints.max_lost_work_seconds,
    )
    call.out.document(
        {
            "run": found.run,
            "resumes_from": found.checkpoint.path if found.checkpoint is not None else None,
            "checkpoints": [_document(each) for each in judged],
            "cadence": {"seconds": advice.seconds, "bound_by": advice.bound_by, "save_seconds": advice.save_seconds},
            "reclaims": found.reclaims,
            "saves": found.saves,
        }
    )
    if not judged:
        call.out.text(f"run {run} has no checkpoint: it begins anew if its node is lost")
        return Exit.OK
    call.out.show(_table(judged))
    every = f"a save every {duration(advice.seconds)} is advised, by {_BOUNDS[advice.bound_by]}"
    call.out.say(every + ("" if advice.measured else "; nobody has said yet how long a save takes"))
    if found.reclaims:
        times, saves = counted(found.reclaims, "time"), counted(found.saves, "save")
        call.out.say(f"its machine was taken away {times}; made for that: {saves}")
    return Exit.OK


_BOUNDS = {
    "failures": "how often nodes fail",
    "limit": "the lane's limit on lost work",
    "save": "how long saves take; they are too long for the lane's limit on lost work",
}


def _table(judged: tuple[Judgement, ...]) -> Table:
    columns = ("STEP", "EPOCH", "METRIC", "SIZE", "SAVED", "NODES", "PATH", "KEPT BECAUSE")
    return table(columns, [_row(each) for each in judged], right=(0, 1, 2, 3))


def _row(each: Judgement) -> tuple[object, ...]:
    record = each.record
    return (
        "-" if record.step is None else record.step,
        record.epoch,
        "-" if record.metric is None else f"{record.metric:g}",
        size(record.size),
        clock(moment(record.at)),
        ", ".join(record.nodes or (record.node,)),
        record.path,
        "; ".join(each.reasons) if each.stays else "it goes",
    )


def _document(each: Judgement) -> dict[str, Any]:
    return {**each.record.model_dump(mode="json"), "kept_because": list(each.reasons), "stays": each.stays}


def pin(call: Call, run: str, which: str, *, keep: bool, reason: str | None, dry_run: bool) -> Exit:
    """Keep a checkpoint whatever the lane's policy says, or leave it to that again."""
    if keep and not reason:
        raise usage(
            "a reason must be said; it stays with the checkpoint",
            next_step=f"fleetcast checkpoints {run} --pin {which} --reason TEXT",
        )
    by = target(call).source

    async def act() -> CheckpointAnswer:
        async with connected(target(call)) as bus:
            record = chosen(await _run(bus, run), which)
            if dry_run:
                would = "be kept" if keep else "be left to the lane's policy"
                return CheckpointAnswer(outcome="done", message=f"dry run: {record.path} would {would}")
            if keep:
                return await _ask(bus, PinCheckpoint(run=run, path=record.path, reason=reason or "", by=by))
            return await _ask(bus, UnpinCheckpoint(run=run, path=record.path, by=by))

    said = run_async(act())
    if said.outcome != "done":
        raise not_found(said.message, next_step=f"fleetcast checkpoints {run}")
    call.out.document({"run": run, "message": said.message, "dry_run": dry_run})
    call.out.text(printable(said.message))
    return Exit.OK


def chosen(run: TrainingRunState, which: str) -> CheckpointRecord:
    """The checkpoint that *which* names: its path, the end of it, or its step.

    Raises:
        Problem: none, or several.
    """
    found = [
        c
        for c in run.checkpoints
        if which == c.path or c.path.endswith(f"/{which}") or which in {str(c.step), "newest"}
    ]
    if which == "newest":
        found = found[:1]
    if len(found) == 1:
        return found[0]
    names = ", ".join(c.path for c in (found or run.checkpoints)[:10]) or "it has none"
    if found:
        raise usage(f"{which!r} names {len(found)} checkpoints of {run.run}: {names}", next_step="give the whole path")
    raise not_found(
        f"run {run.run} has no checkpoint {which!r}", why=names, next_step=f"fleetcast checkpoints {run.run}"
    )


async def _found(call: Call, run: str) -> TrainingRunState:
    async with connected(target(call)) as bus:
        return await _run(bus, run)


async def _run(bus: Bus, run: str) -> TrainingRunState:
    try:
        entry = await bus.last(TRAINING, training_subject(run))
    except NotFound:
        entry = None
    if entry is None:
        raise not_found(
            f"no lane started a run {run!r}",
            why="checkpoints of other runs are where their jobs put them: fleetcast runs show tells",
            next_step=LIST,
        )
    return read(TrainingRunState, entry)


async def _ask(bus: Bus, request: PinCheckpoint | UnpinCheckpoint) -> CheckpointAnswer:
    try:
        said = await patience.ask(
            bus, CHECKPOINTS_SUBJECT, request.model_dump_json().encode(), deadline_seconds=DEADLINE_SECONDS
        )
    except (NoResponder, BusTimeout, ConnectionLost) as error:
        raise Problem(
            "no_trainer",
            "no trainer answers, so nothing was changed",
            why=str(error),
            next_step="fleetcast run trainer    (on one or more nodes)",
        ) from error
    except ServiceFailed as error:
        raise usage(str(error)) from error
    return CheckpointAnswer.model_validate_json(said)
