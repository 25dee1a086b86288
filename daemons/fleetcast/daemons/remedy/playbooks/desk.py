"""The desk for playbooks: `fc.svc.remedy.playbooks` in, answers out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog
from pydantic import ValidationError

from fleetcast.bus.errors import Conflict
from fleetcast.bus.streams import REGISTRY
from fleetcast.daemons.remedy.playbooks import rules, telling, turns
from fleetcast.daemons.remedy.playbooks.commands import (
    ASK,
    ActionEntry,
    Decide,
    List,
    PlannedStep,
    PlaybookAnswer,
    PlaybookEntry,
    RunIt,
    Show,
)
from fleetcast.daemons.remedy.playbooks.definition import APPROVAL, Playbook
from fleetcast.daemons.remedy.playbooks.keeper import Keeper
from fleetcast.daemons.remedy.playbooks.rules import StepResult
from fleetcast.daemons.remedy.playbooks.steps import StepContext
from fleetcast.daemons.remedy.playbooks.store import Kept
from fleetcast.daemons.remedy.playbooks.turns import Ask
from fleetcast.daemons.runtime.requests import read_request, refusals
from fleetcast.events.lifecycle import entry_subject
from fleetcast.events.remedies import RUN_ENDED, PlaybookRunState, RunPhase, StepRecord
from fleetcast.events.state import Cause
from fleetcast.registry.commands import stamp

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.remedy")

TRIES = 10


class PlaybookDesk:
    """Answers requests."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def answer(self, body: bytes) -> bytes:
        """The answer to a request, as JSON.

        Raises:
            ServiceError: 400: it is none; 500: what is stored cannot be read; 503: not now, ask again.
        """
        asked = read_request(ASK.validate_json, body)
        with refusals():
            answer = await self._handle(asked)
        return answer.model_dump_json(by_alias=True).encode()

    async def _handle(self, asked: List | Show | RunIt | Decide) -> PlaybookAnswer:
        match asked:
            case List():
                return await self._list(asked)
            case Show():
                found = await self._named(asked.run)
                return found if isinstance(found, PlaybookAnswer) else PlaybookAnswer(outcome="done", runs=(found.run,))
            case RunIt():
                return await self._run(asked)
        return await self._decide(asked)

    async def _list(self, asked: List) -> PlaybookAnswer:
        runs = [run for run in await self._keeper.store.runs() if asked.ended or run.phase not in RUN_ENDED]
        runs.sort(key=lambda run: run.asked_at, reverse=True)
        steps = self._keeper.steps.values()
        return PlaybookAnswer(
            outcome="done",
            playbooks=tuple(_entry(each.playbook, str(each.file)) for each in self._keeper.playbooks.all.values()),
            actions=tuple(
                ActionEntry(name=s.name, summary=s.summary, params=tuple(s.params.model_fields) if s.params else ())
                for s in steps
            ),
            runs=tuple(runs[: asked.limit]),
        )

    async def _named(self, name: str) -> Kept | PlaybookAnswer:
        found = await self._keeper.store.find(name) if name.replace("-", "").isalnum() else None
        if found is not None:
            return found
        close = [run.run for run in await self._keeper.store.runs() if run.run.startswith(name)]
        if len(close) == 1 and (kept := await self._keeper.store.find(close[0])) is not None:
            return kept
        why = f"{len(close)} runs begin with {name}" if close else f"there is no run {name}"
        return PlaybookAnswer(outcome="unknown", message=why, next_step="fleetcast playbooks --all")

    async def _run(self, asked: RunIt) -> PlaybookAnswer:
        playbook = self._keeper.playbooks.find(asked.playbook)
        if playbook is None:
            return PlaybookAnswer(
                outcome="unknown",
                message=f"there is no playbook {asked.playbook}",
                next_step=f"fleetcast playbooks    ({self._keeper.playbooks.close_to(asked.playbook)})",
            )
        unknown = sorted(set(asked.params) - set(playbook.params))
        if unknown:
            allowed = ", ".join(playbook.params) or "none"
            return PlaybookAnswer(
                outcome="refused",
                message=f"{playbook.name} has no param {unknown[0]}",
                next_step=f"there is: {allowed}",
            )
        if playbook.breaker and asked.to is not None and not await self._is_registered(asked.resource, asked.to):
            return PlaybookAnswer(
                outcome="unknown",
                message=f"{asked.resource}@{asked.to} is not registered",
                next_step=f"fleetcast models {asked.resource}",
            )
        ask = self._ask_of(asked, playbook)
        if asked.dry_run:
            return await self._plan(ask, playbook)
        run = await self._keeper.ask(ask)
        refused = run.phase is RunPhase.REFUSED
        return PlaybookAnswer(
            outcome="refused" if refused else "done",
            message=f"{run.run}: {run.phase.value}{f', {run.phase_detail}' if run.phase_detail else ''}",
            next_step=telling.next_step(run) or f"fleetcast playbook show {run.run}",
            runs=(run,),
        )

    async def _is_registered(self, model: str, version: str) -> bool:
        return await self._keeper.around.bus.last(REGISTRY, entry_subject(model, version)) is not None

    def _ask_of(self, asked: RunIt, playbook: Playbook) -> Ask:
        now = self._keeper.around.now()
        return Ask(
            playbook=playbook.name,
            resource_type=playbook.resource_type,
            resource_id=asked.resource,
            version=asked.version,
            to=asked.to,
            incident=asked.incident,
            severity=asked.severity,
            reasons=(asked.reason,),
            params=dict(asked.params),
            by=asked.by,
            by_event=False,
            drill=asked.drill,
            cause=Cause(event=asked.request, sequence=0, by=asked.by, correlation=asked.request),
            asked_at=stamp(now),
        )

    async def _plan(self, ask: Ask, playbook: Playbook) -> PlaybookAnswer:
        now = self._keeper.around.now()
        run = rules.advanced(turns.made(replace(ask, drill=True), playbook, now), now)
        planned: list[PlannedStep] = []
        for index, step in enumerate(run.steps):
            found = await self._looked(run, step)
            if found is not None:
                run = rules.looked(run, index, found)
            planned.append(self._planned(run, index, found))
            if found is not None and (found.nothing or not (found.ok or step.go_on)):
                break
        return PlaybookAnswer(
            outcome="done", message=f"dry run: {playbook.name} {ask.resource_id}", plan=tuple(planned)
        )

    async def _looked(self, run: PlaybookRunState, step: StepRecord) -> StepResult | None:
        """What a step that only reads finds; None: it does more than that."""
        action = self._keeper.steps.get(step.action)
        if action is None or not getattr(action, "reads_only", False):
            return None
        filled = step.model_copy(update={"params": rules.filled_params(run, step)})
        try:
            params: Any = filled.params if action.params is None else action.params.model_validate(filled.params)
        except ValidationError:
            return None
        return await action.run(StepContext(run, filled, self._keeper.around), params)

    def _planned(self, run: PlaybookRunState, index: int, found: StepResult | None) -> PlannedStep:
        step = run.steps[index]
        filled = step.model_copy(update={"params": rules.filled_params(run, step)})
        action = self._keeper.steps.get(step.action)
        if found is not None:
            said = found.detail if found.ok else f"would fail: {found.detail}"
        elif step.action == APPROVAL:
            said = f"wait until somebody agrees: fleetcast playbook approve {run.run}"
        elif action is None:
            said = f"there is no step {step.action}"
        else:
            try:
                params: Any = filled.params if action.params is None else action.params.model_validate(filled.params)
                said = action.plan(StepContext(run, filled, self._keeper.around), params)
            except ValidationError as e:
                said = f"would fail: {e.errors()[0]['msg']}"
        return PlannedStep(
            name=step.name,
            action=step.action,
            plan=said,
            timeout_seconds=step.timeout_seconds,
            attempts=step.attempts_at_most,
            on_failure="go_on" if step.go_on else "stop",
        )

    async def _decide(self, asked: Decide) -> PlaybookAnswer:
        for _ in range(TRIES):
            found = await self._named(asked.run)
            if isinstance(found, PlaybookAnswer):
                return found
            run = found.run
            if run.phase in RUN_ENDED or (asked.ask == "approve" and run.phase is not RunPhase.APPROVAL):
                return PlaybookAnswer(
                    outcome="refused",
                    message=f"{run.run} is {run.phase.value}: there is nothing to {asked.ask}",
                    next_step=f"fleetcast playbook show {run.run}",
                    runs=(run,),
                )
            try:
                after = await self._decided(found, asked)
            except Conflict:
                continue
            done = "approved" if asked.ask == "approve" else "cancelled; a step that is under way may still end"
            return PlaybookAnswer(outcome="done", message=f"{run.run} is {done}", runs=(after,))
        return PlaybookAnswer(outcome="refused", message=f"{asked.run} changes all the time", next_step="ask again")

    async def _decided(self, found: Kept, asked: Decide) -> PlaybookRunState:
        now = self._keeper.around.now()
        if asked.ask == "approve":
            after = rules.approved(found.run, asked.by, asked.reason, now)
            kept = await self._keeper.store.save(found, after, now)
            self._keeper.runner.wake(found.run.run)
            return kept.run
        after = rules.ended(found.run, RunPhase.CANCELLED, f"{asked.by}: {asked.reason}", now)
        shelf = await self._keeper.store.shelf(after.resource_type, after.resource_id)
        books = turns.left(after, shelf.books)
        kept = await self._keeper.store.save(found, after, now, shelf=shelf, books=books)
        self._keeper.runner.wake(found.run.run)
        return kept.run


def _entry(playbook: Playbook, file: str) -> PlaybookEntry:
    return PlaybookEntry(
        name=playbook.name,
        description=playbook.description,
        resource_type=playbook.resource_type.value,
        file=file,
        on=tuple(_rule(on.model_dump(mode="json", exclude_none=True)) for on in playbook.on),
        approval=playbook.approval,
        breaker=playbook.breaker,
        steps=tuple(step.name for step in playbook.steps),
    )


def _rule(said: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in said.items())
