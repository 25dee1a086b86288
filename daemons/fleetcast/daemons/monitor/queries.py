"""Answers `fc.svc.monitor.query`: `{"ask": "health"}`, `{"ask": "health" | "triggers" | "policy", "model": …}`.

Any monitor answers for all: of models that another one judges it asks that one. Codes of refusals: 400 not understood,
404 no such model, 503 nobody judges it right now: ask again.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import Field

from fleetcast.bus import Bus, ServiceError
from fleetcast.bus.errors import BusError
from fleetcast.daemons.monitor.health import health_summary, rollback_check
from fleetcast.daemons.monitor.judge import Judge
from fleetcast.daemons.monitor.judging import Judging
from fleetcast.daemons.monitor.policy import ModelPolicy, Policy
from fleetcast.daemons.monitor.shards import SHARDS, shard_of
from fleetcast.daemons.monitor.surroundings import Surroundings
from fleetcast.daemons.monitor.telling import Teller
from fleetcast.daemons.monitor.verdicts import HealthReport, Remedy, VersionReport
from fleetcast.daemons.runtime.requests import read_request
from fleetcast.events.content import Stored
from fleetcast.events.ids import Name
from fleetcast.events.incidents import Health
from fleetcast.events.state import SlotState

PARTS_SUBJECT: Final = "fc.svc.monitor.parts"
"""Where monitors ask each other: every one answers for the models that it judges."""
PART_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 2.0
"""How long a question about a version waits for what is said of it to be read."""


class Question(Stored):
    """What is asked.

    Attributes:
        model: none: all of them; only `health` can be asked of all.
        window_minutes: over which it is to be told; None: as the policy says.
    """

    ask: Literal["health", "triggers", "policy"]
    model: Name | None = None
    window_minutes: int | None = Field(default=None, ge=1, le=60)


Answer = dict[str, Any]


class QueryDesk:
    """The endpoints."""

    def __init__(
        self,
        bus: Bus,
        judging: Judging,
        teller: Teller,
        around: Surroundings,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._bus = bus
        self._judging = judging
        self._teller = teller
        self._around = around
        self._now = now

    async def answer(self, body: bytes) -> bytes:
        """The answer to one question, for the whole fleet.

        Raises:
            ServiceError: it has none.
        """
        question = _read(body)
        if question.model is None:
            return _written(await self._fleet(question))
        slot = self._around.slots.get(question.model)
        if slot is None:
            raise ServiceError(404, f"no slot of {question.model} is known; fleetcast models lists the models")
        if question.ask == "policy":
            return _written(self._policy(question.model, slot))
        own = self._model(question.model, question, slot)
        return _written(own if own is not None else await self._elsewhere(question, body))

    async def part(self, body: bytes) -> bytes:
        """The answer for the models that are judged here.

        Raises:
            ServiceError: it has none.
        """
        question = _read(body)
        if question.model is None:
            return _written(self._own(question))
        slot = self._around.slots.get(question.model)
        own = self._model(question.model, question, slot) if slot is not None else None
        if own is None:
            raise ServiceError(404, f"{question.model} is not judged here")
        return _written(own)

    async def _elsewhere(self, question: Question, body: bytes) -> Answer:
        try:
            # One monitor judges it; the others refuse, which is not an answer.
            found = await self._bus.request_many(PARTS_SUBJECT, body, PART_SECONDS, expect=1, settle_seconds=None)
        except BusError as away:
            raise ServiceError(503, str(away)) from away
        if not found:
            shard = shard_of(str(question.model))
            raise ServiceError(
                503,
                f"nobody judges {question.model} right now: its shard {shard} changes hands; ask again in some seconds",
            )
        answer: Answer = json.loads(found[0])
        return answer

    # -- one model

    def _model(self, model: str, question: Question, slot: SlotState) -> Answer | None:
        """What is known of a model; None: another monitor judges it, or nobody does yet."""
        if not self._judging.live(shard_of(model)):
            return None
        judge = self._judging.judge(model) or self._unheard(slot)
        report = judge.health(question.window_minutes)
        if question.ask == "triggers":
            return self._check(report, slot)
        return self._summary(report, slot)

    def _check(self, report: HealthReport, slot: SlotState) -> Answer:
        """Seed 003's rollback check, and which version it is about."""
        breaches = [
            trigger.severity
            for each in report.versions
            for trigger in each.triggers
            if trigger.severity is not None and trigger.remedy is Remedy.ROLL_BACK
        ]
        return {
            **rollback_check(report),
            "version": _spoken_of(report, slot),
            "severity": max(breaches, key=lambda each: each.rank).value if breaches else None,
            "generation": report.generation,
            "mode": report.mode,
            "at": _stamp(self._now()),
        }

    def _unheard(self, slot: SlotState) -> Judge:
        """The judge of a model that nobody sent a snapshot of: it says what it lacks."""
        judge = Judge(self._judging.policy.for_model(slot.model), slot.model)
        judge.order(slot, self._now().timestamp())
        return judge

    def _summary(self, report: HealthReport, slot: SlotState) -> Answer:
        """Seed 003's summary of a model, and what it rests on."""
        said = self._teller.said(report.model)
        return {
            **health_summary(report),
            "model_health": report.health.value,
            "generation": report.generation,
            "mode": report.mode,
            "window_minutes": report.window_minutes,
            "should_rollback": report.should_rollback,
            "reasons": _reasons(report),
            "versions": [asdict(each) for each in report.versions],
            "comparison": report.comparison,
            "not_counted": self._judging.refused(report.model),
            "said": [each.model_dump(mode="json", exclude_none=True) for each in said.said] if said else [],
            "node": self._bus.node,
            "at": _stamp(self._now()),
        }

    def _policy(self, model: str, slot: SlotState) -> Answer:
        """What holds for a model, each value with where it came from."""
        held = self._judging.policy.for_model(model)
        if slot.production is not None:
            version = slot.production.version
            held = held.for_version(version, self._around.facts(model, version))
        return {
            "model_id": model,
            "file": self._judging.policy.name,
            "values": [
                {"name": name, "value": value, "unit": unit, "origin": origin}
                for name, value, unit, origin in held.rows()
            ],
        }

    # -- all of them

    async def _fleet(self, question: Question) -> Answer:
        parts = [self._own(question)]
        if len(parts[0]["shards"]) < SHARDS:
            others = max(1, len(set(self._around.members()) - {self._bus.node}))
            body = question.model_dump_json().encode()
            try:
                found = await self._bus.request_many(PARTS_SUBJECT, body, PART_SECONDS, expect=others + 1)
            except BusError:
                found = []
            answers: list[Answer] = [json.loads(each) for each in found]
            parts += [each for each in answers if each["owner"] != parts[0]["owner"]]
        return _merged(parts, self._around.slots, self._judging.policy, question.window_minutes)

    def _own(self, question: Question) -> Answer:
        judged = dict(self._judging.judged())
        reports = [judge.health(question.window_minutes) for judge in judged.values()]
        return {
            "owner": f"{self._bus.node}/{id(self)}",
            "node": self._bus.node,
            "shards": [number for number in range(SHARDS) if self._judging.live(number)],
            "models": [self._line(report) for report in reports],
        }

    def _line(self, report: HealthReport) -> Answer:
        slot = self._around.slots[report.model]
        version = _spoken_of(report, slot)
        return {
            "model_id": report.model,
            "version": version,
            "health_status": report.health.value,
            "mode": report.mode,
            "reasons": _reasons(report),
            "metrics": dict(_metrics(report, version)),
            "last_snapshot_at": max((v.last_snapshot_at for v in report.versions if v.last_snapshot_at), default=None),
            "node": self._bus.node,
        }


