"""What the command line makes of words about versions, and of the record of decisions."""

import json
from typing import Any

import pytest
from tests.unit.cli.builders import NOW, node, slot
from tests.unit.registry.gates.builders import PRODUCTION, approval, asking, committed, inputs, proven, result
from tests.unit.registry.transitions.scene import MODEL, Scene, version_state

from fleetcast.cli import connection
from fleetcast.cli.doctor import check_registry
from fleetcast.cli.problems import Exit, Problem
from fleetcast.cli.registry.evidence import split
from fleetcast.cli.registry.past import judged_again
from fleetcast.cli.registry.reasons import in_force, version_of
from fleetcast.cli.registry.settling import arrived, check
from fleetcast.events.lifecycle import AuthorityState, EntryState, Phase, RolloutState, StageName, entry_subject
from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import AuditRecord, Cause
from fleetcast.registry.commands import Answer, Reserve
from fleetcast.registry.gates.explain import evidence_of
from fleetcast.registry.gates.inputs import inputs_of
from fleetcast.registry.gates.judge import judge
from fleetcast.registry.gates.policy import Approvals
from fleetcast.registry.picture.keeping import Keeping
from fleetcast.registry.picture.nodes import Rollout, rollout, views

AT = NOW.isoformat()

# -- evidence


def test_a_fact_is_known_by_its_name_and_a_flag_by_its_truth_value() -> None:
    facts, flags, metadata = split(
        (
            "git_commit=0123456",
            "calibration_error=0.04",
            "tags=board,,stable",
            "metrics.accuracy=0.9",
            "metrics.f1=1",
            "metadata.ticket=7",
            "metadata.note=a=b",
            "parity=TRUE",
            "e2e=no",
        )
    )
    assert facts == {
        "git_commit": "0123456",
        "calibration_error": 0.04,
        "tags": ["board", "stable"],
        "evaluation_metrics": {"accuracy": 0.9, "f1": 1},
    }
    assert flags == {"parity": True, "e2e": False}
    assert metadata == {"ticket": 7, "note": "a=b"}


def test_a_commit_that_is_all_digits_stays_text() -> None:
    assert split(("git_commit=0123456", "run_id=12", "owner=true"))[0] == {
        "git_commit": "0123456",
        "run_id": "12",
        "owner": "true",
    }


@pytest.mark.parametrize("pair", ["parity", "=true", "parity=perhaps", "parity=", "accuracy=0.9"])
def test_what_is_neither_fact_nor_flag_is_refused_with_what_would_be(pair: str) -> None:
    with pytest.raises(Problem) as refused:
        split((pair,))
    assert refused.value.exit is Exit.USAGE
    assert refused.value.next_step


# -- explain


def recorded(**change: Any) -> dict[str, Any]:
    given = proven()
    step = json.loads(json.dumps(evidence_of(committed(), given, judge(committed(), PRODUCTION, given))))
    return {"n": 7, "model": "hex8_2p", "evidence": {"steps": [{**step, **change}]}}


def test_a_record_that_nobody_touched_is_judged_the_same() -> None:
    judgements, differences = judged_again(recorded())
    assert (len(judgements), judgements[0].allowed, differences) == (1, True, [])


def test_evidence_that_was_tampered_with_is_a_difference_with_a_name() -> None:
    record = recorded()
    record["evidence"]["steps"][0]["inputs"]["facts"]["rating"]["elo"] = 1400.0
    judgements, differences = judged_again(record)
    assert not judgements[0].allowed
    assert any(line.startswith("gate elo: kept pass") and "now fail" in line for line in differences)
    assert any(line.startswith("allowed: kept True, now False") for line in differences)


def test_a_record_that_cannot_be_judged_is_a_problem_and_no_fault() -> None:
    with pytest.raises(Problem) as broken:
        judged_again(recorded(inputs={"model": "hex8_2p"}))
    assert broken.value.next_step == "fleetcast audit verify hex8_2p"


