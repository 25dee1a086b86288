"""Which monitor judges what: everything is judged, by one, and the shares are even."""

from hypothesis import given
from hypothesis import strategies as st

from fleetcast.daemons.monitor.clock import ServerClock
from fleetcast.daemons.monitor.shards import SHARDS, shard_of, share

NAMES = st.sets(st.from_regex(r"[a-z]{1,4}", fullmatch=True), min_size=1, max_size=20)


@given(NAMES)
def test_monitors_that_see_each_other_share_all_shards_evenly(names: set[str]) -> None:
    shares = [share(name, names) for name in sorted(names)]
    held = [shard for each in shares for shard in each]
    assert sorted(held) == list(range(SHARDS))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_monitor_that_sees_nobody_takes_everything() -> None:
    assert share("a", ()) == frozenset(range(SHARDS))


def test_the_shard_of_a_model_is_the_same_everywhere_and_models_are_spread() -> None:
    assert shard_of("hex8_2p") == shard_of("hex8_2p")
    counts = [0] * SHARDS
    for number in range(1600):
        counts[shard_of(f"model_{number}")] += 1
    assert min(counts) > 50


def test_the_servers_clock_goes_on_between_messages_and_late_ones_do_not_set_it_back() -> None:
    from datetime import UTC, datetime, timedelta

    now = [100.0]
    clock = ServerClock(lambda: now[0])
    began = datetime(2026, 11, 21, 12, tzinfo=UTC)
    clock.seen(began)
    now[0] += 5
    assert clock.now() == began + timedelta(seconds=5)
    clock.seen(began - timedelta(hours=1))
    assert clock.now() == began + timedelta(seconds=5)
    clock.seen(began + timedelta(seconds=9))
    assert clock.now() == began + timedelta(seconds=9)
