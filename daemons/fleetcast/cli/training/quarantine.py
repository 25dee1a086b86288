"""`fleetcast node quarantine` and `node release`: training runs stay away from a node, or come back."""

from pydantic import ValidationError

from fleetcast.bus import patience
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, ServiceFailed
from fleetcast.cli.call import Call
from fleetcast.cli.connection import connected, target
from fleetcast.cli.narrate import printable
from fleetcast.cli.problems import Exit, Problem, not_found, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.units import parse_duration
from fleetcast.daemons.trainer.faults.answering import ChangeQuarantine, QuarantineAnswer
from fleetcast.events.training import QUARANTINE_SUBJECT

DEADLINE_SECONDS = 15.0


def change(call: Call, node: str, *, quarantined: bool, keep: str | None = None, reason: str | None) -> Exit:
    """Keep training runs away from a node, or give it some again."""
    verb = "quarantine" if quarantined else "release"
    if not reason:
        raise usage("a reason must be said", next_step=f"fleetcast node {verb} {node} --reason TEXT")
    fields = {"node": node, "quarantined": quarantined, "reason": reason, "by": target(call).source}
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
    call.out.document(answer.model_dump(mode="json"))
    until = f"gets no training runs until {answer.until}: {answer.reason}"
    call.out.text(printable(f"{node} {until if quarantined else 'gets training runs'}"))
    return Exit.OK


def _asked(call: Call, request: ChangeQuarantine) -> QuarantineAnswer:
    aim = target(call)

    async def run() -> bytes:
        async with connected(aim) as bus:
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
