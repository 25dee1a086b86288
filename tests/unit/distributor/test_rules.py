"""What a distributor decides."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.daemons.distributor.rules import (
    FULL_MESH_NODES,
    RECENT_OFFERS,
    Offer,
    RateMeter,
    Urgency,
    activated,
    answers,
    check_addressee,
    coming,
    data_set_version,
    due,
    goals,
    in_force,
    of_interest,
    receivers,
    remembered,
    retry_delay,
    shows,
)
from fleetcast.daemons.testing import heartbeat
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.lifecycle import Phase, RolloutState, StageName
from fleetcast.events.payloads import Checks, DaemonState, Endpoints, Origin, Wants
from fleetcast.events.state import (
    CanaryEntry,
    Cause,
    InstalledVersion,
    ModelStatus,
    NodeStatus,
    SlotEntry,
    SlotState,
)
from fleetcast.transport.store import AppliedSlot, SlotName

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)


def content(digest: str = A) -> Content:
    file = ContentFile(path="m.bin", size=1, sha256=digest, pieces_root=digest)
    return Content(kind=Kind.MODEL, format=Format.OPAQUE, files=(file,))


def offer(version: str, artifact: str, sequence: int) -> Offer:
    return Offer(
        kind=Kind.MODEL,
        name="m",
        version=version,
        artifact=artifact,
        content=content(),
        metainfo_b64="",
        metainfo_ref=None,
        origin=Origin(node="n1", endpoints=Endpoints()),
        cause=f"event-{sequence}",
        correlation=f"event-{sequence}",
        sequence=sequence,
    )


def slot(
    production: tuple[str, str],
    *,
    previous: tuple[str, str] | None = None,
    canary: tuple[str, str] | None = None,
    sequence: int = 10,
) -> SlotState:
    return SlotState(
        model="m",
        generation=1,
        production=SlotEntry(version=production[0], artifact=production[1]),
        previous=SlotEntry(version=previous[0], artifact=previous[1]) if previous else None,
        canary=CanaryEntry(version=canary[0], artifact=canary[1], percent=10) if canary else None,
        cause=Cause(event="e", sequence=sequence, by="/x", correlation="e"),
        at="2026-01-01T00:00:00Z",
    )


def test_what_is_served_comes_first_and_what_a_rollback_needs_comes_last() -> None:
    found = goals(slot(("2", B), previous=("1", A), canary=("3", C)), [offer("4", D, 20)])

    assert [(g.version, g.urgency) for g in found] == [
        ("2", Urgency.PRODUCTION),
        ("3", Urgency.CANARY),
        ("4", Urgency.OFFERED),
        ("1", Urgency.PREVIOUS),
    ]


def test_a_version_superseded_while_the_node_was_away_is_not_a_goal() -> None:
    found = goals(slot(("3", C), previous=("2", B), sequence=10), [offer("1", A, 5)])

    assert [g.version for g in found] == ["3", "2"]


def test_a_version_that_was_registered_after_the_one_that_a_person_promotes_stays_wanted() -> None:
    found = goals(slot(("42", A), sequence=30), [offer("42", A, 10), offer("43", B, 12)])

    assert [(g.version, g.urgency) for g in found] == [("42", Urgency.PRODUCTION), ("43", Urgency.OFFERED)]


def test_a_version_registered_before_the_one_that_is_promoted_is_history() -> None:
    found = goals(slot(("43", B), sequence=30), [offer("42", A, 10), offer("43", B, 12)])

    assert [g.version for g in found] == ["43"]


def test_what_was_offered_later_stays_wanted_when_the_offer_of_production_is_forgotten() -> None:
    found = goals(slot(("1", A), sequence=30), [offer("2", B, 11), offer("3", C, 12), offer("4", D, 13)])

    assert {g.version for g in found} == {"1", "2", "3", "4"}


def rollout(version: str, artifact: str, phase: Phase, **more: Any) -> RolloutState:
    return RolloutState(
        rollout="r",
        model="m",
        version=version,
        artifact=artifact,
        target=StageName.PRODUCTION,
        phase=phase,
        started_at="2026-01-01T00:00:00Z",
        since="2026-01-01T00:00:00Z",
        actor="/x",
        cause=Cause(event="e", sequence=30, by="/x", correlation="e"),
        **more,
    )


@pytest.mark.parametrize("phase", [Phase.DISTRIBUTING, Phase.VERIFIED, Phase.CANARY, Phase.BAKING, Phase.ROLLING_BACK])
def test_what_a_rollout_waits_for_is_a_goal_without_any_offer(phase: Phase) -> None:
    found = goals(slot(("2", B), sequence=30), [], rollout=rollout("1", A, phase))

    assert [(g.version, g.urgency) for g in found] == [("2", Urgency.PRODUCTION), ("1", Urgency.CANARY)]


@pytest.mark.parametrize("phase", [Phase.PROMOTED, Phase.ROLLED_BACK, Phase.FROZEN, Phase.HALTED])
def test_a_rollout_that_needs_no_more_nodes_brings_nothing(phase: Phase) -> None:
    found = goals(slot(("2", B), sequence=30), [], rollout=rollout("1", A, phase))

    assert [g.version for g in found] == ["2"]


def test_a_rollout_that_halted_for_want_of_nodes_goes_on_being_fetched() -> None:
    halted = rollout("1", A, Phase.HALTED, halted_in=Phase.DISTRIBUTING)

    assert {g.version for g in goals(slot(("2", B)), [], rollout=halted)} == {"1", "2"}


def test_a_version_that_a_rollback_left_is_not_fetched_by_nodes_that_lack_it() -> None:
    back = rollout("1", A, Phase.ROLLED_BACK, leaves="2")
    offers = [offer("1", A, 10), offer("2", B, 12), offer("3", C, 14)]

    assert {g.version for g in goals(slot(("1", A), sequence=30), offers, rollout=back)} == {"1", "3"}


def test_a_former_production_version_is_not_fetched_because_of_its_offer() -> None:
    order = slot(("1", A), sequence=30).model_copy(update={"former": (SlotEntry(version="2", artifact=B),)})

    assert [g.version for g in goals(order, [offer("1", A, 10), offer("2", B, 12)])] == ["1"]


def test_a_version_superseded_in_flight_waits_for_the_newer_one() -> None:
    both = goals(slot(("2", B), previous=("1", A)), ())

    assert [g.version for g in due(both)] == ["2"]
    assert [g.version for g in due([g for g in both if g.version == "1"])] == ["1"]


def test_on_a_node_of_the_canary_it_is_as_urgent_as_production() -> None:
    order = slot(("2", B), previous=("1", A), canary=("3", C))
    order = order.model_copy(update={"canary": order.canary.model_copy(update={"nodes": ("n1",)})})  # type: ignore[union-attr]

    assert {g.version: g.urgency for g in goals(order, (), "n1")}["3"] is Urgency.PRODUCTION
    assert {g.version: g.urgency for g in goals(order, (), "n2")}["3"] is Urgency.CANARY


ORDER = slot(("2", B), previous=("1", A), canary=("3", C))
BY_NODES = ORDER.model_copy(update={"canary": CanaryEntry(version="3", artifact=C, percent=10, nodes=("n1",))})


def test_pointers_are_moved_until_they_show_all_that_is_here() -> None:
    without = AppliedSlot(slot=ORDER, shown=("production",))
    assert not shows(None, ORDER, {"production"}, on_canary=False)
    assert shows(without, ORDER, {"production"}, on_canary=False)
    assert not shows(without, ORDER, {"production", "canary"}, on_canary=False)
    assert not shows(without, ORDER, {"production"}, on_canary=True)
    assert not shows(without, ORDER.model_copy(update={"generation": 2}), {"production"}, on_canary=False)


def test_a_node_that_leaves_service_shows_it_under_the_same_order() -> None:
    shown = AppliedSlot(slot=ORDER, shown=("production",))
    assert not shows(shown, ORDER, {"production"}, on_canary=False, drained=True)
    left = shown.model_copy(update={"drained": True})
    assert shows(left, ORDER, {"production"}, on_canary=False, drained=True)
    assert not shows(left, ORDER, {"production"}, on_canary=False)


def test_only_versions_that_readers_do_not_see_yet_are_looked_at_before_they_are_shown() -> None:
    both: set[SlotName] = {"production", "canary"}
    before = AppliedSlot(slot=slot(("1", A)), shown=("production",))
    assert coming(None, slot(("1", A)), {"production"}, on_canary=False) == ("production",)
    assert coming(before, ORDER, {"production"}, on_canary=False) == ("production",)
    assert coming(before, ORDER, both, on_canary=False) == ("production", "canary")
    assert coming(before, BY_NODES, both, on_canary=False) == ("production",)
    assert coming(before, BY_NODES, both, on_canary=True) == ("canary",)
    now = AppliedSlot(slot=ORDER, shown=("production", "canary"))
    again = ORDER.model_copy(update={"generation": 2})
    assert coming(now, again, both, on_canary=False) == ()


def test_a_later_or_contradicting_order_in_force_is_left_alone() -> None:
    later = AppliedSlot(slot=ORDER.model_copy(update={"generation": 2}), shown=("production",))
    other = AppliedSlot(slot=slot(("9", D)), shown=("production",))
    assert shows(later, ORDER, {"production", "canary"}, on_canary=False)
    assert shows(other, ORDER, {"production", "canary"}, on_canary=False)


def test_a_slot_is_said_to_be_activated_once_per_generation_and_when_it_comes_later() -> None:
    first = AppliedSlot(slot=BY_NODES, on_canary=True, shown=("production",))
    second = AppliedSlot(slot=BY_NODES, on_canary=True, shown=("production", "canary"))
    next_one = AppliedSlot(slot=BY_NODES.model_copy(update={"generation": 2}), shown=("production", "canary"))
    assert activated(None, first) == ("production",)
    assert activated(first, second) == ("canary",)
    assert activated(second, second) == ()
    assert activated(first, next_one) == ("production",)


def test_a_canary_by_requests_is_in_force_beside_production() -> None:
    assert in_force(AppliedSlot(slot=ORDER, shown=("production", "canary"))) == ("production", "canary")
    assert in_force(AppliedSlot(slot=ORDER, shown=("production",))) == ("production",)
    assert in_force(AppliedSlot(slot=BY_NODES, shown=("production", "canary"))) == ("production",)
    assert in_force(AppliedSlot(slot=BY_NODES, on_canary=True, shown=("production", "canary"))) == ("canary",)
    assert in_force(None) == ()


def test_receivers_are_the_live_nodes_that_want_it_and_have_not_got_it() -> None:
    it = offer("1", A, 1)
    fleet = [
        node("n1"),  # the origin
        node("n2"),
        node("n3", A),
        node("n4", state=DaemonState.STOPPED),
        node("n5", wants=Wants(models=("other",))),
        node("n6", B),
    ]

    assert receivers(fleet, it) == 2
    assert receivers([], it) is None


def test_what_other_nodes_say_of_models_that_do_not_matter_here_is_not_kept() -> None:
    status = node("n1", A)
    other = status.models[0].model_copy(update={"model": "foreign"})
    heard = status.model_copy(update={"models": (*status.models, other)})

    assert of_interest(heard, lambda line: line == (Kind.MODEL, "m")) == status
    assert of_interest(heard, lambda _: True) is heard


def node(name: str, *held: str, state: DaemonState = DaemonState.READY, wants: Wants | None = None) -> NodeStatus:
    checks = Checks(size="ok", sha256="ok", format="ok")
    installed = tuple(
        InstalledVersion(
            version=a[:4], artifact=a, bytes=1, checks=checks, transport="aria2", seconds=1.0, installed_at=""
        )
        for a in held
    )
    models = (ModelStatus(model="m", path="/x", installed=installed),)
    return heartbeat(name, at="", state=state, wants=wants or Wants(), models=models)


def test_an_offer_is_a_goal_before_any_slot_names_it() -> None:
    assert [g.version for g in goals(None, [offer("1", A, 1)])] == ["1"]


def test_only_the_newest_offers_are_remembered_one_per_version() -> None:
    held: tuple[Offer, ...] = ()
    for n in range(6):
        held = remembered(held, offer(str(n), A, n + 1))
    held = remembered(held, offer("5", B, 9))

    assert [(o.version, o.artifact) for o in held] == [("3", A), ("4", A), ("5", B)]
    assert len(held) == RECENT_OFFERS


@given(st.integers(1, 10_000), st.floats(0, 0.999))
def test_delays_grow_to_the_cap_and_never_beyond(attempt: int, jitter: float) -> None:
    delay = retry_delay(attempt, base_seconds=1.0, cap_seconds=60.0, jitter=jitter).delay_seconds

    assert 0.05 <= delay <= 60.0


def test_everybody_answers_in_a_small_swarm_and_about_64_do_in_a_large_one() -> None:
    draws = [n / 1000 for n in range(1000)]

    assert all(answers(FULL_MESH_NODES, d) for d in draws)
    assert sum(answers(300, d) for d in draws) == pytest.approx(1000 * FULL_MESH_NODES / 300, abs=1)


def test_a_promotion_that_names_an_unknown_node_is_answered_with_the_known_ones() -> None:
    refused = check_addressee("gpu-9", ["gpu-1", "gpu-2"])

    assert refused is not None
    assert "gpu-1, gpu-2" in refused.reason
    assert check_addressee("gpu-1", ["gpu-1", "gpu-2"]) is None


def test_the_rate_follows_and_the_time_left_is_told() -> None:
    meter = RateMeter()
    for second in range(10):
        meter.sample(second * 100, float(second))

    assert meter.rate_bytes_per_second == pytest.approx(100)
    assert meter.eta_seconds(1900) == pytest.approx(10)


def test_a_stall_shows_in_the_rate_within_seconds() -> None:
    meter = RateMeter()
    meter.sample(0, 0.0)
    meter.sample(1000, 1.0)
    for second in range(2, 12):
        meter.sample(1000, float(second))

    assert meter.rate_bytes_per_second < 50


def test_the_rate_survives_a_check_that_takes_bytes_back() -> None:
    meter = RateMeter()
    meter.sample(1000, 0.0)

    assert meter.sample(0, 1.0) == 0
    assert meter.eta_seconds(10) is None


def test_a_data_set_without_an_id_is_named_by_its_content() -> None:
    assert data_set_version(None, A) == "a" * 16
    assert data_set_version("export-7", A) == "export-7"
