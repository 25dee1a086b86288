"""Snapshots, slot orders, and models that serve for a while, for the tests of the monitor's rules."""

import random
from collections.abc import Iterable, Mapping
from itertools import count

from fleetcast.daemons.monitor.judge import Judge
from fleetcast.daemons.monitor.policy import ModelPolicy
from fleetcast.daemons.monitor.verdicts import VerdictEvent
from fleetcast.events.incidents import Verdict
from fleetcast.events.lifecycle import Facts
from fleetcast.events.performance import LatencyHistogram, Snapshot, Weight
from fleetcast.events.state import CanaryEntry, Cause, SlotEntry, SlotState

START = 1_764_547_200.0
"""2025-12-01 00:00 UTC, the beginning of a minute."""
MODEL = "fraud_detector"
CAUSE = Cause(event="e1", sequence=1, by="/test", correlation="c1")
_ids = count(1)


def snap(
    at: float,
    *,
    requests: int | None = 100,
    bad: float = 0,
    node: str = "n0",
    version: str = "1",
    **more: object,
) -> Snapshot:
    """A snapshot that is stored so many seconds after the start, with so many failures."""
    fields: dict[str, object] = {
        "id": f"s{next(_ids)}",
        "model": MODEL,
        "version": version,
        "node": node,
        "stored_at": START + at,
        "requests": requests,
        "weight": Weight.COUNTED if requests is not None else Weight.SINGLE,
        "error_ratio": bad / requests if requests else None,
    }
    return Snapshot(**{**fields, **more})  # type: ignore[arg-type]


def slots(generation: int = 1, production: str | None = "1", canary: str | None = None, **more: object) -> SlotState:
    """A slot order."""
    fields: dict[str, object] = {
        "model": MODEL,
        "generation": generation,
        "production": production and SlotEntry(version=production, artifact="a" * 64),
        "canary": canary and CanaryEntry(version=canary, artifact="b" * 64, percent=10),
        "cause": CAUSE,
        "at": "2025-12-01T00:00:00Z",
    }
    return SlotState.model_validate({**fields, **more})


def judge(
    policy: ModelPolicy | None = None,
    *,
    canary: str | None = None,
    expected_ms: float | None = None,
    of: type[Judge] = Judge,
) -> Judge:
    """A judge of version 1 in production, past its warm-up when the test begins."""
    made = of(policy or ModelPolicy(mode="auto"), MODEL)
    made.order(slots(canary=canary), START - 3600)
    for version in ("1", *([canary] if canary else ())):
        made.expect(version, Facts(expected_latency_p95_ms=expected_ms))
    return made


def serve(
    judge: Judge,
    rates: Mapping[tuple[str, str], float],
    *,
    seconds: float,
    start: float = 0.0,
    every: float = 10.0,
    requests: int = 33,
    seed: int = 7,
    latency_ms: float | None = None,
) -> list[VerdictEvent]:
    """Let nodes report: *rates* are shares of failures by version and node. Seeded, so that it happens alike."""
    chance = random.Random(seed)
    said: list[VerdictEvent] = []
    steps = int(seconds / every)
    for step in range(steps):
        for place, ((version, node), rate) in enumerate(rates.items()):
            bad = sum(chance.random() < rate for _ in range(requests))
            more: dict[str, object] = {}
            if latency_ms is not None:
                drawn = (latency_ms * chance.lognormvariate(0, 0.5) for _ in range(requests))
                more["latency"] = LatencyHistogram.of(drawn)
            at = start + step * every + place * every / (len(rates) + 1)
            said += judge.take(snap(at, requests=requests, bad=bad, node=node, version=version, **more))
    return said


def breaches(events: Iterable[VerdictEvent]) -> list[VerdictEvent]:
    return [event for event in events if event.verdict is Verdict.BREACH]
