"""Says of a run that fell back how much longer it takes: once per claim, in its record and in its incident, as soon as
its epochs tell. Whoever has to decide whether to wait for the run needs this number, and nobody has it earlier."""

import asyncio

import structlog

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError
from fleetcast.bus.streams import EVENTS
from fleetcast.daemons.remedy.incidents.noticing import of_fallback
from fleetcast.daemons.trainer.claims.leasing import Owned
from fleetcast.daemons.trainer.claims.rules import ClaimLost
from fleetcast.daemons.trainer.claims.store import Change
from fleetcast.events import names
from fleetcast.events.training import RunFellBack, TrainingPhase, TrainingRunState
from fleetcast.registry.errors import RecordDamaged
from fleetcast.registry.readmodel.aside import answer_of_events
from fleetcast.registry.readmodel.asked import Result
from fleetcast.registry.readmodel.errors import NothingFound

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

_SAY = ("run.fallback", "run.returned", "run.epoch.logged")


async def tell(owned: Owned) -> None:
    """Tell it of a degraded run, if it is known and was not told under this claim. What cannot be read or written now
    is left to the next look."""
    if owned.run.phase is not TrainingPhase.DEGRADED or _was_told(owned.run):
        return
    try:
        found = await _newest(owned.store.ledger.bus, owned.id)
        if found is None or found["slowdown"] is None:
            return
        said, ratio = found["slowdown"]["said"], found["slowdown"]["ratio"]
        fact = of_fallback(_fact(found), slower=said)
        await owned.change(lambda run: Change(_with(run, ratio), (fact,)))
        log.info("run.slower", run=owned.id, claim=owned.claim, said=said)
    except (BusError, RecordDamaged, ClaimLost, ValueError) as problem:
        log.info("run.slower_not_told", run=owned.id, reason=str(problem))


async def _newest(bus: Bus, run: str) -> Result | None:
    """The newest fallback of a run, with how much slower it is since; None: there is none."""
    subjects = tuple(names.find(name).subject(run) for name in _SAY)
    records = [entry async for entry in bus.tail(EVENTS, subjects)]
    try:
        known = await asyncio.to_thread(answer_of_events, records, "run", {"run_id": run})
    except NothingFound:
        return None
    fallbacks: list[Result] = known["fallbacks"]
    return fallbacks[-1] if fallbacks else None


def _fact(found: Result) -> RunFellBack:
    return RunFellBack.model_validate({name: found[name] for name in RunFellBack.model_fields if name in found})


def _was_told(run: TrainingRunState) -> bool:
    last = run.attempts[-1] if run.attempts else None
    return last is None or last.claim != run.claim or last.slower is not None


def _with(run: TrainingRunState, ratio: float) -> TrainingRunState:
    last = run.attempts[-1].model_copy(update={"slower": ratio})
    return run.model_copy(update={"attempts": (*run.attempts[:-1], last)})
