"""Playbooks on a real server: what starts them, what stops them, and what is said of it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.remedy.playbook_rig import Life, Rig, life, rig, until

from fleetcast.daemons.remedy.playbooks.turns import Ask
from fleetcast.events.remedies import PlaybookRunState, RunPhase, StepOutcome
from fleetcast.events.state import Cause

pytestmark = pytest.mark.asyncio(loop_scope="module")

BROKEN = """
name = "two_steps"
description = "One that fails, and one that must not come."
resource_type = "lane"
[[steps]]
name = "first"
command = ["sh", "-c", "echo no space left; exit 3"]
attempts = 2
backoff_seconds = 0.01
[[steps]]
name = "second"
command = ["touch", "{resource_id}"]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("rig")
    (folder / "books").mkdir()
    (folder / "books" / "two.toml").write_text(BROKEN)
    async with rig(folder) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alive(made: Rig) -> AsyncIterator[Life]:
    async with life(made, playbooks=made.folder / "books") as running:
        yield running


async def asked(made: Rig, model: str, **body: object) -> None:
    await made.say(f"fc.ev.model.rollback_requested.{model}", {"reasons": ["bad answers"], **body})


async def test_bare_json_typed_by_hand_takes_a_model_back(made: Rig, alive: Life) -> None:
    generation = await made.serve("typed", "1", "2")

    await made.say("fc.ev.model.rollback_requested.typed", b'{"reasons": ["bad answers"]}')
    (run,) = await alive.ended("typed")

    slot = await made.slot("typed")
    assert (run.phase, run.version, run.to) == (RunPhase.SUCCEEDED, "2", "1")
    assert slot.production is not None
    assert (slot.production.version, slot.generation) == ("1", generation + 1)
    assert await made.stage("typed", "2") == "quarantined"
    assert [step.outcome for step in run.steps] == [StepOutcome.SUCCEEDED] * 5
    assert "2 of 2 nodes serve typed@1" in run.phase_detail


async def test_the_newest_good_version_is_chosen_and_a_quarantined_one_never(made: Rig, alive: Life) -> None:
    await made.serve("newest", "1", "2", "3")
    await asked(made, "newest", version="3")
    (first,) = await alive.ended("newest")
    answer = await alive.ask(ask="run", playbook="model_rollback", resource="newest", reason="still bad", by="ana")
    assert answer.outcome == "done"
    (_, second) = await alive.ended("newest", 2)

    assert (first.to, second.to) == ("2", "1")
    assert second.steps[0].output["considered"] == ["1: verified on 2 of 2 nodes"]


async def test_a_second_automatic_rollback_on_the_same_day_is_refused_and_calls_somebody(
    made: Rig, alive: Life
) -> None:
    await made.serve("storm", "1", "2", "3")
    await asked(made, "storm", version="3", requested_by="monitor")
    await alive.ended("storm")
    await asked(made, "storm", version="2", requested_by="monitor")
    (_, refused) = await alive.ended("storm", 2)
    raised = await made.facts("fc.ev.incident.raised.storm")

    assert refused.phase is RunPhase.REFUSED
    assert "at most 1 automatic rollback of storm within 1 day" in refused.phase_detail
    assert [(f["trigger"], f["severity"]) for f in raised] == [("playbook_refused", "critical")]
    slot = await made.slot("storm")
    assert slot.production is not None
    assert slot.production.version == "2"


async def test_the_fleet_has_a_breaker_of_its_own_and_a_person_is_not_stopped(made: Rig) -> None:
    for model in ("fleet-a", "fleet-b"):
        await made.serve(model, "1", "2")
    async with life(made, "r2", rollbacks_per_fleet=0) as strict:
        run = await strict.keeper.ask(_ask("fleet-a", "event-fleet-a"))
        answer = await strict.ask(ask="run", playbook="model_rollback", resource="fleet-b", reason="bad", by="ana")
        (done,) = await strict.ended("fleet-b")

    assert run.phase is RunPhase.REFUSED
    assert "over the fleet" in run.phase_detail
    assert (answer.outcome, done.phase) == ("done", RunPhase.SUCCEEDED)


async def test_a_version_that_is_no_longer_served_is_said_and_left_alone(made: Rig, alive: Life) -> None:
    generation = await made.serve("gone", "1", "2")
    await asked(made, "gone", version="1")
    (run,) = await alive.ended("gone")

    assert run.phase is RunPhase.NOTHING
    assert "gone@1 is not served any more; 2 is" in run.phase_detail
    assert (await made.slot("gone")).generation == generation


async def test_a_model_without_another_good_version_is_frozen_and_calls_somebody(made: Rig, alive: Life) -> None:
    generation = await made.serve("alone", "1")
    await asked(made, "alone")
    (run,) = await alive.ended("alone")
    rollouts = await made.facts("fc.ev.rollout.changed.alone")

    assert run.phase is RunPhase.FAILED
    assert "no good version is left" in run.phase_detail
    assert rollouts[-1]["phase"] == "frozen"
    assert [f["trigger"] for f in await made.facts("fc.ev.incident.raised.alone")] == ["playbook_failed"]
    assert (await made.slot("alone")).generation == generation


