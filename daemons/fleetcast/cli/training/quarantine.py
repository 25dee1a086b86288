"""`fleetcast node quarantine` and `node release`: training runs stay away from a node, or come back."""

import difflib

from pydantic import ValidationError

from fleetcast.bus import Bus, patience
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, NotFound, ServiceFailed
from fleetcast.bus.streams import NODES_BUCKET, TRAINING
from fleetcast.cli.call import Call
from fleetcast.cli.connection import connected, target
from fleetcast.cli.narrate import printable
from fleetcast.cli.problems import Exit, Problem, not_found, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.units import parse_duration
from fleetcast.daemons.trainer.faults.answering import ChangeQuarantine, QuarantineAnswer
from fleetcast.events.quarantine import QUARANTINE_SUBJECT, quarantine_subject

DEADLINE_SECONDS = 15.0


def change(
    call: Call, node: str, *, quarantined: bool, keep: str | None = None, reason: str | None, dry_run: bool
) -> Exit:
    """Keep training runs away from a node, or give it some again."""
    verb = "quarantine" if quarantined else "release"
    if not reason:
        raise usage("a reason must be said", next_step=f"fleetcast node {verb} {node} --reason TEXT")
    fields: dict[str, object] = {"node": node, "quarantined": quarantined, "reason": reason, "dry_run": dry_run}
    fields["by"] = target(call).source
    if keep is not None:
        fields["seconds"] = parse_duration(keep, option="--for")
    try:
        request = ChangeQuarantine.model_validate(fields)
    except ValidationError as e:
        first = e.errors()[0]
        raise usage(f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from e
    answer = _asked(call, request)
    if not answer.known:
        raise not_found(f"nothing is known against {node}", next_step="fleetcast status")
    call.out.document({**answer.model_dump(mode="json"), "dry_run": dry_run})
    call.out.text(printable(_said(answer, quarantined=quarantined, dry_run=dry_run)))
    return Exit.OK


def _said(answer: QuarantineAnswer, *, quarantined: bool, dry_run: bool) -> str:
    """What was done, or would be, in one line."""
    node, start = answer.node, "dry run: " if dry_run else ""
    gets = "would get" if dry_run else "gets"
    if quarantined:
        instead = f", not {answer.before}" if answer.before else ""
        return f"{start}{node} {gets} no training runs until {answer.until}{instead}: {answer.reason}"
    if answer.before is None:
        return f"{start}{node} is not in quarantine: nothing is to be done"
    return f"{start}{node} {gets} training runs again; without this from {answer.before} at the earliest"


def _asked(call: Call, request: ChangeQuarantine) -> QuarantineAnswer:
    aim = target(call)

    async def run() -> bytes:
        async with connected(aim) as bus:
            if request.quarantined:
                await _must_be_known(bus, request.node)
            data = request.model_dump_json().encode()
            return await patience.ask(bus, QUARANTINE_SUBJECT, data, deadline_seconds=DEADLINE_SECONDS)

    try:
        return QuarantineAnswer.model_validate_json(run_async(run()))
    except (NoResponder, BusTimeout, ConnectionLost) as error:
        raise Problem(
            "no_trainer",
            "no trainer answers, so nothing was changed",
            why=str(error),
            next_step="fleetcast run trainer on a node; fleetcast doctor says more",
        ) from error
    except ServiceFailed as error:
        raise usage(str(error)) from error


async def _must_be_known(bus: Bus, node: str) -> None:
    """A mistyped name would keep runs away from nobody, and open an incident about it.

    Raises:
        Problem: no node of that name was ever heard from.
    """
    try:
        nodes = {entry.key.partition(".")[0] for entry in await bus.kv_entries(NODES_BUCKET)}
        kept = await bus.last(TRAINING, quarantine_subject(node))
    except NotFound:
        return  # a server that no daemon ever used: nobody will answer, and that is said
    if node not in nodes and kept is None:
        close = difflib.get_close_matches(node, sorted(nodes), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise not_found(f"no node {node} was heard from", next_step=f"{hint}fleetcast status lists them")
