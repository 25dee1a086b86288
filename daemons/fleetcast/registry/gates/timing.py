"""Gates on when and with whom: freezes, soak time, approvals, readiness of the nodes."""

import math
from collections.abc import Iterator
from datetime import datetime, timedelta

from fleetcast.events.lifecycle import FLEET, Approval, StageName
from fleetcast.registry.gates import steps
from fleetcast.registry.gates.inputs import GateInputs, Readiness, moment
from fleetcast.registry.gates.policy import Approvals, FreezeWindow, ModelPolicy, StageGates
from fleetcast.registry.gates.results import GateResult


def freeze_gates(policy: ModelPolicy, target: StageName, inputs: GateInputs) -> Iterator[GateResult]:
    """Nothing is frozen; asked whoever decides."""
    for key, freeze in sorted(inputs.freezes.items()):
        until = f"until {freeze.until}" if freeze.until else "until somebody lifts it"
        what = "all models are" if key == FLEET else f"{key} is"
        yield GateResult(
            name="freeze",
            verdict="fail",
            required="nothing is frozen",
            actual=f"{what} frozen by {freeze.by} {until}: {freeze.reason}",
            next_step=steps.thaw(inputs, key),
        )
    now = moment(inputs.now)
    windows = [window for window in policy.freeze if window.hold_in_zone(now)]
    yield from (_in_window(window, target, inputs) for window in windows)
    if not inputs.freezes and not windows:
        yield GateResult(name="freeze", verdict="pass", required="nothing is frozen", actual="nothing is")


def _in_window(window: FreezeWindow, target: StageName, inputs: GateInputs) -> GateResult:
    hours = f"{', '.join(window.days)} {window.begins}-{window.ends} {window.zone}"
    return GateResult(
        name="freeze",
        verdict="fail",
        required=f"not within {hours}",
        actual=f"{window.reason}: it is {inputs.now}",
        next_step=f"after the window: {steps.try_again(inputs, target)}",
    )


def timing_gates(target: StageName, asked: StageGates, inputs: GateInputs) -> Iterator[GateResult]:
    """Soak time and approvals, where a stage asks for them."""
    if asked.soak_seconds:
        yield soak_gate(asked.soak_seconds, target, inputs)
    if asked.approvals.count:
        yield approvals_gate(asked.approvals, target, inputs)


def soak_gate(required: float, target: StageName, inputs: GateInputs) -> GateResult:
    """The version has been where it is for long enough."""
    ripe = moment(inputs.since) + timedelta(seconds=required)
    passed = max(0.0, (moment(inputs.now) - moment(inputs.since)).total_seconds())
    enough = moment(inputs.now) >= ripe
    return GateResult(
        name="soak",
        verdict="pass" if enough else "insufficient",
        required=f"{required:g} s in the stage before",
        actual=f"{math.floor(passed)} s in {inputs.stage}, since {inputs.since}",
        next_step="" if enough else f"after {ripe.isoformat(timespec='seconds')}: {steps.try_again(inputs, target)}",
    )


def approvals_gate(required: Approvals, target: StageName, inputs: GateInputs) -> GateResult:
    """Enough different people agree, none of them whoever asks."""
    given = [approval for approval in inputs.approvals if approval.stage == target]
    valid = [approval for approval in given if _counts(approval, required, moment(inputs.now), inputs.asked_by)]
    people = sorted({_person(approval.by) for approval in valid})
    enough = len(people) >= required.count
    others = f"; {len(given) - len(valid)} expired or by whoever asks" if len(given) > len(valid) else ""
    return GateResult(
        name="approvals",
        verdict="pass" if enough else "insufficient",
        required=f"{required.count} for {target}, not older than {required.expires_seconds:g} s, besides whoever asks",
        actual=(", ".join(people) or "nobody") + others,
        next_step="" if enough else steps.approve(inputs, target),
    )


def _counts(approval: Approval, required: Approvals, now: datetime, asked_by: str) -> bool:
    latest = moment(approval.at) + timedelta(seconds=required.expires_seconds)
    somebody_else = bool(approval.by) and _person(approval.by) != _person(asked_by)
    return somebody_else and now < min(moment(approval.expires_at), latest)


def _person(name: str) -> str:
    """Who that is: whoever asks on a command line is `/fleet/NODE/cli/NAME`, whoever agrees is a name alone."""
    return name.rpartition("/")[2]


def readiness_gate(quorum_ratio: float, readiness: Readiness, inputs: GateInputs) -> GateResult:
    """Enough of the wanting nodes hold the version verified."""
    needed = math.ceil(quorum_ratio * readiness.wanting - 1e-9)
    ready = readiness.verified >= needed and (readiness.wanting > 0 or quorum_ratio == 0)
    return GateResult(
        name="readiness",
        verdict="pass" if ready else "insufficient",
        required=f"{needed} of {readiness.wanting} nodes hold it verified (quorum {quorum_ratio:g})",
        actual=f"{readiness.verified} of {readiness.wanting}" if readiness.wanting else "no node wants the model",
        next_step="" if ready else steps.watch(inputs),
    )