def test_a_decision_without_gates_has_nothing_to_judge() -> None:
    assert judged_again({"n": 1, "model": "m", "evidence": None}) == ([], [])


# -- why


def decision(n: int, action: str, after: dict[str, Any], *, reason: str = "", judged: bool = False) -> AuditRecord:
    return AuditRecord(
        n=n,
        model=MODEL,
        action=action,
        request=f"r{n}",
        actor="/fleet/n1/cli/ann",
        reason=reason or None,
        before=None,
        after=after,
        evidence=recorded()["evidence"] if judged else None,
        at=AT,
        prev_sha256="0" * 64,
    )


@pytest.mark.parametrize(
    ("after", "version"),
    [
        ({"version": "2", "stage": "production"}, "2"),
        ({"production": {"version": "1"}, "canary": None}, "1"),
        ({"production": {"version": "1"}, "canary": {"version": "2"}}, "2"),
        ({}, None),
    ],
)
def test_a_decision_is_about_what_it_brought_in(after: dict[str, Any], version: str | None) -> None:
    assert version_of(decision(1, "slot.ordered", after)) == version


def test_a_rollback_is_told_before_the_gates_that_once_let_its_version_in() -> None:
    first = decision(1, "slot.ordered", {"production": {"version": "1"}}, reason="take 1", judged=True)
    second = decision(2, "slot.ordered", {"production": {"version": "2"}}, reason="take 2", judged=True)
    back = decision(3, "slot.rolled_back", {"production": {"version": "1"}}, reason="loses")
    said = in_force(back, [first, second, back])
    assert said[0].startswith("decision 3 (slot.rolled_back) by /fleet/n1/cli/ann")
    assert "loses" in said[0]
    assert said[1].startswith("decision 1 (slot.ordered)")
    assert not any("take 2" in line for line in said)


def test_a_promotion_is_told_once_with_its_gates() -> None:
    only = decision(1, "slot.ordered", {"production": {"version": "1"}}, reason="take 1", judged=True)
    said = in_force(only, [only])
    assert [line.startswith("decision 1") for line in said] == [True, False]
    assert "elo pass" in said[1]


# -- waiting


def going(phase: Phase, *, rollout: str = "ours", target: StageName = PRODUCTION, generation: int = 3) -> RolloutState:
    return RolloutState(
        rollout=rollout,
        model="m",
        version="2",
        artifact="a" * 64,
        target=target,
        phase=phase,
        started_at=AT,
        since=AT,
        generation=generation,
        actor="ann",
        cause=Cause(event="e", sequence=1, by="ann", correlation="e"),
    )


ANSWER = Answer(outcome="started", model="m", version="2", message="", rollout="ours", sequence=100, generation=3)


def test_a_rollout_that_halted_ends_the_wait_with_its_exits() -> None:
    with pytest.raises(Problem) as halted:
        check(going(Phase.HALTED), 101, ANSWER, back=False)
    assert (halted.value.code, "--abandon" in halted.value.next_step) == ("halted", True)


def test_another_rollout_ends_the_wait_only_if_it_came_later() -> None:
    check(going(Phase.PROMOTED, rollout="older"), 99, ANSWER, back=False)
    with pytest.raises(Problem, match="came after this one"):
        check(going(Phase.DISTRIBUTING, rollout="newer"), 101, ANSWER, back=False)


def test_a_promotion_that_was_taken_back_has_failed_and_a_rollback_that_ends_so_has_not() -> None:
    check(going(Phase.ROLLED_BACK), 101, ANSWER, back=True)
    with pytest.raises(Problem, match="taken back"):
        check(going(Phase.ROLLED_BACK), 101, ANSWER, back=False)


def progress(generation: int, *, complete: bool = True) -> Rollout:
    order = slot("m", "2", generation)
    found = rollout(order, ())
    return Rollout(**{**vars(found), "ready": ("n1",) if complete else (), "waiting": ()})


