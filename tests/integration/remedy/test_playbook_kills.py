"""The remedy daemon is killed at every step of a rollback: it always ends in the same state, and every effect is had
once."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.remedy.playbook_rig import Life, Rig, killing, life, rig

from fleetcast.client.ulid import new_ulid
from fleetcast.daemons.remedy.playbooks.steps.base import StepContext
from fleetcast.daemons.remedy.playbooks.store import Kept, RunStore
from fleetcast.events.remedies import RUN_ENDED, PlaybookRunState, RunPhase

pytestmark = pytest.mark.asyncio(loop_scope="module")

STEPS = ("find_previous_stable", "update_deployment", "notify_dependents", "verify_rollback", "update_trust_metrics")
SIDES = (".before", ".after", ".do.before", ".do.after")
"""Of everything that is written, and of everything that is done."""
END = ("playbook.ended.before", "playbook.ended.after")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("rig")
    async with rig(folder) as running:
        yield running


async def killed_at(made: Rig, model: str, *points: str) -> list[str]:
    """What is wrong after a rollback of *model* during which the daemon was killed at each of *points*."""
    before = await made.serve(model, "1", "2")
    told = len(made.told)
    asked = False
    for point in points:
        with killing(point) as killer:
            async with life(made):
                if not asked:
                    await made.say(f"fc.ev.model.rollback_requested.{model}", {"version": "2", "reasons": ["bad"]})
                    asked = True
                await killer.dead.wait()
    async with life(made) as last:
        (run,) = await last.ended(model)
        return await problems(made, last, model, run, before, made.told[told:])


async def problems(made: Rig, last: Life, model: str, run: PlaybookRunState, before: int, told: list[str]) -> list[str]:
    """What is not as one rollback leaves it."""
    found = []
    slot = await made.slot(model)
    if slot.production is None or slot.production.version != "1":
        found.append(f"{slot.production} is served")
    if slot.generation != before + 1:
        found.append(f"the slot moved {slot.generation - before} times")
    if await made.stage(model, "2") != "quarantined":
        found.append("the bad version is not quarantined")
    if run.phase is not RunPhase.SUCCEEDED or run.to != "1":
        found.append(f"the run {run.phase}: {run.phase_detail}, to {run.to}")
    if set(told) != {f"{run.run}.notify_dependents"}:
        found.append(f"dependents were told under the keys {set(told)}")
    facts = await made.facts(f"fc.ev.playbook.run_changed.{model}")
    if sum(fact["phase"] in RUN_ENDED for fact in facts) != 1 or len(facts) != run.n:
        found.append(f"{len(facts)} facts of {run.n} changes")
    shelf = await last.keeper.store.shelf(run.resource_type, model)
    if shelf.books.resource.running is not None or len(await last.runs(model)) != 1:
        found.append("a run is left")
    return found


@pytest.mark.parametrize("step", STEPS)
async def test_a_daemon_that_is_killed_on_every_side_of_a_step_leaves_one_whole_rollback(made: Rig, step: str) -> None:
    assert await killed_at(made, f"m-{step[:20]}", *(f"playbook.{step}{side}" for side in SIDES)) == []


@pytest.mark.parametrize("point", END)
async def test_a_daemon_that_is_killed_at_the_end_leaves_one_whole_rollback(made: Rig, point: str) -> None:
    assert await killed_at(made, f"m-end-{END.index(point)}", point) == []


async def test_a_daemon_that_is_killed_again_and_again_leaves_one_whole_rollback(made: Rig) -> None:
    points = ("playbook.update_deployment.do.before", "playbook.update_deployment.do.after")

    assert await killed_at(made, "again", *points, *points, "playbook.notify_dependents.do.after") == []


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_a_daemon_that_is_killed_at_every_step_of_one_rollback_leaves_it_whole(made: Rig) -> None:
    for number in range(10):
        points = [f"playbook.{step}{side}" for step in STEPS for side in SIDES]
        assert await killed_at(made, f"every-{number}", *points, END[0]) == []


async def test_a_step_without_a_key_of_its_own_would_be_seen(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken variant: every attempt is another request."""
    monkeypatch.setattr(StepContext, "key", property(lambda _: new_ulid()))

    assert await killed_at(made, "keyless", "playbook.update_deployment.do.after") != []


async def test_steps_that_are_not_written_before_they_are_taken_would_be_seen(
    made: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant: only the beginning and the end of a run are kept."""
    keep = RunStore.save

    async def save(self: RunStore, before: Kept | None, run: PlaybookRunState, *rest: Any, **more: Any) -> Kept:
        if before is None or run.phase in RUN_ENDED or before.run.owner != run.owner:
            return await keep(self, before, run, *rest, **more)
        return Kept(run, before.sequence)

    monkeypatch.setattr(RunStore, "save", save)

    assert await killed_at(made, "forgetful", "playbook.update_deployment.do.after") != []