def _merged(
    parts: Iterable[Answer], slots: Mapping[str, SlotState], policy: Policy, window_minutes: int | None
) -> Answer:
    """Seed 003's fleet summary. Models that nobody sends snapshots of are `unknown`; so are those whose monitor did not
    answer, and `unanswered` says whose."""
    judged = {line["model_id"]: line for part in parts for line in part["models"]}
    held = {number for part in parts for number in part["shards"]}
    served = {model for model, slot in slots.items() if slot.production is not None or slot.canary is not None}
    unanswered = sorted(model for model in served - judged.keys() if shard_of(model) not in held)
    counted = {health: sum(line["health_status"] == health for line in judged.values()) for health in Health}
    unseen = (_unseen(model, slots[model], policy.for_model(model)) for model in served - judged.keys())
    lines = [*judged.values(), *unseen]
    return {
        "total_models": len(lines),
        "healthy": counted[Health.HEALTHY],
        "degraded": counted[Health.DEGRADED],
        "failing": counted[Health.CRITICAL],
        "unknown": len(lines) - counted[Health.HEALTHY] - counted[Health.DEGRADED] - counted[Health.CRITICAL],
        "issues": [
            {"model_id": line["model_id"], "version": line["version"], "reasons": line["reasons"]}
            for line in lines
            if line["health_status"] in {Health.DEGRADED, Health.CRITICAL}
        ],
        "models": sorted(lines, key=lambda line: str(line["model_id"])),
        "unanswered": unanswered,
        "window_minutes": window_minutes,
        "monitors": sorted({part["node"] for part in parts}),
    }


def _unseen(model: str, slot: SlotState, policy: ModelPolicy) -> Answer:
    entry = slot.production or slot.canary
    return {
        "model_id": model,
        "version": entry.version if entry else None,
        "health_status": Health.UNKNOWN.value,
        "mode": policy.mode.value,
        "reasons": ["no snapshot was seen"],
        "metrics": {},
        "last_snapshot_at": None,
        "node": None,
    }


def _spoken_of(report: HealthReport, slot: SlotState) -> str | None:
    """The version that a model's health is about: the worst of those that are served, of equal ones production."""
    order = (Health.CRITICAL, Health.DEGRADED, Health.HEALTHY, Health.UNKNOWN)
    served = sorted(report.versions, key=lambda each: (order.index(each.health), each.slot != "production"))
    if served and served[0].health in order[:2]:
        return served[0].version
    entry = slot.production or slot.canary
    return entry.version if entry else None


def _reasons(report: HealthReport) -> list[str]:
    several = len(report.versions) > 1
    return [f"{each.version}: {reason}" if several else reason for each in report.versions for reason in each.reasons]


def _metrics(report: HealthReport, version: str | None) -> Mapping[str, float | int | None]:
    found: VersionReport | None = next((each for each in report.versions if each.version == version), None)
    return found.metrics if found is not None else {}


def _read(body: bytes) -> Question:
    example = '{"ask": "triggers", "model": "hex8_2p", "window_minutes": 10}'
    question = read_request(Question.model_validate_json, body or b'{"ask": "health"}', example=example)
    if question.model is None and question.ask != "health":
        raise ServiceError(400, f"model: {question.ask} can be asked of one model only")
    return question


def _written(answer: Answer) -> bytes:
    return json.dumps(answer, separators=(",", ":"), default=str).encode()


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
