"""What gates look at, as it was when it was decided: frozen into the audit record, so that it can be decided again."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import Field

from fleetcast.events.content import Format, Value
from fleetcast.events.ids import ArtifactOrNone, Name, Version
from fleetcast.events.lifecycle import (
    FLEET,
    Approval,
    Count,
    EntryState,
    Facts,
    Flag,
    FreezeState,
    Rating,
    StageName,
    TrustState,
)
from fleetcast.events.payloads import Moment

UNTESTABLE = frozenset({Format.PICKLE, Format.OPAQUE})
"""Formats that have no test: loading a pickle would run it."""


class Readiness(Value):
    """How many of the nodes that want the model hold the version verified."""

    verified: Count
    wanting: Count


class Baseline(Value):
    """The version that is production now; what a lead is measured against."""

    version: Version
    rating: Rating | None = None


class GateInputs(Value):
    """Everything that gates look at.

    Attributes:
        stage, since: where the version stands, and since when.
        metadata: what its producer said and `facts` has no field for.
        format_check: what became of the format test: `ok` or `not tested (…)`; empty: nobody said.
        freezes: that hold now, by model or `_fleet`.
        now: moment of the decision.
        readiness: None: not asked for yet, because the rollout waits for it.
        asked_by: whoever wants the version to move.
        production: None: no version of the model is production.
        trust: in the model; None: nothing was counted yet, or no gate asks.
    """

    model: Name
    version: Version
    artifact: ArtifactOrNone
    stage: StageName
    since: Moment
    facts: Facts = Facts()
    flags: dict[str, Flag] = {}
    approvals: tuple[Approval, ...] = ()
    metadata: dict[str, Any] = {}
    format: str = ""
    format_check: str = ""
    freezes: dict[str, FreezeState] = {}
    now: Moment
    readiness: Readiness | None = None
    asked_by: str = Field(default="", max_length=500)
    production: Baseline | None = None
    trust: TrustState | None = None

    @property
    def games(self) -> int:
        """Games played: those by opponent, or those of the rating, whichever are more; they may be the same ones."""
        by_opponent = sum(each.games for each in (self.facts.evaluations or {}).values())
        return max(by_opponent, self.facts.rating.games if self.facts.rating else 0)


def inputs_of(
    entry: EntryState,
    *,
    now: Moment,
    freeze: Mapping[str, FreezeState | None],
    readiness: Readiness | None,
    production_entry: EntryState | None = None,
    asked_by: str = "",
    format_check: str | None = None,
    trust: TrustState | None = None,
) -> GateInputs:
    """What gates look at for a version.

    Args:
        now: RFC 3339.
        freeze: what holds for the model and for `_fleet`, by these names; what does not hold any more may be there.
        readiness: None: the rollout will wait for it.
        production_entry: of the version that is production now; None: there is none.
        format_check: what the nodes say of the format test; None: as its format allows it.
        trust: in the model, where a gate asks for it.
    """
    freezes = {key: state for key, state in freeze.items() if state is not None and holds(state, now)}
    baseline = production_entry if production_entry and production_entry.version != entry.version else None
    return GateInputs(
        model=entry.model,
        version=entry.version,
        artifact=entry.artifact,
        stage=entry.stage,
        since=entry.since,
        facts=entry.facts,
        flags=entry.flags,
        approvals=entry.approvals,
        metadata=entry.metadata,
        format=entry.format,
        format_check=_by_format(entry.format) if format_check is None else format_check,
        freezes={key: freezes[key] for key in (entry.model, FLEET) if key in freezes},
        now=now,
        readiness=readiness,
        asked_by=asked_by,
        production=Baseline(version=baseline.version, rating=baseline.facts.rating) if baseline else None,
        trust=trust,
    )


def holds(freeze: FreezeState, now: Moment) -> bool:
    """Whether a freeze holds at a moment."""
    return freeze.frozen and (freeze.until is None or moment(now) < moment(freeze.until))


def moment(text: Moment) -> datetime:
    """A moment as it is compared."""
    return datetime.fromisoformat(text)


def _by_format(name: str) -> str:
    """What may be said of files that an origin took in: it refuses those that do not pass the test of their format."""
    if name in UNTESTABLE:
        return f"not tested ({name})"
    return "" if name in {"", Format.MIXED} else "ok"