@pytest.mark.parametrize(
    ("state", "seen", "there"),
    [
        (going(Phase.PROMOTED), progress(3), True),
        (going(Phase.PROMOTED), progress(2), False),
        (going(Phase.PROMOTED), progress(3, complete=False), False),
        (going(Phase.BAKING), progress(3), False),
        (going(Phase.PROMOTED, rollout="older"), progress(3), False),
        (going(Phase.CANARY, target=StageName.CANARY), progress(3), False),
        (None, progress(3), False),
    ],
)
def test_it_is_there_when_the_rollout_ended_and_every_node_follows(
    state: RolloutState | None, seen: Rollout, there: bool
) -> None:
    assert arrived(state, seen, ANSWER) is there


# -- who keeps the registry

KEPT = AuthorityState(mode="daemon", node="n1", gates="default 0123", at=AT)


def keeper(state: DaemonState = DaemonState.READY) -> Keeping:
    status = node("n1").model_copy(update={"daemon": "registry", "state": state, "at": AT})
    return Keeping(KEPT, views([status], now=NOW, heartbeat_seconds=5.0, daemon="registry"))


def test_a_fleet_without_a_registry_daemon_is_well() -> None:
    keeping = Keeping(None)
    assert (keeping.problems, keeping.document()["kept"], check_registry(keeping).state) == ((), False, "ok")
    assert "origins write it themselves" in keeping.sentence


def test_a_registry_daemon_that_is_there_is_named_with_its_gates() -> None:
    keeping = keeper()
    assert (keeping.problems, check_registry(keeping).state) == ((), "ok")
    assert keeping.sentence.startswith("the registry is kept by n1")
    assert "default 0123" in keeping.sentence


@pytest.mark.parametrize("keeping", [keeper(DaemonState.STOPPED), Keeping(KEPT)], ids=["stopped", "never heard from"])
def test_a_registry_daemon_that_is_away_is_a_fault_with_a_command(keeping: Keeping) -> None:
    assert len(keeping.problems) == 1
    found = check_registry(keeping)
    assert (found.state, found.fix.startswith("fleetcast run registry")) == ("fail", True)


# -- who asks


def test_a_person_is_one_part_of_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "CORP\\ann/x y")
    assert connection.person() == "CORP_ann_x_y"


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert connection.person().startswith("uid-")


@pytest.mark.parametrize(
    ("asked_by", "given", "verdict"),
    [
        ("/fleet/gpu-1/cli/ann", ("ann",), "insufficient"),
        ("/fleet/gpu-1/cli/ann", ("/fleet/gpu-2/cli/ann",), "insufficient"),
        ("ann", ("/fleet/gpu-2/cli/ann",), "insufficient"),
        ("/fleet/gpu-1/cli/ann", ("bob",), "pass"),
        ("/fleet/gpu-1/cli/ann", ("anna",), "pass"),
    ],
)
def test_whoever_asks_on_a_command_line_is_known_by_the_last_part(
    asked_by: str, given: tuple[str, ...], verdict: str
) -> None:
    one = asking(approvals=Approvals(count=1, expires_seconds=1000))
    approvals = tuple(approval(by) for by in given)
    assert result(one, inputs(asked_by=asked_by, approvals=approvals), "approvals").verdict == verdict


def test_the_same_person_on_two_nodes_agrees_once() -> None:
    two = asking(approvals=Approvals(count=2, expires_seconds=1000))
    twice = (approval("bob"), approval("/fleet/gpu-2/cli/bob"))
    assert result(two, inputs(approvals=twice), "approvals").verdict == "insufficient"


# -- format


def test_what_the_origin_tested_reaches_the_gates() -> None:
    scene = Scene()
    state = version_state("1").model_copy(update={"format_check": "not tested (x.pkl: pickle)"})
    scene.ask(Reserve(state=state))
    entry = scene.states[entry_subject(MODEL, "1")]
    assert isinstance(entry, EntryState)
    assert entry.format_check == "not tested (x.pkl: pickle)"
    said = inputs_of(entry, now=AT, freeze={}, readiness=None, format_check=entry.format_check or None)
    assert said.format_check == "not tested (x.pkl: pickle)"
