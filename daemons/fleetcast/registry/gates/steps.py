"""The commands that help where a gate does not pass, spelled in one place."""

import shlex

from fleetcast.registry.gates.inputs import GateInputs

_WHY = "--reason TEXT"


def set_flag(inputs: GateInputs, *names: str) -> str:
    said = " ".join(f"{name}=true" for name in names)
    return f"fleetcast evidence set {inputs.model} {inputs.version} {said} --report FILE {_WHY}"


def set_fact(inputs: GateInputs, name: str) -> str:
    return f"fleetcast evidence set {inputs.model} {inputs.version} {shlex.quote(f'{name}=VALUE')} {_WHY}"


def play(inputs: GateInputs, opponent: str) -> str:
    result = shlex.quote(f"{opponent}=WINS/LOSSES/DRAWS")
    return f"fleetcast evidence games {inputs.model} {inputs.version} {result} {_WHY}"


def rate(inputs: GateInputs) -> str:
    return f"fleetcast evidence rating {inputs.model} {inputs.version} ELO --games N --error E {_WHY}"


def show_evidence(inputs: GateInputs) -> str:
    return f"fleetcast evidence show {inputs.model} {inputs.version}"


def approve(inputs: GateInputs, stage: str) -> str:
    return f"fleetcast approve {inputs.model} {inputs.version} --stage {stage} {_WHY}"


def thaw(inputs: GateInputs, frozen: str) -> str:
    return f"fleetcast unfreeze {inputs.model if frozen == inputs.model else '--all'} {_WHY}"


def watch(inputs: GateInputs) -> str:
    return f"fleetcast transfers {inputs.model}@{inputs.version}"


def try_again(inputs: GateInputs, stage: str) -> str:
    return f"fleetcast promote {inputs.model} {inputs.version} --stage {stage} --dry-run"
