"""Gates on what people and programs state about a version: flags, evidence from outside, metadata, metrics, format.

A statement that nobody made is `insufficient`; one that says no is `fail`."""

from collections.abc import Iterator

from fleetcast.registry.gates import steps
from fleetcast.registry.gates.inputs import GateInputs, moment
from fleetcast.registry.gates.policy import ModelPolicy, Range, StageGates
from fleetcast.registry.gates.results import GateResult, Verdict
from fleetcast.registry.gates.trust import interval, sentence

CHECKSUMS = "checksums"
"""Metadata that every version has: its artifact names the SHA-256 of each file."""


def statement_gates(policy: ModelPolicy, asked: StageGates, inputs: GateInputs) -> Iterator[GateResult]:
    """The gates on statements that a policy and a stage ask for."""
    yield from (metadata_gate(name, inputs) for name in policy.metadata)
    yield from (flag_gate("flag", name, inputs) for name in asked.flags)
    yield from (flag_gate("evidence", name, inputs) for name in asked.evidence)
    if asked.reproducibility_hash:
        yield present_gate("reproducibility_hash", inputs.facts.reproducibility_hash, inputs)
    if asked.latency_objective:
        yield present_gate("expected_latency_p95_ms", inputs.facts.expected_latency_p95_ms, inputs)
    if asked.max_calibration_error is not None:
        limits = Range(max=asked.max_calibration_error)
        yield value_gate("calibration_error", inputs.facts.calibration_error, limits, inputs)
    for name, limits in sorted(asked.metrics.items()):
        value = (inputs.facts.evaluation_metrics or {}).get(name)
        yield value_gate(f"metrics.{name}", value, limits, inputs)
    if asked.min_trust > 0:
        yield trust_gate(asked.min_trust, inputs)
    if asked.tested_format:
        yield format_gate(inputs)


def flag_gate(sort: str, name: str, inputs: GateInputs) -> GateResult:
    """Somebody answers for it that this holds."""
    flag = inputs.flags.get(name)
    verdict: Verdict = "insufficient" if flag is None else "pass" if flag.value else "fail"
    said = f"{str(flag.value).lower()}, set by {flag.by} at {flag.at}" if flag else "nobody set it"
    return GateResult(
        name=f"{sort}.{name}",
        verdict=verdict,
        required=f"{name} is true",
        actual=said + (f": {flag.reason}" if flag and flag.reason else ""),
        next_step="" if verdict == "pass" else steps.set_flag(inputs, name),
    )


def trust_gate(least: float, inputs: GateInputs) -> GateResult:
    """Earlier promotions of the model ended well."""
    low = 0.0 if inputs.trust is None else interval(inputs.trust)[0]
    unknown = inputs.trust is None or inputs.trust.promotions == 0
    verdict: Verdict = "insufficient" if unknown else "pass" if low >= least else "fail"
    return GateResult(
        name="trust",
        verdict=verdict,
        required=f"at least {least:g} of the promotions are kept, at 95 % confidence",
        actual="no promotion was counted yet" if inputs.trust is None else sentence(inputs.trust, moment(inputs.now)),
        next_step="" if verdict == "pass" else f"fleetcast why {inputs.model}",
    )


def metadata_gate(name: str, inputs: GateInputs) -> GateResult:
    """The metadata schema: this fact is there."""
    if name == CHECKSUMS:
        return GateResult(
            name=f"metadata.{name}", verdict="pass", required=f"{name} is there", actual=f"artifact {inputs.artifact}"
        )
    if name in type(inputs.facts).model_fields:
        return present_gate(name, getattr(inputs.facts, name), inputs, gate=f"metadata.{name}")
    return present_gate(f"metadata.{name}", inputs.metadata.get(name), inputs)


def present_gate(name: str, value: object, inputs: GateInputs, gate: str = "") -> GateResult:
    """Something was stated, whatever it says."""
    there = value is not None and value not in ("", (), {}, [])
    return GateResult(
        name=gate or name,
        verdict="pass" if there else "insufficient",
        required=f"{name.removeprefix('metadata.')} is there",
        actual=_short(value) if there else "not there",
        next_step="" if there else steps.set_fact(inputs, name),
    )


def value_gate(name: str, value: float | None, limits: Range, inputs: GateInputs) -> GateResult:
    """A stated number lies within limits; without counts it has no bound, and is taken as it is stated."""
    wanted = " and ".join(
        f"{words} {limit:g}"
        for words, limit in (("at least", limits.min), ("at most", limits.max))
        if limit is not None
    )
    key = name.removeprefix("metrics.")
    if value is None:
        step = steps.set_fact(inputs, name)
        return GateResult(
            name=name, verdict="insufficient", required=f"{key} {wanted}", actual="not stated", next_step=step
        )
    fits = (limits.min is None or value >= limits.min) and (limits.max is None or value <= limits.max)
    return GateResult(
        name=name,
        verdict="pass" if fits else "fail",
        required=f"{key} {wanted}",
        actual=f"{value:.6g}, as stated",
        next_step="" if fits else steps.show_evidence(inputs),
    )


def format_gate(inputs: GateInputs) -> GateResult:
    """The files were proven loadable by the test of their format."""
    passes = inputs.format_check == "ok"
    return GateResult(
        name="format",
        verdict="pass" if passes else "insufficient",
        required="a format test that passed",
        actual=inputs.format_check or "nobody tested it",
        next_step="" if passes else "publish the model as safetensors, torch, npz or onnx: a pickle is never loaded",
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
