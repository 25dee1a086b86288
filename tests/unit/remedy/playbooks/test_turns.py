"""One run per resource, none that the breaker stops, and the last good version."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.remedy.playbooks.test_rules import NOW, later

from fleetcast.daemons.remedy.playbooks import rules, turns
from fleetcast.daemons.remedy.playbooks.breaker import Breaker, Limit
from fleetcast.daemons.remedy.playbooks.definition import Playbook
from fleetcast.daemons.remedy.playbooks.steps.target import choose
from fleetcast.daemons.remedy.playbooks.turns import Ask, Books, Conditions
from fleetcast.events.incidents import ResourceType
from fleetcast.events.lifecycle import EntryState, StageName, TrustState
from fleetcast.events.remedies import FleetRuns, PlaybookRunState, ResourceRuns, RunNote, RunPhase
from fleetcast.events.state import AuditRecord, CanaryEntry, Cause, SlotEntry, SlotState
from fleetcast.registry.fleet import FleetView
from fleetcast.registry.gates import trust

CAUSE = Cause(event="e", sequence=1, by="monitor", correlation="e")
PLAYBOOK = Playbook.model_validate(
    {
        "name": "model_rollback",
        "description": "test",
        "breaker": True,
        "only_if_served": True,
        "steps": [{"name": "find_previous_stable"}, {"name": "update_deployment"}],
    }
)
LIMITS = Breaker(Limit(1, 86400.0), Limit(3, 3600.0))


def entry(version: str) -> SlotEntry:
    return SlotEntry(version=version, artifact=version[0] * 64)


def slot(production: str, *former: str, canary: str | None = None) -> SlotState:
    trying = CanaryEntry(version=canary, artifact=canary[0] * 64, percent=10, nodes=("n1",)) if canary else None
    return SlotState(
        model="m",
        generation=7,
        production=entry(production),
        previous=entry(former[0]) if former else None,
        canary=trying,
        former=tuple(entry(each) for each in former),
        cause=CAUSE,
        at="2026-11-21T09:00:00Z",
    )


def ask(event: str = "e1", model: str = "m", **changes: Any) -> Ask:
    said: dict[str, Any] = {
        "playbook": "model_rollback",
        "resource_id": model,
        "version": "2",
        "by": "monitor",
        "by_event": True,
        "cause": Cause(event=event, sequence=1, by="monitor", correlation=event),
        "asked_at": "2026-11-21T09:30:00.000Z",
    }
    return Ask(**{**said, **changes})


def books(model: str = "m", *, recent: tuple[RunNote, ...] = (), fleet: tuple[RunNote, ...] = ()) -> Books:
    return Books(
        ResourceRuns(resource_type=ResourceType.MODEL, resource_id=model, recent=recent), FleetRuns(recent=fleet)
    )


def conditions(served: SlotState | None = None) -> Conditions:
    return Conditions(LIMITS, served or slot("2", "1"), 3600.0)


def note(run: str, at: datetime, phase: RunPhase = RunPhase.SUCCEEDED, *, automatic: bool = True) -> RunNote:
    return RunNote(
        run=run, playbook="model_rollback", resource_id="m", at=at.isoformat(), automatic=automatic, phase=phase
    )


def opened(asked: Ask, at: Books, busy: PlaybookRunState | None = None) -> tuple[PlaybookRunState, Books]:
    return turns.opened(turns.made(asked, PLAYBOOK, NOW), at, busy, conditions(), "here/1", NOW)


def test_a_request_that_is_delivered_twice_is_one_run() -> None:
    assert ask("e1").run == ask("e1").run != ask("e2").run
    assert len(ask().run) == len("pb-") + 12


def test_one_automatic_rollback_a_day_and_model() -> None:
    done = note("pb-0", NOW - timedelta(hours=23))
    run, _ = opened(ask(), books(recent=(done,)))
    assert run.phase is RunPhase.REFUSED

    run, _ = opened(ask(), books(recent=(note("pb-0", NOW - timedelta(hours=25)),)))
    assert run.phase is RunPhase.RUNNING


def test_refused_and_empty_runs_do_not_count_and_persons_are_not_stopped() -> None:
    idle = tuple(note(f"pb-{p}", NOW, p) for p in (RunPhase.REFUSED, RunPhase.NOTHING))
    person = note("pb-9", NOW, automatic=False)
    run, _ = opened(ask(), books(recent=(*idle, person)))
    assert run.phase is RunPhase.RUNNING

    run, _ = opened(ask(by_event=False), books(recent=(note("pb-0", NOW),)))
    assert run.phase is RunPhase.RUNNING
    run, _ = opened(ask(approval=True), books(recent=(note("pb-0", NOW),)))
    assert run.phase is RunPhase.APPROVAL


def test_so_many_an_hour_over_the_fleet() -> None:
    recent = tuple(note(f"pb-{n}", NOW - timedelta(minutes=10 * n)) for n in range(3))
    run, _ = opened(ask(model="other"), books("other", fleet=recent))

    assert run.phase is RunPhase.REFUSED
    assert "at most 3 automatic rollbacks over the fleet within 1 hour" in run.phase_detail


def test_a_version_that_is_no_longer_served_is_left_alone() -> None:
    run, after = opened(ask(version="9"), books())

    assert (run.phase, after.resource.running) == (RunPhase.NOTHING, None)
    assert after.fleet.recent == ()


def test_a_second_run_about_the_same_resource_waits_and_the_same_one_is_not_made_twice() -> None:
    first, after = opened(ask("e1"), books())
    same, _ = opened(ask("e2"), after, first)
    other, waiting = opened(ask("e3", version="1"), after, first)

    assert (same.phase, same.phase_detail) == (RunPhase.NOTHING, f"{first.run} is at it already")
    assert (other.phase, waiting.resource.waiting) == (RunPhase.WAITING, (other.run,))
    over = turns.left(rules.ended(first, RunPhase.SUCCEEDED, "done", NOW), waiting)
    assert (over.resource.running, over.resource.waiting) == (other.run, ())


@given(st.lists(st.tuples(st.sampled_from(["ask", "end"]), st.integers(0, 5)), max_size=40))
def test_there_is_never_more_than_one_run_and_nobody_waits_while_none_is(happens: list[tuple[str, int]]) -> None:
    at, runs = books(), dict[str, PlaybookRunState]()
    for number, (what, which) in enumerate(happens):
        running = at.resource.running
        busy = runs.get(running) if running else None
        if what == "ask":
            asked = ask(f"e{number}", by_event=False, version="2", to=str(which), evidence={})
            run, at = turns.opened(turns.made(asked, PLAYBOOK, NOW), at, busy, conditions(), "here/1", NOW)
            runs[run.run] = run
        elif busy is not None:
            runs[busy.run] = rules.ended(busy, RunPhase.SUCCEEDED, "done", later(number))
            at = turns.left(runs[busy.run], at)
            if at.resource.running is not None:
                begun, at = turns.turn(runs[at.resource.running], at, conditions(), "here/1", NOW)
                runs[begun.run] = begun
        active = [r for r in runs.values() if r.phase is RunPhase.RUNNING]
        assert [r.run for r in active] == ([at.resource.running] if at.resource.running else [])
        assert at.resource.running is not None or at.resource.waiting == ()
        assert len(at.resource.recent) <= turns.REMEMBERED


def standing(version: str, stage: StageName) -> EntryState:
    return EntryState(
        model="m",
        version=version,
        artifact=version[0] * 64,
        stage=stage,
        since="2026-11-21T09:00:00Z",
        origin="n1",
        registered_at="2026-11-21T09:00:00Z",
        registered_by="t",
        cause=CAUSE,
    )


def test_the_newest_former_version_that_is_not_barred_is_the_last_good_one() -> None:
    entries = {v: standing(v, s) for v, s in (("3", StageName.QUARANTINED), ("2", StageName.STAGING))}

    target = choose(slot("4", "3", "2", "1"), "4", None, entries, FleetView(()))

    assert (target.kind, target.version) == ("former", "2")
    assert "3 is quarantined" in target.considered


def test_no_good_version_is_said_and_a_canary_is_only_withdrawn() -> None:
    barred = {"1": standing("1", StageName.REJECTED)}
    assert choose(slot("2", "1"), "2", None, barred, FleetView(())).kind == "none"
    target = choose(slot("1", canary="2"), None, None, {}, FleetView(()))
    assert (target.kind, target.bad, target.version) == ("canary", "2", "1")
    assert choose(slot("1"), "2", None, {}, FleetView(())).kind == "gone"
    assert choose(None, None, None, {}, FleetView(())).kind == "gone"


def record(n: int, action: str, version: str) -> AuditRecord:
    return AuditRecord(
        n=n,
        model="m",
        action=action,
        request=str(n),
        actor="t",
        before=None,
        after={"generation": n, "production": {"version": version}},
        at=f"2026-11-{n:02d}T00:00:00Z",
        prev_sha256="0" * 64,
    )


def test_trust_counts_promotions_rollbacks_and_false_alarms() -> None:
    steps = [("slot.ordered", "1"), ("slot.ordered", "2"), ("slot.rolled_back", "1"), ("slot.ordered", "3")]
    counts = trust.counted(record(n, action, version) for n, (action, version) in enumerate(steps, 1))
    assert (counts.promotions, counts.rollbacks, counts.false_alarms) == (3, 1, 0)

    again = trust.counted(record(n, a, v) for n, (a, v) in enumerate([*steps[:3], ("slot.ordered", "2")], 1))
    assert (again.promotions, again.rollbacks, again.false_alarms) == (3, 1, 1)


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200))
def test_trust_and_its_interval_stay_between_nothing_and_all(promotions: int, rollbacks: int, alarms: int) -> None:
    state = TrustState(
        model="m", promotions=promotions, rollbacks=rollbacks, false_alarms=alarms, at="2026-11-21T00:00:00Z"
    )
    low, high = trust.interval(state)

    assert 0 <= low <= high <= 1
    assert 0 < trust.score(state) < 1
    if promotions:
        assert low <= trust.kept(state) / promotions <= high
    assert trust.days_without_incident(state, datetime(2026, 11, 22, tzinfo=UTC)) is None
