"""`fleetcast cancel`: ends a training run before it is done."""

from pydantic import ValidationError

from fleetcast.bus import patience
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, ServiceFailed
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.narrate import printable
from fleetcast.cli.problems import Exit, Problem, not_found, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.training.lanes import DEADLINE_SECONDS
from fleetcast.daemons.trainer.claims.commands import CancelRun, RunAnswer
from fleetcast.events.ids import is_name
from fleetcast.events.training import RUNS_SUBJECT

SHOWN = {"run", "lane", "model", "phase", "phase_detail", "claim", "owner", "cancelled", "ended_at", "checkpoint"}
"""Of a run's record, in the JSON document."""


def run(call: Call, name: str, *, reason: str | None, now: bool, dry_run: bool) -> Exit:
    """Have a run end, and say what becomes of it."""
    if not reason:
        raise usage("a reason must be said; it stays with the run", next_step=f"fleetcast cancel {name} --reason TEXT")
    if not is_name(name):
        raise not_found(f"{name[:80]!r} is no run", next_step="fleetcast lanes    (RUN shows what is under way)")
    aim = target(call)
    try:
        request = CancelRun(run=name, reason=reason, by=aim.source, now=now, dry_run=dry_run)
    except ValidationError as error:
        first = error.errors()[0]
        raise usage(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    answer = run_async(_asked(aim, request))
    if answer.outcome == "unknown":
        raise not_found(answer.message, next_step=answer.next_step)
    if answer.outcome == "ended":
        raise Problem("ended", answer.message, next_step=answer.next_step)
    kept = answer.run.model_dump(mode="json", by_alias=True, include=SHOWN) if answer.run is not None else None
    call.out.document({"message": answer.message, "dry_run": dry_run, "run": kept})
    call.out.text(printable(answer.message))
    return Exit.OK


async def _asked(aim: Target, request: CancelRun) -> RunAnswer:
    """The answer of whichever trainer gives one; the same request may be asked twice.

    Raises:
        Problem: none does.
    """
    data = request.model_dump_json().encode()
    try:
        async with connected(aim) as bus:
            said = await patience.ask(bus, RUNS_SUBJECT, data, deadline_seconds=DEADLINE_SECONDS)
        return RunAnswer.model_validate_json(said)
    except (NoResponder, BusTimeout, ConnectionLost) as error:
        raise Problem(
            "no_trainer",
            "no trainer answers, so that nobody could cancel it",
            why=str(error),
            next_step="fleetcast run trainer    (on any node); fleetcast doctor says more",
        ) from error
    except ServiceFailed as error:
        raise usage(str(error)) from error
    except ValidationError as error:
        raise Problem("answer", "the trainer's answer cannot be read", why=str(error.errors()[0]["msg"])) from error
