"""The steps of `model_rollback` that move what is served, and see that it did."""

import asyncio
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from fleetcast.bus.errors import TransportFailed
from fleetcast.bus.streams import REGISTRY
from fleetcast.daemons.remedy.playbooks.rules import StepResult
from fleetcast.daemons.remedy.playbooks.steps.base import StepContext, StepParams
from fleetcast.daemons.remedy.playbooks.steps.target import Target, bad_version, candidates, choose
from fleetcast.events.lifecycle import EntryState, entry_subject
from fleetcast.events.state import SlotEntry, SlotState
from fleetcast.registry.book import read
from fleetcast.registry.commands import Answer, Rollback
from fleetcast.registry.errors import NoKeeper

LOOK_SECONDS = 0.2
"""Between looks at the slot, while the registry waits for a quorum."""
LAST_WORD_SECONDS = 0.5
"""Before its deadline a step says by itself what it has: whoever reads it learns which nodes lag."""
CONFLICTS = 5


class Nothing(StepParams):
    """No params."""


class FindPreviousStable:
    """Finds the last verified version that is not quarantined. Where none is left it has the registry say so, `frozen`;
    in drills and dry runs it only reads."""

    name = "find_previous_stable"
    params: type[BaseModel] | None = Nothing
    reads_only = True
    summary = "find the last verified version that is neither quarantined, rejected nor archived"

    async def run(self, context: StepContext, params: Any) -> StepResult:
        """Say which, and what spoke against the others."""
        slot = await context.slot()
        target = await find_target(context, slot)
        said = "; ".join(target.considered)
        output = {
            "kind": target.kind,
            "bad": target.bad,
            "version": target.version,
            "considered": list(target.considered),
            "generation": slot.generation if slot else 0,
        }
        if target.kind == "gone":
            gone = f"{context.run.model}@{target.bad} is not served any more"
            why = gone if target.bad else f"nothing is served of {context.run.model}"
            return StepResult(True, f"{why}: nothing to do", output, nothing=True)
        if target.kind == "none":
            await _freeze(context)
            said = said or "no other version was in production and may go there again"
            why = f"no good version is left: {said}; {target.bad} stays, frozen"
            return StepResult(False, why, output, again=False, version=target.bad)
        found = f"{target.version or 'nothing'} instead of {target.bad} ({said})"
        return StepResult(True, found, output, version=target.bad)

    def plan(self, context: StepContext, params: Any) -> str:
        return f"find the version of {context.run.model} to go back to"


class UpdateDeployment:
    """Moves the slots back: asks the registry, which quarantines the bad version in the same batch."""

    class Params(StepParams):
        """How."""

        now: bool = Field(default=False, description="Without waiting until a quorum of nodes holds the version.")
        keep: bool = Field(default=False, description="The bad version goes to staging, and not into quarantine.")

    name = "update_deployment"
    params: type[BaseModel] | None = Params
    summary = "move the slots to the version that was found, and quarantine the bad one"

    async def run(self, context: StepContext, params: "UpdateDeployment.Params") -> StepResult:
        """Ask, and again where somebody else moved the slot meanwhile; the same request moves it once."""
        for _ in range(CONFLICTS):
            slot = await context.slot()
            answer = await self._asked(context, params, slot)
            if isinstance(answer, StepResult):
                return answer
            if answer.outcome != "conflict":
                return await _settled(context, answer)
        return StepResult(False, "others move the slots all the time")

    async def _asked(
        self, context: StepContext, params: "UpdateDeployment.Params", slot: SlotState | None
    ) -> Answer | StepResult:
        known = await _answered(context)
        if known is not None:
            return known
        target = await find_target(context, slot)
        if target.kind == "gone":
            return StepResult(True, f"{target.bad} is not served any more: somebody else was quicker", nothing=True)
        if target.kind == "none":
            return StepResult(False, f"no good version is left: {'; '.join(target.considered)}", again=False)
        assert slot is not None
        command = Rollback(
            model=slot.model,
            to=target.version if target.kind == "former" else None,
            now=params.now,
            keep=params.keep,
            expected_generation=slot.generation,
        )
        if context.run.drill:
            return _shadow(target, await _transition(context, command, dry_run=True))
        return await _transition(context, command)

    def plan(self, context: StepContext, params: "UpdateDeployment.Params") -> str:
        bad = context.found("find_previous_stable", "bad") or context.run.version or "the served version"
        to = context.found("find_previous_stable", "version") or "the version found"
        return f"registry: rollback of {context.run.model} from {bad} to {to}; {bad} is quarantined"


class VerifyRollback:
    """Waits until every node that can be reached reports that it serves the version."""

    name = "verify_rollback"
    params: type[BaseModel] | None = Nothing
    summary = "wait until every node that can be reached serves it; name those that do not"

    async def run(self, context: StepContext, params: Any) -> StepResult:
        """Look whenever a node says something. Who is silent is named and blocks nothing; who lags is waited for."""
        if context.run.drill:
            return await _shadow_nodes(context)
        generation = context.found("update_deployment", "generation") or 0
        version = context.found("update_deployment", "version") or context.run.to
        fleet = context.around.fleet
        while True:
            fleet.changed.clear()
            slot = await context.slot()
            if slot is None or not version or (slot.generation > generation > 0 and not _named(slot, version)):
                return StepResult(False, f"somebody moved the slots of {context.run.model} meanwhile", again=False)
            report = fleet.view.served_by(slot, version=version, generation=generation or slot.generation)
            # Nobody who wants the model, or nobody who can be reached: there is nobody left to wait for.
            if report.done or (not report.lagging and not report.serving):
                return StepResult(True, report.sentence, report.document())
            if _late(context):
                return StepResult(False, report.sentence, report.document(), again=False)
            await _until_changed(context, fleet.changed)

    def plan(self, context: StepContext, params: Any) -> str:
        return f"wait until N of M nodes report it, {context.step.timeout_seconds:g} s at most"


