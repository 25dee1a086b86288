"""What playbooks are made of. A step of one's own is an entry point of the group `fleetcast.playbook_steps` that names
an object with the attributes of `base.Step`; a program needs none: `command = [...]`.
"""

import importlib.metadata
from collections.abc import Mapping

import structlog
from pydantic import BaseModel

from fleetcast.daemons.remedy.playbooks.steps.actions import (
    NotifyDependents,
    PostWebhook,
    RestartService,
    RunCommand,
    SendSubject,
    WaitFor,
)
from fleetcast.daemons.remedy.playbooks.steps.base import Step, StepContext, StepResult, Surroundings
from fleetcast.daemons.remedy.playbooks.steps.fleet import DrainNode, RequestRetraining
from fleetcast.daemons.remedy.playbooks.steps.rollback import FindPreviousStable, UpdateDeployment, VerifyRollback
from fleetcast.daemons.remedy.playbooks.steps.trust import UpdateTrustMetrics

__all__ = ["GROUP", "Step", "StepContext", "StepResult", "Surroundings", "params_of", "registered"]

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.remedy")

GROUP = "fleetcast.playbook_steps"
"""Entry points of this group are steps."""

BUILT_IN: tuple[Step, ...] = (
    FindPreviousStable(),
    UpdateDeployment(),
    NotifyDependents(),
    VerifyRollback(),
    UpdateTrustMetrics(),
    DrainNode(),
    RequestRetraining(),
    RestartService(),
    RunCommand(),
    PostWebhook(),
    SendSubject(),
    WaitFor(),
)


def registered() -> dict[str, Step]:
    """All steps by name; one that cannot be loaded is told of and left out, and a built-in one is never replaced."""
    steps = {step.name: step for step in BUILT_IN}
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            found = point.load()
            step: Step = found() if isinstance(found, type) else found
            name = step.name
        except Exception as e:
            # Whatever a foreign package raises when it is imported, the other playbooks go on.
            log.exception("playbook.step.unusable", entry_point=point.value, reason=str(e))
            continue
        if name in steps:
            log.error("playbook.step.unusable", entry_point=point.value, reason=f"there is a step {name} already")
            continue
        steps[name] = step
    return steps


def params_of(steps: Mapping[str, Step]) -> dict[str, type[BaseModel] | None]:
    """The class of the params of every step, by name."""
    return {name: step.params for name, step in steps.items()}
