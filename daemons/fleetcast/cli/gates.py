"""`fleetcast gates`: what a gates file asks for, how sharply it can tell, and what is wrong with it."""

from pathlib import Path

from fleetcast.cli.call import Call
from fleetcast.cli.connection import target
from fleetcast.cli.problems import Exit, Problem
from fleetcast.cli.table import table
from fleetcast.cli.translate import config_problem
from fleetcast.config.errors import ConfigError
from fleetcast.registry.gates import ModelPolicy, Policy, load, operating_curve
from fleetcast.registry.gates.curve import CurveRow
from fleetcast.registry.gates.shown import CURVE_COLUMNS, curve_rows, requirement_rows, rollout_rows


def show(call: Call, model: str | None, *, file: Path | None, games: int | None) -> Exit:
    """Print what holds for a model, or for models that no profile names."""
    path = file or target(call).settings.registry.gates
    policy = _loaded(path) if path else Policy.default()
    held = policy.for_model(model) if model else policy.base
    curve = operating_curve(held, games) if held.decides == "gates" else ()
    call.out.document(_document(path, policy, held, model, curve))
    call.out.text(_headline(path, policy, held, model))
    call.out.show(table(("", ""), rollout_rows(held)))
    if held.decides == "gates":
        call.out.text("")
        call.out.show(table(("STAGE", "GATE", "REQUIRED"), requirement_rows(held)))
    if curve:
        call.out.text(
            "\nchance to pass, for a version that is …; and how much stronger than required passes in 80 of 100:"
        )
        call.out.show(table(CURVE_COLUMNS, curve_rows(curve), right=range(3, 8)))
    if not model and policy.profiles:
        names = ", ".join(f"{each.policy.profile} ({', '.join(each.models)})" for each in policy.profiles)
        call.out.say(f"profiles for other models: {names}; see one with: fleetcast gates show MODEL")
    return Exit.OK


def check(call: Call, file: Path | None) -> Exit:
    """Load a gates file the way the registry daemon does; mistakes end the command by themselves."""
    path = file or target(call).settings.registry.gates
    if path is None:
        raise Problem(
            "usage",
            "no gates file is named",
            why="registry.gates is not set, so that whoever promotes decides",
            next_step="fleetcast gates check FILE",
            exit_code=Exit.USAGE,
        )
    policy = _loaded(path)
    profiles = ["default", *(each.policy.profile for each in policy.profiles)]
    call.out.document({"ok": True, "file": str(path), "digest": policy.digest, "profiles": profiles})
    call.out.text(f"ok: {path} (profiles: {', '.join(profiles)}; digest {policy.digest[:16]})")
    return Exit.OK


def _loaded(path: Path) -> Policy:
    try:
        return load(path)
    except ConfigError as error:
        raise config_problem(error, "the gates file cannot be used") from error


def _headline(path: Path | None, policy: Policy, held: ModelPolicy, model: str | None) -> str:
    whose = f"for {model}: " if model else ""
    if path is None:
        return f"{whose}no gates file (registry.gates): whoever promotes decides"
    return f"{whose}profile {held.profile} of {path} (digest {policy.digest[:16]})"


def _document(
    path: Path | None, policy: Policy, held: ModelPolicy, model: str | None, curve: tuple[CurveRow, ...]
) -> dict[str, object]:
    return {
        "file": str(path) if path else None,
        "digest": policy.digest,
        "model": model,
        "profile": held.profile,
        "profiles": [{"name": each.policy.profile, "models": list(each.models)} for each in policy.profiles],
        "policy": held.model_dump(mode="json", by_alias=True),
        "requirements": [
            {"stage": stage, "gate": gate, "required": required} for stage, gate, required in requirement_rows(held)
        ],
        "curves": [
            {
                "stage": row.stage.value,
                "gate": row.gate,
                "required": row.requirement,
                "games": row.games,
                "confidence": row.confidence,
                "weaker_20": row.chances[0],
                "equal": row.chances[1],
                "stronger_20": row.chances[2],
                "likely_at_elo": row.likely_at,
            }
            for row in curve
        ],
    }
