"""The fence of a real node: what a run's former owner says is refused, with who has the run now."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetcast.daemons.testing import Fleet, fleet
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.events.state import Cause
from fleetcast.events.training import TrainingPhase, TrainingRunState
from fleetcast.registry.commands import stamp

RUN = "hex8-0123456789abcdef0123"


async def _held(f: Fleet, claim: int, node: str) -> None:
    """A run of a lane that a node holds under a claim."""
    at = stamp(datetime.now(UTC))
    run = TrainingRunState(
        run=RUN,
        lane="hex8",
        model="hex8",
        claim=claim,
        owner=node,
        phase=TrainingPhase.RUNNING,
        created_at=at,
        at=at,
        cause=Cause(event="export-1", sequence=0, by="/test", correlation="export-1"),
    )
    await RunStore(TrainingLedger(f.bus), node="test").save(None, run)


async def _promote(f: Fleet, version: str, claim: int) -> None:
    path = f.publish(f"{version}-{claim}.bin", f"weights of {version}".encode())
    body = {"version": version, "path": str(path), "node": "node-1", "run_id": RUN, "claim": claim}
    await f.say("fc.ev.model.promoted.hex8", body)


async def _refusals(f: Fleet, count: int) -> list[str]:
    """The reasons of all refusals, once there are so many."""
    async with asyncio.timeout(60):
        while True:
            found = [e.payload.model_dump()["reason"] for e in await f.events("fc.ev.event.rejected.*")]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_a_former_owner_promotes_and_saves_nothing_and_the_owner_promotes_once(tmp_path: Path) -> None:
    async with fleet(tmp_path, nodes=1) as f:
        await _held(f, 2, "gpu-2")
        await _promote(f, "43", claim=1)
        refused = (await f.rejected()).payload.model_dump()
        assert refused["reason"] == f"claim 1 of run {RUN} is over"
        assert refused["winner"] == "claim 2 on gpu-2"

        saved = {"node": "node-1", "claim": 1, "epoch": 3, "path": "/ckpt", "size": 1}
        for epoch in (3, 4, 5):
            await f.say(f"fc.ev.run.checkpoint_saved.{RUN}", {**saved, "epoch": epoch})
        await _promote(f, "44", claim=2)
        await f.until_served("hex8", "44")
        await _promote(f, "44", claim=2)

        found = await _refusals(f, 3)
        assert len(found) == 3, "who saves on under a claim that is over is told so once"
        assert sorted(found)[:2] == [f"claim 1 of run {RUN} is over"] * 2
        assert f"run {RUN} had this effect before: model.promoted hex8@44" in found
        assert not (f.nodes["node-1"].data / "models" / "hex8" / "43").exists()