async def find_target(context: StepContext, slot: SlotState | None) -> Target:
    """What to serve instead, as it is now."""
    entries: Mapping[str, EntryState] = {}
    if slot is not None and (bad := bad_version(slot, context.run.version)) is not None:
        entries = await _entries(context, slot.model, tuple(e.version for e in candidates(slot, bad)))
    return choose(slot, context.run.version, context.run.to, entries, context.around.fleet.view)


async def _entries(context: StepContext, model: str, versions: tuple[str, ...]) -> dict[str, EntryState]:
    found = await asyncio.gather(
        *(context.around.bus.last(REGISTRY, entry_subject(model, version)) for version in versions)
    )
    return {v: read(EntryState, e) for v, e in zip(versions, found, strict=True) if e is not None}


async def _transition(
    context: StepContext, command: Rollback, *, request: str | None = None, dry_run: bool = False
) -> Answer:
    try:
        return await context.around.registry.transition(
            command,
            reason=context.reason,
            request=request or context.key,
            actor=context.around.actor,
            dry_run=dry_run,
            correlation=context.run.cause.correlation,
            deadline_seconds=context.step.timeout_seconds,
        )
    except NoKeeper as e:
        raise TransportFailed(str(e)) from e


async def _answered(context: StepContext) -> Answer | None:
    """What the registry answered this very step in an earlier life or attempt; None: it was not asked yet.

    A rollback that was done is not judged again by what is served now: the version would be gone, and nobody would know
    that it was us who moved it.
    """
    if not context.step.interrupted and context.attempt <= 1:
        return None
    assert context.run.model is not None
    answer = await _transition(context, Rollback(model=context.run.model), dry_run=True)
    return answer if answer.repeated else None


async def _settled(context: StepContext, answer: Answer) -> StepResult:
    """What the registry's answer comes to; one that began a rollout is waited for."""
    output: dict[str, Any] = {"version": answer.version, "generation": answer.generation, "n": answer.n}
    if answer.outcome == "done":
        # A withdrawn canary is answered with the version that was withdrawn; what stays is what counts here.
        stays = context.found("find_previous_stable", "version")
        to = stays if context.found("find_previous_stable", "kind") == "canary" else answer.version
        return StepResult(True, answer.message, {**output, "version": to}, to=to)
    if answer.outcome != "started":
        return StepResult(False, answer.message, output, again=False)
    while not _late(context):
        slot = await context.slot()
        if slot is not None and slot.production is not None and slot.production.version == answer.version:
            output = {**output, "generation": slot.generation}
            return StepResult(True, f"{slot.model} is back on {answer.version}", output, to=answer.version)
        await asyncio.sleep(LOOK_SECONDS)
    return StepResult(False, f"{answer.message}; not within {context.step.timeout_seconds:g} s", output)


async def _freeze(context: StepContext) -> None:
    """Have the registry say that no good version is left; a canary beside it is left alone."""
    slot = await context.slot()
    if context.run.drill or slot is None or slot.canary is not None:
        return
    command = Rollback(model=slot.model, expected_generation=slot.generation)
    await _transition(context, command, request=f"{context.key}.freeze")


def _shadow(target: Target, answer: Answer) -> StepResult:
    """What a drill says in place of moving a slot: what the registry would do, and did not."""
    said = f"drill, no slot was moved: {answer.message}"
    return StepResult(answer.accepted, said, {"version": target.version}, again=False, to=target.version or None)


async def _shadow_nodes(context: StepContext) -> StepResult:
    """What a drill says in place of waiting for nodes: who could serve the version at once."""
    slot, to = await context.slot(), context.run.to
    entry = None if slot is None else next((e for e in (slot.production, *candidates(slot, "")) if _is(e, to)), None)
    if slot is None or entry is None:
        return StepResult(False, f"drill: no slot of {context.run.model} names {to}", again=False)
    view = context.around.fleet.view
    wanting, holders = view.wanting(slot.model), set(view.holders(entry.artifact))
    without = [node for node in wanting if node not in holders]
    said = f"drill: {len(wanting) - len(without)} of {len(wanting)} nodes hold {slot.model}@{to} verified"
    more = f"; not {', '.join(without)}" if without else ""
    return StepResult(len(without) < len(wanting), said + more, again=False)


def _is(entry: SlotEntry | None, version: str | None) -> bool:
    return entry is not None and entry.version == version


def _named(slot: SlotState, version: str) -> bool:
    return slot.production is not None and slot.production.version == version


def _late(context: StepContext) -> bool:
    """Whether the attempt ends so soon that it has to say what it has."""
    deadline = context.deadline
    return deadline is not None and (deadline - context.around.now()).total_seconds() <= LAST_WORD_SECONDS


async def _until_changed(context: StepContext, changed: asyncio.Event) -> None:
    """Return at the next news, and in time for the last word."""
    deadline = context.deadline
    left = 1.0 if deadline is None else (deadline - context.around.now()).total_seconds() - LAST_WORD_SECONDS
    try:
        async with asyncio.timeout(min(1.0, max(0.01, left))):
            await changed.wait()
    except TimeoutError:
        return
