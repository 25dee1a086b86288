"""Making a decision again from its audit record, and what differs then."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError

from fleetcast.events.lifecycle import StageName
from fleetcast.registry.gates.inputs import GateInputs
from fleetcast.registry.gates.judge import judge
from fleetcast.registry.gates.policy import ModelPolicy
from fleetcast.registry.gates.results import GateResult, Judgement

METHOD: Final = 1
"""Of the statistics and texts; grows when the same inputs give other results."""


def evidence_of(policy: ModelPolicy, inputs: GateInputs, judgement: Judgement) -> dict[str, object]:
    """What an audit record keeps of a decision: enough to make it again."""
    return {
        "method": METHOD,
        "policy": policy.model_dump(mode="json", by_alias=True),
        "policy_sha256": policy.digest,
        "target": str(judgement.target),
        "inputs": inputs.model_dump(mode="json", by_alias=True),
        "gates": [result.model_dump(mode="json") for result in judgement.results],
        "allowed": judgement.allowed,
        "rejects": judgement.rejects,
    }


def rejudge(evidence: Mapping[str, Any]) -> tuple[Judgement, tuple[str, ...]]:
    """Judge again from what an audit record keeps.

    Returns the judgement as it is now, and what differs from the one that was kept, one line each; none: it is the
    same, bit for bit.

    Raises:
        ValueError: the evidence is not complete, or a newer fleetcast wrote it.
    """
    try:
        policy = ModelPolicy.model_validate(evidence["policy"])
        inputs = GateInputs.model_validate(evidence["inputs"])
        target = StageName(evidence["target"])
        kept = [GateResult.model_validate(gate) for gate in evidence["gates"]]
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise ValueError(f"the record cannot be judged again: {_first_line(error)}") from error
    judgement = judge(policy, target, inputs)
    again = evidence_of(policy, inputs, judgement)
    return judgement, tuple(_differences(evidence, again, kept, judgement))


def _differences(
    evidence: Mapping[str, Any], again: Mapping[str, object], kept: list[GateResult], judgement: Judgement
) -> Iterator[str]:
    for key in ("method", "policy", "policy_sha256", "inputs", "allowed", "rejects"):
        if evidence.get(key) != again[key]:
            yield f"{key}: kept {_short(evidence.get(key))}, now {_short(again[key])}"
    for number in range(max(len(kept), len(judgement.results))):
        was = kept[number] if number < len(kept) else None
        now = judgement.results[number] if number < len(judgement.results) else None
        if was != now:
            yield f"gate {(was or now or _NOTHING).name}: kept {_told(was)}, now {_told(now)}"


_NOTHING = GateResult(name="", verdict="insufficient", required="", actual="")


def _told(result: GateResult | None) -> str:
    return f"{result.verdict} ({result.actual}; required {result.required})" if result else "nothing"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:99]}…"


def _first_line(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]!r}"
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error).splitlines()[0]
