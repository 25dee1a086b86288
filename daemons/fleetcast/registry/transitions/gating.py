"""The gates of all steps that a version passes at once, as one judgement that can be made again from its record."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fleetcast.events.decisions import GateVerdict
from fleetcast.events.lifecycle import EntryState, StageName
from fleetcast.registry.gates.explain import evidence_of
from fleetcast.registry.gates.inputs import inputs_of
from fleetcast.registry.gates.judge import judge
from fleetcast.registry.transitions.view import View


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gates said.

    Attributes:
        verdicts: one for each gate of each step, named `STAGE/GATE` where there are several steps.
        evidence: all that it was made from, one document for each step, for the audit record.
    """

    allowed: bool
    verdicts: tuple[GateVerdict, ...]
    evidence: dict[str, Any]


def judged(view: View, entry: EntryState, steps: Sequence[StageName], *, asked_by: str) -> Judged:
    """Judge every step with the same inputs."""
    production = view.entries.get(view.production.version) if view.production else None
    inputs = inputs_of(
        entry,
        now=view.at,
        freeze=view.freezes,
        # The rollout waits for the quorum; a gate that asked for it now would refuse every new version.
        readiness=None,
        production_entry=production,
        asked_by=asked_by,
        format_check=entry.format_check or None,
        trust=view.trust,
    )
    verdicts: list[tuple[StageName, GateVerdict]] = []
    documents: list[dict[str, Any]] = []
    allowed = True
    for step in steps:
        judgement = judge(view.policy, step, inputs)
        allowed = allowed and judgement.allowed
        documents.append(evidence_of(view.policy, inputs, judgement))
        verdicts += [(step, result.said()) for result in judgement.results]
    return Judged(allowed, tuple(_named(verdicts)), {"steps": documents})


def _named(verdicts: Sequence[tuple[StageName, GateVerdict]]) -> Iterator[GateVerdict]:
    """Each verdict once: named by its step, unless all steps ask for the same and are answered alike."""
    steps: dict[GateVerdict, list[StageName]] = {}
    for step, verdict in verdicts:
        steps.setdefault(verdict, []).append(step)
    every = len({step for step, _ in verdicts})
    for verdict, asked in steps.items():
        alone = every == 1 or len(asked) == every
        yield verdict if alone else verdict.model_copy(update={"gate": f"{asked[-1]}/{verdict.gate}"})


def rejection(view: View, entry: EntryState) -> str | None:
    """Why the results of a version take it out of the pipeline for good; None: they do not."""
    rule, rating = view.policy.reject, entry.facts.rating
    if rule is None or rating is None:
        return None
    inputs = inputs_of(entry, now=view.at, freeze=view.freezes, readiness=None)
    if not judge(view.policy, StageName.PRODUCTION, inputs).rejects:
        return None
    return f"Elo {rating.elo:g} after {rating.games} games; {rule.elo_below:g} is required after {rule.min_games}"
