"""Changes of a run's record are made from the newest one, or not at all."""

import pytest
from tests.unit.trainer.claims.values import NOW, run

from fleetcast.bus import Bus
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.rules import ClaimLost
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.events.training import Commit


def store_of(bus: Bus, node: str) -> RunStore:
    return RunStore(TrainingLedger(bus), node=node)


@pytest.mark.asyncio
async def test_a_change_made_from_an_older_record_is_refused_before_it_undoes_a_commit(bus: Bus) -> None:
    store = store_of(bus, "n1")
    old = await store.save(None, run())
    commit = Commit(claim=1, what="model.promoted hex8@43", event="e1", at="2026-11-21T12:00:00Z")
    await store.change("hex8-1", lambda there: there.model_copy(update={"commits": (commit,)}))
    with pytest.raises(ValueError, match="was made from record 1, the newest is 2"):
        await store.change("hex8-1", lambda _: old.run)
    kept = await store.find("hex8-1")
    assert kept is not None
    assert kept.run.commits == (commit,)


@pytest.mark.asyncio
async def test_of_two_nodes_that_claim_at_once_one_wins_and_the_other_may_not_write(bus: Bus) -> None:
    first, second = store_of(bus, "n1"), store_of(bus, "n2")
    await first.save(None, run())
    kept = await first.find("hex8-1")
    assert kept is not None
    await first.save(kept, rules.claimed(kept.run, node="n1", pid=1, device="cpu", now=NOW))
    with pytest.raises(ClaimLost, match="claim 1 on n1 holds it"):
        await second.change_held("hex8-1", 1, lambda there: rules.running(there, NOW))
    assert (await first.change_held("hex8-1", 1, lambda there: rules.running(there, NOW))).run.phase == "running"
