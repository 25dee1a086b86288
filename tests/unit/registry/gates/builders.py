"""Inputs of gates, built from what matters to a test."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fleetcast.events.lifecycle import (
    Approval,
    Evaluation,
    Facts,
    Flag,
    FreezeState,
    Rating,
    StageName,
)
from fleetcast.registry.gates.inputs import GateInputs
from fleetcast.registry.gates.judge import judge
from fleetcast.registry.gates.loading import load
from fleetcast.registry.gates.policy import Gates, ModelPolicy, StageGates
from fleetcast.registry.gates.results import GateResult

COMMITTED = Path(__file__).parents[4] / "config" / "gates.toml"
NOW = "2026-11-20T12:00:00Z"
"""A Friday."""
PRODUCTION, STAGING, CANARY = StageName.PRODUCTION, StageName.STAGING, StageName.CANARY


def ago(seconds: float) -> str:
    return (datetime.fromisoformat(NOW) - timedelta(seconds=seconds)).isoformat()


def inputs(**given: Any) -> GateInputs:
    base: dict[str, Any] = {
        "model": "hex8_2p",
        "version": "43",
        "artifact": "a" * 64,
        "stage": StageName.STAGING,
        "since": ago(3600),
        "format": "safetensors",
        "format_check": "ok",
        "now": NOW,
        "asked_by": "ann",
    }
    return GateInputs.model_validate({**base, **given})


def games(opponent: str, wins: int, losses: int, draws: int = 0) -> GateInputs:
    """A version that played one opponent."""
    return inputs(facts=Facts(evaluations={opponent: Evaluation(wins=wins, losses=losses, draws=draws)}))


def rated(elo: float, games: int = 100, **more: Any) -> GateInputs:
    return inputs(facts=Facts(rating=Rating(elo=elo, games=games, **more)))


def flag(value: bool, by: str = "bob") -> Flag:
    return Flag(value=value, by=by, at=ago(60))


def approval(by: str, *, stage: StageName = PRODUCTION, age: float = 60, lasts: float = 3600) -> Approval:
    return Approval(by=by, stage=stage, at=ago(age), expires_at=ago(age - lasts))


def freeze(*, until: str | None = None, frozen: bool = True) -> FreezeState:
    return FreezeState(frozen=frozen, until=until, reason="release week", by="eve", at=ago(60))


def asking(confidence: float = 0.95, **gates: Any) -> ModelPolicy:
    """A policy that asks only this for production."""
    return ModelPolicy(confidence=confidence, gates=Gates(production=StageGates(**gates)))


def result(policy: ModelPolicy, given: GateInputs, name: str, target: StageName = PRODUCTION) -> GateResult:
    """What the gate of this name says."""
    found = [each for each in judge(policy, target, given).results if each.name == name]
    assert len(found) == 1, f"{name}: {len(found)} results"
    return found[0]


def committed() -> ModelPolicy:
    return load(COMMITTED).base


def proven(**facts: Any) -> GateInputs:
    """A version that passes every gate of the committed file."""
    good: dict[str, Any] = {
        "experiment_id": "exp-7",
        "git_commit": "0123abc",
        "reproducibility_hash": "r1",
        "calibration_error": 0.1,
        "expected_latency_p95_ms": 40.0,
        "evaluations": {
            "Random": Evaluation(wins=195, losses=5),
            "Heuristic": Evaluation(wins=140, losses=60),
        },
        "rating": Rating(elo=1720, games=400, delta=60, delta_error=40),
    }
    names = ("constitutional_compliance", "bias_check_passed", "training_succeeded", "parity", "e2e")
    return inputs(facts=Facts(**{**good, **facts}), flags={name: flag(True) for name in names})
