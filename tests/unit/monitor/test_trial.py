"""Other rules over the minutes that were kept."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.monitor.builders import MODEL, START, breaches, judge, serve, slots, snap

from fleetcast.daemons.monitor.judge import Judge
from fleetcast.daemons.monitor.policy import ModelPolicy
from fleetcast.daemons.monitor.trial import try_rules
from fleetcast.daemons.monitor.verdicts import Remedy
from fleetcast.events.lifecycle import Facts
from fleetcast.events.performance import Minute, Snapshot, Weight, read_minute


def kept(made: Judge, seconds: float) -> list[Minute]:
    made.tick(START + seconds + 60)
    return [read_minute(minute.data()) for minute in made.minutes()]


def day(rate: float, *, bad: float = 0.0, canary: str | None = None) -> list[Minute]:
    """Ten minutes of good service, five of *bad*, and half an hour of good service again."""
    made = judge(canary=canary, expected_ms=100)
    version = canary or "1"
    good = {("1", "n0"): rate, ("1", "n1"): rate} | ({(canary, "n9"): rate} if canary else {})
    troubled = good | {key: bad for key in good if key[0] == version}
    for start, seconds, rates in ((0, 600, good), (600, 300, troubled), (900, 1800, good)):
        serve(made, rates, start=start, seconds=seconds, latency_ms=20)
    return kept(made, 2700)


def test_the_rules_that_hold_say_of_the_past_what_they_said_then() -> None:
    found = try_rules(MODEL, day(0.01, bad=0.3), ModelPolicy(mode="auto"))
    assert [(each.signal, each.remedy, each.action) for each in found.happenings] == [
        ("error_rate", Remedy.ROLL_BACK, "roll_back")
    ]
    one = found.happenings[0]
    assert START + 480 <= one.began_at <= one.at <= START + 780
    assert one.ended_at is not None, "the version recovered by itself: nobody needed this rollback"
    assert (found.count(Remedy.ROLL_BACK), found.passing) == (1, 1)


def test_other_limits_say_other_things_of_the_same_minutes() -> None:
    minutes = day(0.01, bad=0.3)
    assert try_rules(MODEL, minutes, ModelPolicy(error_rate=0.4, error_rate_critical=0.5)).count(Remedy.ROLL_BACK) == 0
    assert try_rules(MODEL, day(0.03), ModelPolicy()).happenings == ()
    assert try_rules(MODEL, day(0.03), ModelPolicy(error_rate=0.01)).count(Remedy.ROLL_BACK) >= 1


def test_latency_can_be_tried_with_another_expectation() -> None:
    minutes = day(0.0)
    slow = try_rules(MODEL, minutes, ModelPolicy(), {"1": Facts(expected_latency_p95_ms=15)})
    assert [each.signal for each in slow.happenings] == ["latency_p95"]
    assert try_rules(MODEL, minutes, ModelPolicy(), {"1": Facts(expected_latency_p95_ms=100)}).happenings == ()


def test_slots_are_as_they_were_then() -> None:
    found = try_rules(MODEL, day(0.01, bad=0.4, canary="2"), ModelPolicy())
    assert {(each.version, each.slot, each.remedy) for each in found.happenings} == {("2", "canary", Remedy.ROLL_BACK)}


def test_a_version_that_was_replaced_is_judged_until_then() -> None:
    made = judge()
    serve(made, {("1", "n0"): 0.4}, seconds=300)
    made.order(slots(2, production="2"), START + 300)
    serve(made, {("2", "n0"): 0.01}, start=300, seconds=1800)
    found = try_rules(MODEL, kept(made, 2100), ModelPolicy())
    assert [(each.version, each.ended_at) for each in found.happenings] == [("1", None)]


def test_minutes_of_other_models_and_none_at_all_are_nothing() -> None:
    assert try_rules(MODEL, [], ModelPolicy()).happenings == ()
    assert try_rules("other", day(0.3), ModelPolicy()).minutes == 0


def test_the_order_of_the_minutes_does_not_matter() -> None:
    minutes = day(0.01, bad=0.3)
    assert try_rules(MODEL, reversed(minutes), ModelPolicy()) == try_rules(MODEL, minutes, ModelPolicy())


def test_reported_percentiles_are_votes_again() -> None:
    made = judge(expected_ms=100)
    live = [e for s in range(0, 3600, 10) for e in made.take(snap(s, requests=50, latency_p95_ms=300.0))]
    assert {event.signal for event in breaches(live)} == {"latency_p95_reported"}
    found = try_rules(MODEL, kept(made, 3600), ModelPolicy(), {"1": Facts(expected_latency_p95_ms=100)})
    assert [each.signal for each in found.happenings] == ["latency_p95_reported"]


_reports = st.lists(
    st.tuples(st.integers(0, 59), st.integers(0, 500), st.floats(0, 1), st.sampled_from(["n0", "n1"])), max_size=30
)


@settings(max_examples=40, deadline=None)
@given(_reports)
def test_a_minute_loses_no_count_on_its_way_through_the_store(reports: list[tuple[int, int, float, str]]) -> None:
    made = judge()
    for at, requests, share, node in sorted(reports):
        made.take(snap(at, requests=requests, bad=int(share * requests), node=node))
    minutes = kept(made, 60)
    again: list[Snapshot] = [each for minute in minutes for each in minute.as_snapshots()]
    assert sum(each.requests or 0 for each in again) == sum(each[1] for each in reports)
    errors = sum((each.error_ratio or 0) * (each.requests or 0) for each in again)
    assert abs(errors - sum(int(share * requests) for _, requests, share, _ in reports)) < 1e-3
    assert all(each.weight is Weight.COUNTED for each in again if each.requests)
