"""A registry of any size for measurements: what its stream holds, and the questions that people ask of it."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from fleetcast.bus import BatchMessage
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.lifecycle import (
    EntryState,
    Evaluation,
    Facts,
    Flag,
    Rating,
    StageChange,
    StageName,
    entry_subject,
)
from fleetcast.events.payloads import Endpoints, Origin
from fleetcast.events.state import (
    AuditRecord,
    Cause,
    SlotEntry,
    SlotState,
    VersionState,
    log_subject,
    slot_subject,
    version_subject,
)
from fleetcast.registry.rules import dump

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
STAGES = (
    *([StageName.DEVELOPMENT] * 60),
    *([StageName.ARCHIVED] * 20),
    *([StageName.STAGING] * 10),
    *([StageName.REJECTED] * 5),
    *([StageName.CANARY] * 1),
    *([StageName.QUARANTINED] * 4),
)
OWNERS, TEAMS, TAGS = 300, 20, 50
FRAMEWORKS = ("pytorch", "onnx", "sklearn")


def _at(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def model_name(number: int) -> str:
    return f"model_{number:05d}"


def records(models: int, versions: int, *, seed: int = 1) -> Iterator[BatchMessage]:
    """What FC_REGISTRY holds of so many models: of each version its content, its entry and the audit record of its
    reservation, of each model its slots. Versions come round by round, as in the life of a fleet."""
    chance = random.Random(seed)
    moment = 0.0
    for number in range(1, versions + 1):
        for each in range(models):
            moment += chance.expovariate(1 / 60)
            yield from _version(model_name(each), number, moment, chance)
            if number == versions:
                yield _slot(model_name(each), number, moment)


def _cause() -> Cause:
    return Cause(
        event="01KAGN1QG0ZVJ1Q8YB7M3T5W9X", sequence=1, by="/fleet/gpu-1/job", correlation="01KAGN1QG0ZVJ1Q8YB"
    )


def _content(chance: random.Random) -> Content:
    digest = f"{chance.getrandbits(256):064x}"
    file = ContentFile(path="model.pt", size=chance.randrange(1, 2**30), sha256=digest, pieces_root=digest)
    return Content(kind=Kind.MODEL, format=Format.TORCH, files=(file,))


def _version(model: str, number: int, moment: float, chance: random.Random) -> Iterator[BatchMessage]:
    version, content, cause = str(number), _content(chance), _cause()
    state = VersionState(
        model=model,
        version=version,
        artifact=content.artifact,
        content=content,
        origin=Origin(node=f"gpu-{chance.randrange(16)}", endpoints=Endpoints()),
        metainfo_b64="bWV0YWluZm8=" * 60,
        cause=cause,
        at=_at(moment),
    )
    yield BatchMessage(version_subject(model, version), dump(state))
    yield BatchMessage(entry_subject(model, version), dump(_entry(state, content, moment, chance)))
    record = AuditRecord(
        n=number,
        model=model,
        action="version.reserved",
        request=f"reserve/{model}/{version}",
        actor="/fleet/gpu-1/distributor",
        before=None,
        after={"version": version, "artifact": content.artifact, "kind": "model", "origin": state.origin.node},
        at=_at(moment),
        prev_sha256="0" * 64,
    )
    yield BatchMessage(log_subject(model, number), dump(record))


def _entry(state: VersionState, content: Content, moment: float, chance: random.Random) -> EntryState:
    owner = chance.randrange(OWNERS)
    wins = chance.randrange(101)
    rated = chance.random() < 0.5
    return EntryState(
        model=state.model,
        version=state.version,
        artifact=state.artifact,
        stage=chance.choice(STAGES),
        since=_at(moment + chance.randrange(10**6)),
        stages=(StageChange(stage=StageName.DEVELOPMENT, at=_at(moment), n=1),),
        facts=Facts(
            owner=f"owner{owner}",
            team=f"team{owner % TEAMS}",
            framework=chance.choice(FRAMEWORKS),
            model_type="policy",
            description="a policy and value network, trained by playing against itself",
            tags=tuple(f"tag{chance.randrange(TAGS)}" for _ in range(2)),
            run_id=f"run-{state.model}-{state.version}",
            git_commit=f"{chance.getrandbits(160):040x}",
            evaluation_metrics={"loss": chance.random(), "accuracy": chance.random()},
            evaluations={"random": Evaluation(wins=wins, losses=100 - wins)},
            rating=Rating(elo=chance.gauss(1500, 100), error=30.0, games=100) if rated else None,
        ),
        flags={"bias_check_passed": Flag(value=True, by="/fleet/gpu-1/cli", at=_at(moment))},
        bytes=content.size,
        format="torch",
        origin=state.origin.node,
        registered_at=_at(moment),
        registered_by="/fleet/gpu-1/distributor",
        cause=state.cause,
    )


def _slot(model: str, number: int, moment: float) -> BatchMessage:
    entry = SlotEntry(version=str(number), artifact="0" * 64)
    state = SlotState(model=model, generation=number, production=entry, cause=_cause(), at=_at(moment))
    return BatchMessage(slot_subject(model), dump(state))


def questions(models: int, chance: random.Random) -> dict[str, dict[str, Any]]:
    """One question of every kind; `versions` unless the name says `models`."""
    owner = chance.randrange(OWNERS)
    facet = {"owner": f"owner{owner}", "team": f"team{owner % TEAMS}", "framework": chance.choice(FRAMEWORKS)}
    name = model_name(chance.randrange(models))
    return {
        "all": {},
        "one model": {"model": name},
        "models by pattern": {"model": f"{name[:-2]}*"},
        "pattern with a star first": {"model": f"*{name[-3:]}"},
        "common stage": {"stage": "development"},
        "rare stage": {"stage": "canary"},
        "stage, newest first": {"stage": "archived", "order": "since"},
        "owner": {"owner": facet["owner"]},
        "owner, strongest first": {"owner": facet["owner"], "order": "elo"},
        "team, newest first": {"team": facet["team"], "order": "registered"},
        "team of another framework": {"team": facet["team"], "framework": facet["framework"], "order": "since"},
        "three filters": {"stage": "staging", "framework": facet["framework"], "team": facet["team"]},
        "tag": {"tags": [f"tag{chance.randrange(TAGS)}"]},
        "two tags and a stage": {"tags": [f"tag{chance.randrange(TAGS)}" for _ in range(2)], "stage": "staging"},
        "text": {"text": facet["owner"]},
        "text that stands nowhere": {"text": "nowhere"},
        "filter without an index that nothing matches": {"model_type": "nothing"},
        "strongest": {"order": "elo"},
        "oldest": {"order": "-registered"},
    }
