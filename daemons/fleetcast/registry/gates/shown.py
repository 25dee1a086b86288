"""A policy as people read it: what each stage asks for, how versions come to the nodes, what gates can tell apart."""

from collections.abc import Iterator

from fleetcast.events.lifecycle import StageName
from fleetcast.registry.gates.curve import MOST_ELO, CurveRow
from fleetcast.registry.gates.inputs import Baseline, GateInputs
from fleetcast.registry.gates.judge import judge
from fleetcast.registry.gates.policy import UPWARD, FreezeWindow, ModelPolicy

CURVE_COLUMNS = ("STAGE", "GATE", "REQUIRED", "GAMES", "20 ELO WEAKER", "JUST AS GOOD", "20 ELO STRONGER", "LIKELY AT")


def requirement_rows(policy: ModelPolicy) -> Iterator[tuple[str, str, str]]:
    """Stage, gate, and what it requires; in the words of the verdicts, since it asks the gates themselves."""
    for stage in UPWARD:
        if stage in policy.pipeline:
            results = judge(policy, stage, _UNKNOWN).results
            yield from ((stage.value, each.name, each.required) for each in results if each.name != "freeze")


def rollout_rows(policy: ModelPolicy) -> Iterator[tuple[str, str]]:
    """What else holds for a model, by name."""
    yield "decides", "the gates" if policy.decides == "gates" else "whoever promotes (external)"
    yield "pipeline", " -> ".join(policy.pipeline)
    yield "confidence", f"{policy.confidence:g}, one-sided"
    steps = ", ".join(f"{percent} %" for percent in policy.canary_steps)
    yield "canary", f"{steps} of the nodes, {policy.bake_seconds:g} s each" if steps else "none"
    yield "quorum", f"{policy.quorum_ratio:g} of the wanting nodes within {policy.distribute_seconds:g} s"
    if policy.reject:
        rule = policy.reject
        yield "rejects", f"upper bound of Elo below {rule.elo_below:g} after {rule.min_games} games"
    yield from (("frozen", _hours(window)) for window in policy.freeze)


def curve_rows(curve: tuple[CurveRow, ...]) -> Iterator[tuple[str, ...]]:
    """Rows under `CURVE_COLUMNS`; chances in percent."""
    for row in curve:
        chances = tuple(f"{100 * chance:.1f} %" for chance in row.chances)
        likely = f"+{row.likely_at:.0f} Elo" if row.likely_at < MOST_ELO else "never"
        yield (row.stage.value, row.gate, row.requirement, str(row.games), *chances, likely)


def _hours(window: FreezeWindow) -> str:
    return f"{', '.join(window.days)} {window.begins}-{window.ends} {window.zone}: {window.reason}"


_MOMENT = "2000-01-01T00:00:00Z"
_UNKNOWN = GateInputs(
    model="model",
    version="version",
    artifact="0" * 64,
    stage=StageName.DEVELOPMENT,
    since=_MOMENT,
    now=_MOMENT,
    production=Baseline(version="other"),
)
"""A version of which nothing is known: what is required is the same for all."""
