"""One monitor on a real stream: what it says of good, bad, wrong and missing snapshots, and what it remembers."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.monitor.watched import AUTO, World, until

from fleetcast.bus.streams import DEAD, MINUTES
from fleetcast.daemons.monitor.policy import Mode
from fleetcast.events.incidents import IncidentRaised, RollbackRequested, VerdictChanged
from fleetcast.events.payloads import EventRejected
from fleetcast.events.performance import read_minute

GOOD: dict[str, Any] = {"num_requests": 1000, "errors": 5}
BAD: dict[str, Any] = {"num_requests": 1000, "errors": 300}


def verdicts(events: list[Any]) -> list[tuple[str, str]]:
    """Signal and verdict of what was said, in order."""
    return [(e.payload.signal, e.payload.verdict.value) for e in events if isinstance(e.payload, VerdictChanged)]


@pytest.mark.asyncio
async def test_a_bad_version_is_told_once_with_its_incident_and_the_request_to_take_it_back(fleet: World) -> None:
    await fleet.order("hex8", "2", generation=2)
    await fleet.start()
    for node in ("gpu-1", "gpu-2", "gpu-3"):
        await fleet.report("hex8", "2", node=node, **BAD)
    await fleet.report("hex8", "2", node="gpu-1", **BAD)
    health = await fleet.all_seen("hex8")
    assert (health["health_status"], health["should_rollback"]) == ("critical", True)

    async def requested() -> bool:
        return bool(await fleet.events("model.rollback.requested"))

    await until(requested)
    told = await fleet.events("verdict.changed", "incident.raised", "model.rollback.requested")
    breach = next(e for e in told if isinstance(e.payload, VerdictChanged) and e.payload.verdict == "breach")
    incident = next(e for e in told if isinstance(e.payload, IncidentRaised))
    request = next(e for e in told if isinstance(e.payload, RollbackRequested))
    assert isinstance(breach.payload, VerdictChanged)
    assert (breach.payload.action, breach.payload.mode, breach.payload.generation) == ("roll_back", "auto", 2)
    assert "30" in breach.payload.actual
    assert (incident.payload.model_dump()["resource_id"], incident.causationid) == ("hex8", breach.id)
    assert isinstance(request.payload, RollbackRequested)
    assert (request.payload.version, request.payload.requested_by) == ("2", "monitor")
    assert {incident.correlationid, request.correlationid} == {breach.correlationid}
    assert len(await fleet.events("incident.raised")) == len(await fleet.events("model.rollback.requested")) == 1

    await fleet.order("hex8", "1", generation=3)

    async def cleared() -> bool:
        return bool(await fleet.events("incident.cleared"))

    await until(cleared)
    over = (await fleet.events("incident.cleared"))[0].payload.model_dump()
    assert (over["trigger"], over["version"]) == ("error_rate", "2")
    assert "not served any more" in over["reason"]


@pytest.mark.asyncio
@pytest.mark.parametrize(("mode", "asks"), [(Mode.OBSERVE, []), (Mode.APPROVE, ["required"])])
async def test_who_only_observes_asks_for_nothing_and_who_must_be_approved_says_so(
    fleet: World, mode: Mode, asks: list[str]
) -> None:
    await fleet.order("hex8", "1")
    await fleet.start(policy=AUTO.model_copy(update={"mode": mode}))
    for node in ("gpu-1", "gpu-2", "gpu-3"):
        await fleet.report("hex8", node=node, **BAD)

    async def raised() -> bool:
        return bool(await fleet.events("incident.raised"))

    await until(raised)
    requests = [e.payload for e in await fleet.events("model.rollback.requested")]
    assert [r.evidence.get("approval") for r in requests if isinstance(r, RollbackRequested)] == asks


def _ago(**ago: float) -> str:
    return (datetime.now(UTC) - timedelta(**ago)).isoformat()


INVALID = {
    "NaN": ('{"version":"1","num_requests":10,"error_rate":NaN}', "error_rate"),
    "percent": ('{"version":"1","num_requests":10,"error_rate":8.5}', "error_rate"),
    "negative": ('{"version":"1","num_requests":-1}', "num_requests"),
    "no version": ('{"num_requests":10}', "version"),
    "no JSON": ("not json", None),
}


@pytest.mark.asyncio
async def test_bad_input_is_named_kept_and_never_counted(fleet: World) -> None:
    await fleet.order("hex8", "2", generation=2)
    await fleet.serves("gpu-9", "hex8", "1", 2)
    await fleet.start()
    good = await fleet.report("hex8", "2", id="one", **GOOD)
    for text, _ in INVALID.values():
        await fleet.say("fc.perf.hex8", text)
    await fleet.report("hex8", "2", id="one", **GOOD)
    await fleet.report("hex8", "1", **BAD)
    await fleet.report("hex8", "9", **BAD)
    await fleet.report("hex8", "2", timestamp=_ago(hours=-1), **BAD)
    await fleet.report("hex8", "2", timestamp=_ago(days=1), **BAD)
    await fleet.report("hex8", "2", node="gpu-9", **BAD)
    await fleet.report("nobody", "1", **BAD)

    health = await fleet.all_seen("hex8")
    assert health["metrics"]["snapshot_count"] == 1
    assert health["metrics"]["avg_error_rate"] == 0.005
    # The mark of this test itself is a version that nobody serves.
    assert health["not_counted"] == {
        "invalid": 5,
        "duplicate": 1,
        "replaced": 1,
        "unknown_version": 2,
        "from_the_future": 1,
        "from_the_past": 1,
        "not_served_there": 1,
    }

    async def named() -> bool:
        return len(await fleet.events("event.rejected")) >= 9

    await until(named)
    refusals = [e.payload for e in await fleet.events("event.rejected")]
    said = {(r.subject, r.field): r for r in refusals if isinstance(r, EventRejected)}
    for _, field in INVALID.values():
        assert ("fc.perf.hex8", field) in said, field
    reasons = " | ".join(r.reason for r in refusals if isinstance(r, EventRejected))
    for words in ("no slot of nobody", "is in no slot", "too far after", "too far before", "serves another version"):
        assert words in reasons
    assert all(r.next_step for r in refusals if isinstance(r, EventRejected))
    letters = [json.loads(e.data) async for e in fleet.bus.tail(DEAD, ())]
    assert sorted(letter["sequence"] for letter in letters) == list(range(good + 1, good + 6))
    assert any("that looks like percent, write 0.085" in letter["reason"] for letter in letters)


@pytest.mark.asyncio
async def test_a_storm_of_refusals_becomes_one_refusal_a_minute_that_says_how_many(fleet: World) -> None:
    await fleet.order("hex8", "1")
    watching = await fleet.start()
    for _ in range(200):
        await fleet.say("fc.perf.hex8", '{"version":"1","num_requests":10,"error_rate":8.5}')
    health = await fleet.all_seen("hex8")
    assert health["not_counted"]["invalid"] == 200
    await watching.stop()
    refused = [e for e in await fleet.events("event.rejected") if e.payload.model_dump().get("field") == "error_rate"]
    assert len(refused) <= 2
    assert len([e async for e in fleet.bus.tail(DEAD, ())]) in {10, 20}


@pytest.mark.asyncio
async def test_a_monitor_that_starts_again_knows_the_same_and_says_nothing_twice(fleet: World) -> None:
    await fleet.order("hex8", "1")
    await fleet.order("hex9", "1")
    first = await fleet.start()
    for node in ("gpu-1", "gpu-2", "gpu-3"):
        await fleet.report("hex8", node=node, **BAD)
        await fleet.report("hex9", node=node, ood=3, **GOOD)

    await fleet.all_seen("hex9")

    async def requested() -> bool:
        return bool(await fleet.events("model.rollback.requested"))

    await until(requested)
    before = {model: await fleet.asked("health", model) for model in ("hex8", "hex9")}
    said = await fleet.events("verdict.changed", "incident.raised", "model.rollback.requested")
    await first.kill()
    await fleet.shorten_leases(1.0)

    await fleet.start()
    after = {model: await fleet.asked("health", model) for model in ("hex8", "hex9")}
    for name in ("health_status", "metrics", "should_rollback", "said"):
        assert after["hex8"][name] == before["hex8"][name]
    assert [v["triggers"] for v in after["hex8"]["versions"]] == [v["triggers"] for v in before["hex8"]["versions"]]
    assert after["hex9"]["metrics"] == before["hex9"]["metrics"]
    assert not after["hex9"]["should_rollback"]
    await fleet.report("hex8", node="gpu-1", **BAD)
    await fleet.all_seen("hex8")
    again = await fleet.events("verdict.changed", "incident.raised", "model.rollback.requested")
    # Of hex9 something may have been said for the first time meanwhile: that it is in order takes longer to say.
    assert [e.id for e in again if e.key == "hex8"] == [e.id for e in said if e.key == "hex8"]
    assert len({e.id for e in again}) == len(again)


@pytest.mark.asyncio
async def test_minutes_are_kept_once_however_often_they_are_counted(fleet: World) -> None:
    await fleet.order("hex8", "1")
    first = await fleet.start()
    for _ in range(3):
        await fleet.report("hex8", **GOOD)
    await fleet.all_seen("hex8")
    first.monitor.tick(60.0)

    async def stored() -> bool:
        return bool(await fleet.bus.newest(MINUTES, ("fc.min.hex8.*",)))

    await until(stored)
    kept = [read_minute(e.data) for e in await fleet.bus.newest(MINUTES, ("fc.min.hex8.*",))]
    await first.stop()
    second = await fleet.start()
    await fleet.all_seen("hex8")
    second.monitor.tick(60.0)

    async def written() -> bool:
        return second.monitor.minutes_written > 0

    await until(written)
    assert [read_minute(e.data) for e in await fleet.bus.newest(MINUTES, ("fc.min.hex8.*",))] == kept
    assert sum(minute.snapshots for minute in kept) == 3


@pytest.mark.asyncio
async def test_silence_is_said_by_verdict_and_by_the_daemon_itself(fleet: World) -> None:
    await fleet.order("hex8", "1")
    watching = await fleet.start(policy=AUTO.model_copy(update={"stale_after_seconds": 1.0}))
    assert "no snapshot was seen yet" in watching.monitor.sentence()
    await fleet.report("hex8", **GOOD)

    async def stale() -> bool:
        return ("snapshots", "stale") in verdicts(await fleet.events("verdict.changed"))

    await until(stale)
    assert (await fleet.asked("health", "hex8"))["health_status"] == "unknown"
    await fleet.report("hex8", **GOOD)

    async def back() -> bool:
        return verdicts(await fleet.events("verdict.changed"))[-1] == ("snapshots", "ok")

    await until(back)
