"""Gates: whether the evidence lets a version into a stage. Pure: the same policy and inputs give the same judgement
wherever and whenever they are judged; only `load` reads a file.

`policy` and `loading` say what is asked for, `inputs` what is there, `judge` compares the two with one module per sort
of gate (`strength`, `statements`, `timing`), `bounds` has the statistics, `explain` judges again from an audit record,
`curve` says what a gate can tell apart.
"""

from fleetcast.registry.gates.curve import CurveRow, operating_curve
from fleetcast.registry.gates.explain import evidence_of, rejudge
from fleetcast.registry.gates.inputs import Baseline, GateInputs, Readiness, inputs_of
from fleetcast.registry.gates.judge import judge
from fleetcast.registry.gates.loading import load
from fleetcast.registry.gates.policy import ModelPolicy, Policy
from fleetcast.registry.gates.results import GateResult, Judgement

__all__ = [
    "Baseline",
    "CurveRow",
    "GateInputs",
    "GateResult",
    "Judgement",
    "ModelPolicy",
    "Policy",
    "Readiness",
    "evidence_of",
    "inputs_of",
    "judge",
    "load",
    "operating_curve",
    "rejudge",
]