async def test_a_bad_canary_is_withdrawn_and_production_stays(made: Rig, alive: Life) -> None:
    await made.serve("canary", "1")
    await made.try_out("canary", "2")
    await asked(made, "canary")
    (run,) = await alive.ended("canary")

    slot = await made.slot("canary")
    assert (run.phase, run.version, run.to) == (RunPhase.SUCCEEDED, "2", "1")
    assert slot.production is not None
    assert (slot.production.version, slot.canary) == ("1", None)
    assert await made.stage("canary", "2") == "quarantined"


async def test_a_run_that_needs_approval_waits_for_it_and_goes_on(made: Rig, alive: Life) -> None:
    generation = await made.serve("approve", "1", "2")
    await asked(made, "approve", version="2", requested_by="monitor", evidence={"approval": "required"})
    waiting = await until("asks", lambda: _in_phase(alive, "approve", RunPhase.APPROVAL))
    assert (await made.slot("approve")).generation == generation

    answer = await alive.ask(ask="approve", run=waiting.run, reason="looked at it", by="ana")
    (run,) = await alive.ended("approve")

    assert answer.outcome == "done"
    assert run.phase is RunPhase.SUCCEEDED
    assert [(each.by, each.reason) for each in run.approvals] == [("ana", "looked at it")]
    assert (await alive.ask(ask="approve", run=run.run, reason="again", by="ana")).outcome == "refused"


async def test_a_person_who_wants_it_now_does_not_wait_for_an_approval(made: Rig, alive: Life) -> None:
    await made.serve("now", "1", "2")
    await asked(made, "now", version="2", evidence={"approval": "required"})
    waiting = await until("asks", lambda: _in_phase(alive, "now", RunPhase.APPROVAL))
    await alive.ask(ask="run", playbook="model_rollback", resource="now", version="2", reason="now", by="ana")
    runs = {run.run: run for run in await alive.ended("now", 2)}

    assert runs.pop(waiting.run).phase is RunPhase.CANCELLED
    assert [run.phase for run in runs.values()] == [RunPhase.SUCCEEDED]


async def test_a_failed_step_stops_the_run_and_escalates(made: Rig, alive: Life) -> None:
    answer = await alive.ask(ask="run", playbook="two_steps", resource="lane-1", reason="try", by="ana")
    (run,) = await alive.ended("lane-1")

    assert answer.outcome == "done"
    assert run.phase is RunPhase.FAILED
    assert [(s.outcome, s.attempt) for s in run.steps] == [(StepOutcome.FAILED, 2), (StepOutcome.SKIPPED, 0)]
    assert "ended with 3: no space left" in run.phase_detail
    (raised,) = await made.facts("fc.ev.incident.raised.lane-1")
    assert (raised["severity"], raised["context"]["run"]) == ("critical", run.run)


async def test_what_lies_too_long_is_refused_and_said(made: Rig) -> None:
    await made.serve("late", "1", "2")
    async with life(made, "r3", request_age_seconds=0.001) as slow:
        run = await slow.keeper.ask(_ask("late", "event-late", "2026-01-01T00:00:00Z"))

    assert run.phase is RunPhase.REFUSED
    assert "nobody took it" in run.phase_detail


async def test_a_playbook_that_there_is_not_is_rejected_with_what_there_is(made: Rig, alive: Life) -> None:
    del alive
    body = {"playbook": "node_drian", "resource_type": "node", "resource_id": "n1"}
    await made.say("fc.ev.playbook.requested.n1", body)

    async def rejected() -> list[dict[str, object]]:
        return [f for f in await made.facts("fc.ev.event.rejected.n1") if "node_drian" in f["reason"]]

    (fact,) = await until("rejected", rejected)
    assert "did you mean node_drain?" in str(fact["next_step"])


async def test_two_daemons_make_one_run_of_one_request_and_move_the_slot_once(made: Rig, alive: Life) -> None:
    generation = await made.serve("two", "1", "2")
    async with life(made, "r4") as other:
        ask = _ask("two", "event-two")
        runs = await asyncio.gather(*(each.keeper.ask(ask) for each in (alive, other) for _ in range(3)))
        (run,) = await alive.ended("two")

    assert {each.run for each in runs} == {run.run}
    assert (await made.slot("two")).generation == generation + 1


async def test_two_requests_about_one_bad_version_roll_back_once(made: Rig, alive: Life) -> None:
    generation = await made.serve("twice", "1", "2")
    await asyncio.gather(*(asked(made, "twice", version="2") for _ in range(4)))
    runs = await alive.ended("twice", 4)

    phases = sorted(run.phase.value for run in runs)
    assert phases == ["nothing", "nothing", "nothing", "succeeded"]
    assert (await made.slot("twice")).generation == generation + 1


