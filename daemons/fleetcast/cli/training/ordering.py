"""What people order of runs that lanes started: asked of the trainers, any of which decides it."""

from pydantic import ValidationError

from fleetcast.bus import patience
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, ServiceFailed
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.narrate import printable
from fleetcast.cli.problems import Exit, Problem, not_found, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.training.lanes import DEADLINE_SECONDS
from fleetcast.daemons.trainer.claims.commands import RunAnswer, RunOrder
from fleetcast.events.ids import is_name
from fleetcast.events.training import RUNS_SUBJECT

SHOWN = {
    *("run", "lane", "model", "phase", "phase_detail", "claim", "owner", "cancelled", "excluded", "allowed"),
    *("ended_at", "checkpoint"),
}
"""Of a run's record, in the JSON document."""


def order(call: Call, kind: type[RunOrder], run: str, *, reason: str | None, again: str, **more: object) -> Exit:
    """Have an order carried out, and say what became of it.

    Args:
        again: the command as it should have been given.
        more: what else the order says.

    Raises:
        Problem: it is none, there is no such run or it has ended, or no trainer answers.
    """
    if not reason:
        raise usage("a reason must be said; it stays with the run", next_step=f"{again} --reason TEXT")
    if not is_name(run):
        raise not_found(f"{run[:80]!r} is no run", next_step="fleetcast lanes    (RUN shows what is under way)")
    aim = target(call)
    try:
        request = kind.model_validate({"run": run, "reason": reason, "by": aim.source, **more})
    except ValidationError as error:
        first = error.errors()[0]
        raise usage(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    answer = run_async(_asked(aim, request))
    if answer.outcome == "unknown":
        raise not_found(answer.message, next_step=answer.next_step)
    if answer.outcome == "ended":
        raise Problem("ended", answer.message, next_step=answer.next_step)
    kept = answer.run.model_dump(mode="json", by_alias=True, include=SHOWN) if answer.run is not None else None
    call.out.document({"message": answer.message, "dry_run": request.dry_run, "run": kept})
    call.out.text(printable(answer.message))
    if answer.next_step:
        call.out.say(f"next: {answer.next_step}")
    return Exit.OK


async def _asked(aim: Target, request: RunOrder) -> RunAnswer:
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
            "no trainer answers, so that nothing was changed",
            why=str(error),
            next_step="fleetcast run trainer    (on any node); fleetcast doctor says more",
        ) from error
    except ServiceFailed as error:
        raise usage(str(error)) from error
    except ValidationError as error:
        raise Problem("answer", "the trainer's answer cannot be read", why=str(error.errors()[0]["msg"])) from error
