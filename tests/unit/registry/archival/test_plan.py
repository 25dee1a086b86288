"""The rules of archival, and what they may never take."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.config.archival import ArchivalSettings
from fleetcast.events.lifecycle import (
    ArchiveRule,
    EntryState,
    Facts,
    Phase,
    Rating,
    RolloutState,
    StageChange,
    StageName,
)
from fleetcast.events.state import CanaryEntry, Cause, SlotEntry, SlotState
from fleetcast.registry.archival import Proposal, pinned, plan

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
POLICY = ArchivalSettings()
NOTHING_SAID = Facts()
CAUSE = Cause(event="e", sequence=1, by="/test", correlation="e")


def at(days_ago: float) -> str:
    return (NOW - timedelta(days=days_ago)).isoformat()


def entry(
    version: str,
    *,
    model: str = "m",
    stage: StageName = StageName.DEVELOPMENT,
    days: float = 1.0,
    registered: float | None = None,
    was: tuple[StageName, ...] = (),
    facts: Facts = NOTHING_SAID,
) -> EntryState:
    """A version that came to its stage *days* ago, after the stages *was*."""
    path = (*was, stage)
    return EntryState(
        model=model,
        version=version,
        artifact="0" * 64,
        stage=stage,
        since=at(days),
        stages=tuple(StageChange(stage=s, at=at(days + len(path) - n - 1), n=n + 1) for n, s in enumerate(path)),
        facts=facts,
        origin="n1",
        registered_at=at(days if registered is None else registered),
        registered_by="/test",
        cause=CAUSE,
    )


def slot_entry(version: str) -> SlotEntry:
    return SlotEntry(version=version, artifact="0" * 64)


def slot(
    production: str | None = None, previous: str | None = None, canary: str | None = None, former: tuple[str, ...] = ()
) -> SlotState:
    return SlotState(
        model="m",
        generation=1,
        production=slot_entry(production) if production else None,
        previous=slot_entry(previous) if previous else None,
        canary=CanaryEntry(version=canary, artifact="0" * 64, percent=10) if canary else None,
        former=tuple(slot_entry(f) for f in former),
        cause=CAUSE,
        at=at(0),
    )


def rollout(version: str, phase: Phase, leaves: str | None = None) -> RolloutState:
    return RolloutState(
        rollout="r",
        model="m",
        version=version,
        artifact="0" * 64,
        target=StageName.PRODUCTION,
        phase=phase,
        started_at=at(1),
        since=at(1),
        leaves=leaves,
        actor="/test",
        cause=CAUSE,
    )


def rated(elo: float, games: int = 400, error: float | None = None) -> Facts:
    return Facts(rating=Rating(elo=elo, games=games, error=error))


def proposed(
    *entries: EntryState, slots: SlotState | None = None, rollouts: RolloutState | None = None
) -> dict[str, str]:
    """Rule by version."""
    found = plan(entries, {"m": slots} if slots else {}, {"m": rollouts} if rollouts else {}, NOW, POLICY)
    return {p.version: p.rule.value for p in found}


def test_a_version_goes_after_more_than_a_week_outside_production() -> None:
    assert proposed(entry("old", days=7.1), entry("young", days=6.9)) == {"old": "age"}


@pytest.mark.parametrize("stage", [StageName.STAGING, StageName.CANARY, StageName.PRODUCTION, StageName.QUARANTINED])
def test_stages_that_lead_to_service_and_evidence_stay_however_old(stage: StageName) -> None:
    assert proposed(entry("1", stage=stage, days=400)) == {}


@pytest.mark.parametrize("stage", [StageName.DEVELOPMENT, StageName.SANDBOX, StageName.REJECTED])
def test_other_stages_go(stage: StageName) -> None:
    assert proposed(entry("1", stage=stage, days=8)) == {"1": "age"}


@pytest.mark.parametrize("name", ["run_iter12", "net_epoch3", "a_trial_7"])
def test_checkpoints_of_experiments_go_after_three_days(name: str) -> None:
    assert proposed(entry(name, days=3.1)) == {name: "experiment"}
    assert proposed(entry(name, days=2.9)) == {}


def test_an_experiment_is_known_by_model_and_version_together_and_by_its_id() -> None:
    assert proposed(entry("iter5", days=4)) == {"iter5": "experiment"}
    assert proposed(entry("5", days=4, facts=Facts(experiment_id="wide_trial_2"))) == {"5": "experiment"}


def test_low_elo_goes_by_its_upper_bound_and_only_after_enough_games() -> None:
    assert proposed(entry("weak", facts=rated(1300, error=30))) == {"weak": "low_elo"}
    assert proposed(entry("unsure", facts=rated(1390, error=60))) == {}
    assert proposed(entry("few", facts=rated(1000, games=99, error=30))) == {}


def test_a_version_that_a_newer_one_surely_beats_goes() -> None:
    old, new = entry("1", registered=5, facts=rated(1600, error=20)), entry("2", facts=rated(1700, error=20))
    found = plan([old, new], {}, {}, NOW, POLICY)
    assert [(p.version, p.rule, p.folder) for p in found] == [("1", ArchiveRule.SUPERSEDED, "duplicates")]
    assert "m@2 is newer and leads by at least" in found[0].reason


@pytest.mark.parametrize(
    "other",
    [
        entry("2", facts=rated(1620, error=30)),
        entry("2", registered=9, facts=rated(1700, error=20)),
        entry("2", model="n", facts=rated(1700, error=20)),
        entry("2", stage=StageName.QUARANTINED, facts=rated(1700, error=20)),
        entry("2", facts=Facts(rating=Rating(elo=1700, games=0))),
    ],
    ids=["lead within the error", "older", "another model", "in quarantine", "no games"],
)
def test_a_lead_that_says_nothing_supersedes_nobody(other: EntryState) -> None:
    assert "1" not in proposed(entry("1", registered=5, facts=rated(1600, error=20)), other)


def test_the_most_telling_rule_names_the_folder() -> None:
    weak_checkpoint = entry("net_iter1", days=30, facts=rated(1000, error=20))
    assert proposed(weak_checkpoint) == {"net_iter1": "experiment"}


def test_a_version_that_was_restored_is_left_alone_for_a_while() -> None:
    was = (StageName.DEVELOPMENT, StageName.ARCHIVED)
    assert proposed(entry("1", was=was, days=1, facts=rated(1000, error=20))) == {}
    assert proposed(entry("1", was=was, days=8, facts=rated(1000, error=20))) == {"1": "low_elo"}


def test_slots_former_versions_and_rollouts_stay() -> None:
    versions = [entry(v, days=400) for v in "abcdefghij"]
    slots = slot("a", "b", "c", ("b", "d", "e", "f"))
    assert set(proposed(*versions, slots=slots, rollouts=rollout("g", Phase.HALTED, leaves="h"))) == {"i", "j"}
    assert set(proposed(*versions, slots=slots, rollouts=rollout("g", Phase.PROMOTED))) == {"g", "h", "i", "j"}


def test_former_production_versions_stay_even_where_the_slot_order_has_forgotten_them() -> None:
    was = (StageName.DEVELOPMENT, StageName.PRODUCTION)
    served = [entry(str(n), was=was, stage=StageName.DEVELOPMENT, days=100 - n) for n in range(5)]
    assert set(proposed(*served, slots=slot("x"))) == {"0", "1"}


def test_what_is_archived_is_not_proposed_again() -> None:
    assert proposed(entry("1", stage=StageName.ARCHIVED, days=400)) == {}


# -- whatever the rules say

_STAGES = st.sampled_from(StageName)
_VERSIONS = [f"v_iter{n}" for n in range(8)]


@st.composite
def _entries(draw: st.DrawFn) -> list[EntryState]:
    return [
        entry(
            version,
            stage=draw(_STAGES),
            was=tuple(draw(st.lists(_STAGES, max_size=4))),
            days=draw(st.floats(0, 100)),
            registered=draw(st.floats(0, 100)),
            facts=draw(st.sampled_from([Facts(), rated(1000, error=10), rated(1900, error=10)])),
        )
        for version in draw(st.lists(st.sampled_from(_VERSIONS), unique=True))
    ]


_maybe = st.none() | st.sampled_from(_VERSIONS)
_former = st.lists(st.sampled_from(_VERSIONS), max_size=5, unique=True).map(tuple)
_slots = st.builds(slot, _maybe, _maybe, _maybe, _former)
_rollouts = st.builds(rollout, st.sampled_from(_VERSIONS), st.sampled_from(Phase), _maybe)
_policies = st.builds(
    ArchivalSettings,
    age_days=st.floats(0, 10),
    experiment_days=st.floats(0, 10),
    low_elo=st.floats(-1e6, 1e6),
    low_elo_games=st.integers(1, 10),
    experiment_patterns=st.just(("*",)),
)


@dataclass(frozen=True)
class Fleet:
    """What the rules are let loose on."""

    entries: list[EntryState]
    slot: SlotState | None
    rollout: RolloutState | None
    policy: ArchivalSettings
    proposals: tuple[Proposal, ...] = field(init=False)

    def __post_init__(self) -> None:
        slots = {"m": self.slot} if self.slot else {}
        rollouts = {"m": self.rollout} if self.rollout else {}
        object.__setattr__(self, "proposals", plan(self.entries, slots, rollouts, NOW, self.policy))

    @property
    def gone(self) -> set[str]:
        return {p.version for p in self.proposals}


_fleets = st.builds(Fleet, _entries(), st.none() | _slots, st.none() | _rollouts, _policies)


def formerly_served(fleet: Fleet) -> set[str]:
    """Former production versions that may be served again."""
    barred = {StageName.ARCHIVED, StageName.REJECTED, StageName.QUARANTINED}
    good = {e.version for e in fleet.entries if e.stage not in barred}
    by_history = {e.version for e in fleet.entries if any(s.stage is StageName.PRODUCTION for s in e.stages)}
    by_slot = {f.version for f in fleet.slot.former} if fleet.slot else set()
    return good & (by_history | by_slot)


def taken_from_service(fleet: Fleet, gone: set[str]) -> bool:
    """Whether a pin of DESIGN section 5 was broken."""
    named = [fleet.slot.production, fleet.slot.previous, fleet.slot.canary, *fleet.slot.former] if fleet.slot else []
    rolling = (
        fleet.rollout if fleet.rollout and fleet.rollout.phase not in {Phase.PROMOTED, Phase.ROLLED_BACK} else None
    )
    held = {e.version for e in named if e} | ({rolling.version, rolling.leaves} if rolling else set())
    return bool(gone & held)


def too_few_former(fleet: Fleet, gone: set[str]) -> bool:
    """Whether fewer than three former production versions are left of those that there were."""
    former = formerly_served(fleet)
    return len(former - gone) < min(3, len(former))


@given(_fleets)
def test_pins_win_whatever_the_rules_say(fleet: Fleet) -> None:
    assert not taken_from_service(fleet, fleet.gone)
    assert not fleet.gone & pinned(fleet.entries, fleet.slot, fleet.rollout).keys()
    stages = {e.version: e.stage for e in fleet.entries}
    staying = {StageName.STAGING, StageName.CANARY, StageName.PRODUCTION, StageName.QUARANTINED, StageName.ARCHIVED}
    assert not staying & {stages[v] for v in fleet.gone}


@given(_fleets)
def test_never_fewer_than_three_former_production_versions_are_left(fleet: Fleet) -> None:
    assert not too_few_former(fleet, fleet.gone)


def test_a_plan_without_pins_is_caught() -> None:
    """The broken variant: age alone, as seed 001 has it."""
    served = [entry(v, was=(StageName.PRODUCTION,), days=30) for v in "abcd"]
    fleet = Fleet(served, slot("p", "a", None, ("a", "b", "c")), None, POLICY)
    by_age_alone = {e.version for e in served}
    assert taken_from_service(fleet, by_age_alone)
    assert too_few_former(fleet, by_age_alone)
    assert fleet.gone == {"d"}
