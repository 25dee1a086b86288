"""Steps that ask fleetcast itself: a node out of service, a new training run."""

from pydantic import BaseModel, Field

from fleetcast.bus.errors import TransportFailed
from fleetcast.daemons.remedy.playbooks.rules import StepResult
from fleetcast.daemons.remedy.playbooks.steps.actions import drilled
from fleetcast.daemons.remedy.playbooks.steps.base import StepContext, StepParams
from fleetcast.events.envelope import new_event
from fleetcast.events.incidents import RetrainRequested
from fleetcast.registry.book import Antecedent
from fleetcast.registry.commands import Drain
from fleetcast.registry.errors import NoKeeper


class DrainNode:
    """Takes a node out of service, or back in."""

    class Params(StepParams):
        """Which way."""

        drained: bool = Field(default=True, description="false: back into service.")

    name = "drain_node"
    params: type[BaseModel] | None = Params
    summary = "take the node out of service (or back in): it counts for nothing, and is named everywhere"

    async def run(self, context: StepContext, params: "DrainNode.Params") -> StepResult:
        """Ask the registry; it refuses where the node is the last one that serves a model."""
        if (told := drilled(context, self.plan(context, params))) is not None:
            return told
        try:
            answer = await context.around.registry.transition(
                Drain(node=context.run.resource_id, drained=params.drained),
                reason=context.reason,
                request=context.key,
                actor=context.around.actor,
                correlation=context.run.cause.correlation,
                deadline_seconds=context.step.timeout_seconds,
            )
        except NoKeeper as e:
            raise TransportFailed(str(e)) from e
        return StepResult(answer.accepted or answer.code == "nothing", answer.message, {"n": answer.n}, again=False)

    def plan(self, context: StepContext, params: "DrainNode.Params") -> str:
        return f"registry: {'drain' if params.drained else 'undrain'} {context.run.resource_id}"


class RequestRetraining:
    """Says that a model should be trained again."""

    class Params(StepParams):
        """Where."""

        lane: str | None = Field(default=None, description="The lane that trains it. None: the one of its name.")

    name = "request_retraining"
    params: type[BaseModel] | None = Params
    summary = "emit model.retrain.requested, which the model's lane consumes"

    async def run(self, context: StepContext, params: "RequestRetraining.Params") -> StepResult:
        """Once in effect: the id of the event is that of the step."""
        if (told := drilled(context, self.plan(context, params))) is not None:
            return told
        run = context.run
        payload = RetrainRequested.model_validate(
            {
                "model": run.model,
                "version": run.version,
                "lane": params.lane or None,
                "reasons": list(run.reasons),
                "incident": run.incident,
                "evidence": run.evidence,
            }
        )
        cause = Antecedent(context.key, run.cause.correlation)
        event = new_event(payload, source=context.around.actor, cause=cause, time=context.around.now())
        await context.around.bus.publish(event)
        return StepResult(True, f"asked for a new training run of {params.lane or run.model}", {"event": event.id})

    def plan(self, context: StepContext, params: "RequestRetraining.Params") -> str:
        return f"emit model.retrain.requested for {params.lane or context.run.model}"
