"""All gates of a stage, over frozen inputs."""

from collections.abc import Iterator

from fleetcast.events.lifecycle import StageName
from fleetcast.registry.gates.inputs import GateInputs
from fleetcast.registry.gates.policy import UPWARD, ModelPolicy
from fleetcast.registry.gates.results import GateResult, Judgement
from fleetcast.registry.gates.statements import statement_gates
from fleetcast.registry.gates.strength import rejection, strength_gates
from fleetcast.registry.gates.timing import freeze_gates, readiness_gate, timing_gates


def judge(policy: ModelPolicy, target: StageName, inputs: GateInputs) -> Judgement:
    """Whether a version may come to a stage.

    Where `decides = "external"`, only freezes and readiness are asked. Stages that a version falls back to have no
    gates. Every gate is judged, also behind one that does not pass.
    """
    if target not in UPWARD:
        return Judgement(target, ())
    if policy.decides == "external":
        return Judgement(target, (*_decided(inputs), *_holds_up(policy, target, inputs)))
    rejected = rejection(policy.reject, policy.confidence, inputs)
    results = (*_gates(policy, target, inputs), *_holds_up(policy, target, inputs))
    return Judgement(target, (rejected, *results) if rejected else results, rejects=rejected is not None)


def _gates(policy: ModelPolicy, target: StageName, inputs: GateInputs) -> Iterator[GateResult]:
    asked = policy.gates.to(target)
    if target not in policy.pipeline:
        yield _no_such_stage(policy, target)
    yield from strength_gates(policy, asked, inputs)
    yield from statement_gates(policy, asked, inputs)
    yield from timing_gates(target, asked, inputs)


def _holds_up(policy: ModelPolicy, target: StageName, inputs: GateInputs) -> Iterator[GateResult]:
    yield from freeze_gates(policy, target, inputs)
    if inputs.readiness is not None:
        yield readiness_gate(policy.quorum_ratio, inputs.readiness, inputs)


def _decided(inputs: GateInputs) -> Iterator[GateResult]:
    yield GateResult(
        name="external",
        verdict="pass",
        required="whoever promotes decides",
        actual=f"asked by {inputs.asked_by or 'somebody'}",
    )


def _no_such_stage(policy: ModelPolicy, target: StageName) -> GateResult:
    stages = ", ".join(policy.pipeline)
    return GateResult(
        name="pipeline",
        verdict="fail",
        required=f"one of {stages}",
        actual=str(target),
        next_step=f"choose another --stage, or add {target} to the pipeline of [{policy.profile}] in the gates file",
    )
