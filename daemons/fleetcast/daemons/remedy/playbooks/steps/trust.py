"""The last step of a rollback: what it says about how far the model can be trusted."""

from typing import Any

from pydantic import BaseModel

from fleetcast.bus.errors import TransportFailed
from fleetcast.bus.streams import REMEDY
from fleetcast.daemons.remedy.playbooks.rules import StepResult
from fleetcast.daemons.remedy.playbooks.steps.base import StepContext, StepParams
from fleetcast.events.incidents import IncidentState, ResourceType, incident_subject
from fleetcast.registry.book import read
from fleetcast.registry.commands import Trust
from fleetcast.registry.errors import NoKeeper
from fleetcast.registry.gates.trust import counted


class NoParams(StepParams):
    """No params."""


class UpdateTrustMetrics:
    """Counts the model's promotions, rollbacks and false alarms anew, and has the registry keep them."""

    name = "update_trust_metrics"
    params: type[BaseModel] | None = NoParams
    summary = "count promotions, rollbacks and false alarms anew; the registry keeps them and their score"

    async def run(self, context: StepContext, params: Any) -> StepResult:
        """From the audit records, so that however often it runs it comes to the same."""
        if context.run.drill:
            return StepResult(True, "drill: nothing is counted")
        assert context.run.model is not None
        counts = counted(await context.around.book.history(context.run.model))
        command = Trust(
            model=context.run.model,
            promotions=counts.promotions,
            rollbacks=counts.rollbacks,
            false_alarms=counts.false_alarms,
            first_at=counts.first_at,
            last_rollback_at=counts.last_rollback_at,
            last_incident_at=await _last_incident(context, context.run.model),
            counted=counts.n,
        )
        try:
            answer = await context.around.registry.transition(
                command,
                reason=context.reason,
                request=context.key,
                actor=context.around.actor,
                correlation=context.run.cause.correlation,
                deadline_seconds=context.step.timeout_seconds,
            )
        except NoKeeper as e:
            raise TransportFailed(str(e)) from e
        return StepResult(answer.accepted or answer.code == "nothing", answer.message)

    def plan(self, context: StepContext, params: Any) -> str:
        return f"count promotions, rollbacks and false alarms of {context.run.model} anew"


async def _last_incident(context: StepContext, model: str) -> str | None:
    """When the newest incident about a model was opened; those about playbooks do not count."""
    entries = await context.around.bus.newest(REMEDY, (incident_subject("*"),))
    states = [read(IncidentState, entry) for entry in entries]
    opened = [
        state.opened_at
        for state in states
        if (state.resource_type, state.resource_id) == (ResourceType.MODEL, model) and state.source != "remedy"
    ]
    return max(opened, default=None)
