"""Which facts say that something is wrong, and which that it is over."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fleetcast.config.incidents import RUNBOOKS, IncidentSettings
from fleetcast.daemons.remedy.incidents import rules
from fleetcast.daemons.remedy.incidents.noticing import news_of, subjects
from fleetcast.daemons.remedy.incidents.rules import Cleared, Raised, Said
from fleetcast.events.envelope import new_event
from fleetcast.events.examples import EXAMPLES
from fleetcast.events.incidents import IncidentState, Severity, incident_key
from fleetcast.events.names import CATALOGUE, find

LIMITS = IncidentSettings()
Fact = tuple[str, dict[str, Any]]


def news(name: str, number: int, **changes: Any) -> tuple[Raised | Cleared, ...]:
    payload = find(name).payload.model_validate({**EXAMPLES[name], **changes})
    key = "gpu-1" if find(name).key_field is None else None
    event = new_event(payload, source="/fleet/n1/test", key=key)
    said = Said(
        id=f"{name}-{number}",
        correlation="c",
        at=datetime(2026, 11, 21, 9, 30, number, tzinfo=UTC),
        by=event.source,
        sequence=number,
    )
    return news_of(event, said)


def told(*events: Fact) -> dict[str, IncidentState]:
    """What becomes of incidents, by trigger, when facts come in this order."""
    kept: dict[str, IncidentState] = {}
    for number, (name, changes) in enumerate(events, 1):
        for each in news(name, number, **changes):
            key = incident_key(each.about)
            if isinstance(each, Raised):
                decision = rules.raised(kept.get(key), each, LIMITS)
            else:
                decision = rules.cleared(kept.get(key), each, LIMITS)
            if decision.state is not None:
                kept[key] = decision.state
    return {each.trigger: each for each in kept.values()}


@pytest.mark.parametrize(
    ("wrong", "trigger", "severity", "right"),
    [
        (("integrity.failed", {}), "integrity_failed", Severity.HIGH, ("version.installed", {})),
        (("integrity.failed", {}), "integrity_failed", Severity.HIGH, ("version.removed", {})),
        (("transfer.failed", {"final": True}), "transfer_failed", Severity.HIGH, ("version.installed", {})),
        (("transfer.failed", {}), "transfer_failed", Severity.LOW, ("version.installed", {})),
        (("hook.failed", {}), "hook_failed", Severity.HIGH, ("hook.recovered", {})),
        (("rollout.changed", {"phase": "halted"}), "rollout_halted", Severity.MEDIUM, ("rollout.changed", {})),
        (("rollout.changed", {"phase": "frozen"}), "frozen", Severity.CRITICAL, ("slot.ordered", {})),
        (
            ("rollout.changed", {"phase": "frozen"}),
            "frozen",
            Severity.CRITICAL,
            ("rollout.changed", {"phase": "promoted"}),
        ),
        (("run.fault.recorded", {}), "run_fault", Severity.MEDIUM, ("run.epoch.logged", {})),
        (("run.fault.recorded", {"fault_class": "preempted"}), "run_fault", Severity.LOW, ("run.finished", {})),
        (("run.degraded", {}), "run_degraded", Severity.LOW, ("run.finished", {})),
        (("run.fallback", {}), "run_fallback", Severity.MEDIUM, ("run.returned", {})),
        (("run.fallback", {}), "run_fallback", Severity.MEDIUM, ("run.finished", {"outcome": "failed"})),
        (
            ("run.fault.recorded", {"spent": True, "remedy": "never"}),
            "retry_budget_spent",
            Severity.HIGH,
            ("run.finished", {}),
        ),
        (("node.quarantined", {}), "node_quarantined", Severity.MEDIUM, ("node.quarantined", {"quarantined": False})),
        (("incident.raised", {}), "error_rate", Severity.MEDIUM, ("incident.cleared", {})),
    ],
)
def test_a_fault_opens_an_incident_and_its_remedy_clears_it(
    wrong: Fact, trigger: str, severity: Severity, right: Fact
) -> None:
    opened = told(wrong)[trigger]
    assert (opened.severity, opened.cleared_at) == (severity, None)
    assert opened.context["reasons"]
    assert opened.runbook == f"docs/runbooks/{trigger}.md"
    assert told(wrong, right)[trigger].cleared_at is not None


def test_a_run_that_failed_stays_open_and_is_degraded_no_more() -> None:
    kept = told(("run.degraded", {}), ("run.finished", {"outcome": "failed", "reason": "exit 1"}))
    assert kept["run_degraded"].cleared_at is not None
    assert kept["run_failed"].cleared_at is None


def test_a_canary_of_another_version_does_not_unfreeze_a_model() -> None:
    assert told(("rollout.changed", {"phase": "frozen"}), ("rollout.changed", {}))["frozen"].cleared_at is None
    canary = ("slot.ordered", {"slot": "canary"})
    assert told(("rollout.changed", {"phase": "frozen"}), canary)["frozen"].cleared_at is None


def test_an_activation_without_a_hook_says_nothing_of_a_hook_that_fails() -> None:
    activated = {"node": EXAMPLES["hook.failed"]["node"], "model": EXAMPLES["hook.failed"]["model"]}
    activated["hook"] = None
    failed: Fact = ("hook.failed", {})
    assert told(failed, ("version.activated", activated))["hook_failed"].cleared_at is None
    bad = {**activated, "hook": "failed: exit 3"}
    assert told(failed, ("version.activated", bad))["hook_failed"].cleared_at is None
    good = {**activated, "hook": "ok in 0.12 s"}
    assert told(failed, ("version.activated", good))["hook_failed"].cleared_at is not None


def test_nodes_that_cannot_fetch_the_same_version_share_an_incident_until_all_have_it() -> None:
    both: tuple[Fact, ...] = (("transfer.failed", {}), ("transfer.failed", {"node": "gpu-3"}))
    assert told(*both)["transfer_failed"].affected == ("gpu-2", "gpu-3")
    one = told(*both, ("version.installed", {}))["transfer_failed"]
    assert (one.affected, one.cleared_at) == (("gpu-3",), None)


def test_a_transfer_that_fails_again_and_again_is_worth_a_look() -> None:
    kept = told(*[("transfer.failed", {})] * 3)["transfer_failed"]
    assert kept.severity is Severity.MEDIUM


def test_a_banned_peer_is_no_incident() -> None:
    assert news("peer.banned", 1) == ()


def test_every_event_that_says_something_is_asked_for_and_no_other() -> None:
    asked = set(subjects())
    for entry in CATALOGUE:
        says = {"phase": "halted"} if entry.name == "rollout.changed" else {}
        says |= {"hook": "ok in 0.1 s"} if entry.name == "version.activated" else {}
        assert bool(news(entry.name, 1, **says)) == (set(entry.filters()) <= asked), entry.name


def test_a_fault_that_leaves_tries_opens_no_incident_about_them_and_a_failed_run_closes_none() -> None:
    assert set(told(("run.fault.recorded", {}))) == {"run_fault"}
    failed = told(("run.fault.recorded", {"spent": True}), ("run.finished", {"outcome": "failed"}))
    assert failed["retry_budget_spent"].cleared_at is None
    assert failed["run_failed"].cleared_at is None
    assert failed["run_fault"].cleared_at is not None


def test_tries_that_are_used_up_wake_nobody_while_the_run_goes_on_on_the_cpu() -> None:
    spent = told(("run.fault.recorded", {"spent": True, "remedy": "cpu"}))["retry_budget_spent"]
    assert (spent.severity, spent.title.endswith("and goes on on the CPU")) == (Severity.MEDIUM, True)


def test_every_trigger_of_a_fact_has_a_page_for_people() -> None:
    worst: dict[str, list[dict[str, Any]]] = {
        "rollout.changed": [{"phase": "halted"}, {"phase": "frozen"}],
        "run.finished": [{"outcome": "failed"}],
    }
    cases = [(entry.name, changes) for entry in CATALOGUE for changes in worst.get(entry.name, [{}])]
    triggers = {each.about.trigger for name, changes in cases for each in news(name, 1, **changes)}
    assert len(triggers) > 8
    assert triggers <= RUNBOOKS