async def test_a_run_goes_on_in_another_daemon_when_its_own_is_gone(made: Rig) -> None:
    await made.serve("handed", "1", "2")
    async with life(made, "r5") as first:
        await asked(made, "handed", version="2", evidence={"approval": "required"})
        waiting = await until("asks", lambda: _in_phase(first, "handed", RunPhase.APPROVAL))
    async with life(made, "r6") as second:
        await second.ask(ask="approve", run=waiting.run, reason="go", by="ana")
        (run,) = await second.ended("handed")

    assert run.phase is RunPhase.SUCCEEDED


async def test_a_silent_node_is_named_and_blocks_nothing(made: Rig, alive: Life) -> None:
    await made.serve("silent", "1", "2")
    made.silent.add("n2")
    try:
        await asked(made, "silent", version="2")
        (run,) = await alive.ended("silent")
    finally:
        made.silent.clear()

    assert run.phase is RunPhase.SUCCEEDED
    assert "1 of 2 nodes serve silent@1" in run.phase_detail
    assert "n2: silent" in run.phase_detail


async def test_a_dry_run_says_every_step_and_writes_nothing(made: Rig, alive: Life) -> None:
    generation = await made.serve("dry", "1", "2")
    answer = await alive.ask(
        ask="run", playbook="model_rollback", resource="dry", reason="what if", by="ana", dry_run=True
    )

    assert [step.name for step in answer.plan][:2] == ["find_previous_stable", "update_deployment"]
    assert answer.plan[0].plan == "1 instead of 2 (1: verified on 2 of 2 nodes)"
    assert "from 2 to 1; 2 is quarantined" in answer.plan[1].plan
    assert await alive.runs("dry") == []
    assert (await made.slot("dry")).generation == generation


async def test_a_dry_run_ends_where_the_run_would_and_freezes_nothing(made: Rig, alive: Life) -> None:
    await made.serve("dry-alone", "1")
    asked_for = {"ask": "run", "playbook": "model_rollback", "reason": "what if", "by": "ana", "dry_run": True}
    (alone,) = (await alive.ask(**asked_for, resource="dry-alone")).plan
    (nobody,) = (await alive.ask(**asked_for, resource="dry-nobody")).plan

    assert alone.plan.startswith("would fail: no good version is left")
    assert nobody.plan == "nothing is served of dry-nobody: nothing to do"
    assert "frozen" not in [fact["phase"] for fact in await made.facts("fc.ev.rollout.changed.dry-alone")]


async def test_what_a_person_asks_for_is_about_what_is_served_when_they_ask(made: Rig, alive: Life) -> None:
    """Two that ask at once mean the same version: the second one must not take back what the first one served."""
    await made.serve("atonce", "1", "2", "3")
    question = {"ask": "run", "playbook": "model_rollback", "resource": "atonce", "reason": "bad", "by": "ana"}
    answers = await asyncio.gather(alive.ask(**question), alive.ask(**question))
    first, second = await alive.ended("atonce", 2)

    assert [answer.runs[0].version for answer in answers] == ["3", "3"]
    assert {first.phase, second.phase} == {RunPhase.SUCCEEDED, RunPhase.NOTHING}
    slot = await made.slot("atonce")
    assert slot.production is not None
    assert slot.production.version == "2"


async def test_a_version_that_nobody_knows_is_refused_before_a_run_is_made(made: Rig, alive: Life) -> None:
    await made.serve("typo", "1", "2")
    answer = await alive.ask(ask="run", playbook="model_rollback", resource="typo", to="7", reason="back", by="ana")

    assert (answer.outcome, answer.message) == ("unknown", "typo@7 is not registered")
    assert await alive.runs("typo") == []
    assert await made.facts("fc.ev.incident.raised.typo") == []


async def test_a_drill_tries_everything_and_moves_nothing(made: Rig, alive: Life) -> None:
    generation = await made.serve("drill", "1", "2")
    told = len(made.told)
    await alive.ask(ask="run", playbook="model_rollback", resource="drill", reason="drill", by="ana", drill=True)
    (run,) = await alive.ended("drill")

    assert run.phase is RunPhase.SUCCEEDED
    assert "drill: 2 of 2 nodes hold drill@1 verified" in run.phase_detail
    assert (await made.slot("drill")).generation == generation
    assert await made.stage("drill", "2") == "production"
    assert len(made.told) == told
    assert {fact["drill"] for fact in await made.facts("fc.ev.playbook.run_changed.drill")} == {True}


async def _in_phase(alive: Life, resource: str, phase: RunPhase) -> PlaybookRunState | None:
    return next((run for run in await alive.runs(resource) if run.phase is phase), None)


def _ask(model: str, event: str, asked_at: str | None = None) -> Ask:
    return Ask(
        playbook="model_rollback",
        resource_id=model,
        version="2",
        by="monitor",
        by_event=True,
        cause=Cause(event=event, sequence=1, by="monitor", correlation=event),
        asked_at=asked_at or datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )
