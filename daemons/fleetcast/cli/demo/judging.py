"""The steps of the demo in which the registry decides: gates, and a canary."""

import asyncio

from fleetcast.cli.demo import evidence
from fleetcast.cli.demo.evidence import check
from fleetcast.cli.demo.material import JUDGED, Material, make_small_model
from fleetcast.cli.demo.stage import ORIGIN, STEP_SECONDS, Stage, publish
from fleetcast.cli.waiting import answers_to, until_served
from fleetcast.events.decisions import PromotionRefused
from fleetcast.events.payloads import ModelPromoted
from fleetcast.events.state import SlotState

WEAK = {
    "evaluations": {"random": {"wins": 168, "losses": 32}, "heuristic": {"wins": 90, "losses": 110}},
    "rating": {"elo": 1620, "games": 400, "error": 34},
}
GOOD = {
    "evaluations": {"random": {"wins": 196, "losses": 4}, "heuristic": {"wins": 150, "losses": 50}},
    "rating": {"elo": 1752, "games": 400, "error": 34},
}


async def gates(stage: Stage) -> str:
    """A weak version is refused with its numbers; a good one is served."""
    folder = stage.local.layout.publish
    made = [await asyncio.to_thread(make_small_model, folder, version, n) for n, version in enumerate("123", 10)]
    stage.judged = {material.version: material for material in made}
    refusal = await _refused(stage, stage.judged["1"])
    bad = [g for g in refusal.gates if g.verdict != "pass"]
    check(bool(bad), "the weak version was refused by no gate")
    for gate in bad:
        stage.out.say(f"      {gate.gate} {gate.verdict}: {gate.actual}; required {gate.required}")
    await _served(stage, stage.judged["2"])
    names = ", ".join(g.gate for g in bad)
    return f"judged@1 refused by {names}; judged@2 passed all {len(refusal.gates)} gates and is served"


async def canary(stage: Stage) -> str:
    """A new version is tried on one node of three."""
    three = stage.judged["3"]
    event, sequence = await publish(stage, _promotion(three, GOOD | {"stage": "canary"}))
    async with answers_to(stage.bus, stage.fleet, event, sequence) as answers:
        slot = await stage.fleet.until(lambda: _with_canary(stage.fleet.slot(JUDGED)), STEP_SECONDS)
        check(answers.refusal is None, f"the canary was refused: {answers.refusal}")
    assert slot.canary is not None
    [chosen] = slot.canary.nodes
    await stage.fleet.until(lambda: _follows(stage, chosen, "3"), STEP_SECONDS)
    others = [name for name in stage.names if name != chosen]
    layout = stage.local.layout
    await asyncio.to_thread(evidence.check_pointer, layout, chosen, three, "current")
    for name in others:
        await asyncio.to_thread(evidence.check_pointer, layout, name, stage.judged["2"], "current")
    stage.canary_at = slot.at
    return f"{chosen} serves 3 while {' and '.join(others)} serve 2, read from their disks"


async def _refused(stage: Stage, material: Material) -> PromotionRefused:
    event, sequence = await publish(stage, _promotion(material, WEAK))
    async with answers_to(stage.bus, stage.fleet, event, sequence) as answers:
        refusal = await stage.fleet.until(lambda: answers.refusal, STEP_SECONDS)
    check(isinstance(refusal, PromotionRefused), f"refused for another reason: {refusal}")
    assert isinstance(refusal, PromotionRefused)
    return refusal


async def _served(stage: Stage, material: Material) -> None:
    await publish(stage, _promotion(material, GOOD))
    await until_served(stage.fleet, JUDGED, material.version, timeout_seconds=STEP_SECONDS)
    await evidence.check_each(stage.names, stage.local.layout, material)


def _promotion(material: Material, metadata: dict[str, object]) -> ModelPromoted:
    return ModelPromoted(
        model=JUDGED, version=material.version, path=str(material.path), node=ORIGIN, metadata=metadata
    )


def _with_canary(slot: SlotState | None) -> SlotState | None:
    return slot if slot is not None and slot.canary is not None else None


def _follows(stage: Stage, node: str, version: str) -> bool | None:
    seen = stage.fleet.node(node)
    models = seen.status.models if seen else ()
    return True if any(m.model == JUDGED and m.current == version for m in models) else None
