"""A lane's bucket: what is counted, when a run is due, what it spends. Pure: values in, values out.

A token bucket with carried debt, as the self-play trainers have it (KataGo's train bucket, Leela's chunks to wait): new
samples fill it up to a cap; a run takes what it needs; what a run took too much is owed by the next one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from fleetcast.daemons.trainer.lanes.definition import Bucket, LaneDefinition
from fleetcast.events.state import Cause
from fleetcast.events.training import CountedExport, LanePause, LaneState, RunEnd, TrainingRunState
from fleetcast.registry.commands import stamp

EXPORTS_KEPT: Final = 200


@dataclass(frozen=True, slots=True)
class Due:
    """Whether a lane may start a run now.

    Attributes:
        reasons: why it may, or everything that is missing, one sentence each.
        at: when the passing of time alone makes it due; None: something else has to happen.
    """

    yes: bool
    reasons: tuple[str, ...]
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Missing:
    """One condition that does not hold; `until`: when it will by itself, None: never by itself."""

    reason: str
    until: datetime | None = None


def opened(lane: str, now: datetime, cause: Cause) -> LaneState:
    """The empty ledger of a lane."""
    return LaneState(lane=lane, opened_at=stamp(now), at=stamp(now), cause=cause)


def count(
    state: LaneState,
    bucket: Bucket,
    found: Iterable[CountedExport],
    newest: str | None,
    through: int,
    now: datetime,
    cause: Cause,
) -> LaneState | None:
    """The ledger with the data sets of *found*, oldest first, and *newest*, an artifact, as the one that runs take;
    None: nothing changes. A data set that was counted before is not counted again, under whatever version."""
    known = {each.artifact for each in state.exports}
    counted = state
    for each in found:
        if each.artifact not in known:
            known.add(each.artifact)
            counted = _with(counted, bucket, each)
    latest = _latest(counted.exports, newest)
    if counted is state and latest == state.latest:
        return None
    return counted.model_copy(
        update={
            "latest": latest,
            "through": max(through, state.through),
            "data_cause": cause,
            "at": stamp(now),
            "cause": cause,
        }
    )


def _with(state: LaneState, bucket: Bucket, export: CountedExport) -> LaneState:
    gained = export.samples * bucket.ratio
    tokens = max(min(state.tokens + gained, bucket.most), state.tokens)
    added = tokens - state.tokens
    return state.model_copy(
        update={
            "tokens": tokens,
            "samples_in": state.samples_in + export.samples,
            "samples_capped": state.samples_capped + round((gained - added) / bucket.ratio),
            "exports": (export.model_copy(update={"added": added}), *state.exports)[:EXPORTS_KEPT],
            "data_at": export.at,
        }
    )


def _latest(exports: Sequence[CountedExport], newest: str | None) -> CountedExport | None:
    """What runs take: what the registry names, else the newest that was not withdrawn."""
    usable = [each for each in exports if not each.withdrawn]
    return next((each for each in usable if each.artifact == newest), usable[0] if usable else None)


def volume(state: LaneState) -> int:
    """Samples of the newest data set."""
    return state.latest.total if state.latest is not None else 0


def standing(state: LaneState, bucket: Bucket) -> Literal["ready", "scaling"]:
    """Whether the lane has the volume that training needs at all."""
    return "ready" if state.latest is not None and volume(state) >= bucket.least_volume else "scaling"


def due(state: LaneState, definition: LaneDefinition, now: datetime) -> Due:
    """Whether a run may start now; *now*: the server's time."""
    if state.run is not None:
        return Due(False, (f"run {state.run} is under way: one at a time",))
    if state.paused is not None:
        return Due(False, (f"paused by {state.paused.by} since {state.paused.at}: {state.paused.reason}",))
    if state.latest is None:
        return Due(False, ("there is no data set so far",))
    if state.forced is not None:
        return Due(True, (f"{state.forced.by} asked for it: {state.forced.reason}",))
    missing = list(_missing(state, definition.bucket, now))
    if missing:
        moments = [each.until for each in missing if each.until is not None]
        alone = len(moments) == len(missing)
        return Due(False, tuple(each.reason for each in missing), max(moments) if alone else None)
    return Due(True, (_enough(state, definition.bucket),))


def _missing(state: LaneState, bucket: Bucket, now: datetime) -> Iterable[_Missing]:
    if state.latest is not None and state.latest.artifact == state.used:
        yield _Missing("there is no data set that the last run did not have")
    if standing(state, bucket) == "scaling":
        yield _Missing(f"scaling: the newest data set has {volume(state)} of {bucket.least_volume} samples")
    if state.tokens < bucket.required:
        owed = f", after a debt of {-state.tokens:g}" if state.tokens < 0 else ""
        at = _after(state.started_at or state.opened_at, bucket.max_interval_seconds)
        if at is None or at > now:
            reason = f"{bucket.required - state.tokens:g} of {bucket.required} new samples are missing{owed}"
            yield _Missing(reason, at)
    at = _after(state.started_at, bucket.min_interval_seconds)
    if at is not None and at > now:
        yield _Missing(f"{_seconds(at - now)} of the minimum interval are left", at)
    at = _after(state.data_at, bucket.quiet_seconds)
    if at is not None and at > now:
        yield _Missing(f"data came a moment ago: {_seconds(at - now)} of quiet are left", at)


def _enough(state: LaneState, bucket: Bucket) -> str:
    if state.tokens >= bucket.required:
        return f"{state.tokens:g} samples in the bucket, {bucket.required} needed"
    return f"the maximum interval is over; {bucket.required - state.tokens:g} samples become debt"


def _after(moment: str | None, seconds: float | None) -> datetime | None:
    if moment is None or seconds is None:
        return None
    return datetime.fromisoformat(moment) + timedelta(seconds=seconds)


def _seconds(left: timedelta) -> str:
    return f"{left.total_seconds():.0f} s"


def spend(state: LaneState, bucket: Bucket, run: str, now: datetime, cause: Cause) -> LaneState:
    """The ledger once *run* was queued over its newest data set. Debt is bounded as the bucket is."""
    return state.model_copy(
        update={
            "tokens": max(state.tokens - bucket.required, -bucket.most),
            "samples_spent": state.samples_spent + bucket.required,
            "used": state.latest.artifact if state.latest is not None else None,
            "started_at": stamp(now),
            "run": run,
            "runs": state.runs + 1,
            "forced": None,
            "at": stamp(now),
            "cause": cause,
        }
    )


def trained_before(state: LaneState, run: str | None, now: datetime, cause: Cause) -> LaneState:
    """The ledger when the run over its newest data set exists already: it is spent on once. *run*: it, when it is
    still under way."""
    used = state.latest.artifact if state.latest is not None else None
    return state.model_copy(update={"used": used, "run": run, "forced": None, "at": stamp(now), "cause": cause})


def ended(
    state: LaneState, run: str, now: datetime, cause: Cause, record: TrainingRunState | None = None
) -> LaneState | None:
    """The ledger once *run* ended, as its *record* says (None: that is gone); None: it was another one's. A run that
    failed gives nothing back: over the same data it would fail again. Nor does one that was cancelled: whoever did it
    decides whether there is to be another."""
    if state.run != run:
        return None
    end = None
    if record is not None:
        at = record.ended_at or record.at
        end = RunEnd(run=run, phase=record.phase, detail=record.phase_detail, at=at)
    return state.model_copy(update={"run": None, "ended": end or state.ended, "at": stamp(now), "cause": cause})


def asked(state: LaneState, reason: str, by: str, now: datetime, cause: Cause) -> LaneState:
    """The ledger once somebody asked for a run now; asking twice before it begins asks for one."""
    forced = LanePause(reason=reason, by=by, at=stamp(now), request=cause.event)
    return state.model_copy(update={"forced": forced, "at": stamp(now), "cause": cause})


def paused(state: LaneState, reason: str, by: str, now: datetime, cause: Cause) -> LaneState:
    """The ledger once somebody stopped the lane from starting runs; it goes on counting."""
    pause = LanePause(reason=reason, by=by, at=stamp(now), request=cause.event)
    return state.model_copy(update={"paused": pause, "at": stamp(now), "cause": cause})


def resumed(state: LaneState, now: datetime, cause: Cause) -> LaneState:
    """The ledger once the lane may start runs again."""
    return state.model_copy(update={"paused": None, "at": stamp(now), "cause": cause})


def withdrawn(state: LaneState, bucket: Bucket, version: str, now: datetime, cause: Cause) -> LaneState | None:
    """The ledger without a data set: what it added is taken out, also when it was spent; None: it was never counted,
    or is withdrawn already."""
    gone = next((each for each in state.exports if each.version == version and not each.withdrawn), None)
    if gone is None:
        return None
    exports = tuple(e.model_copy(update={"withdrawn": True}) if e is gone else e for e in state.exports)
    current = state.latest.artifact if state.latest is not None and state.latest.artifact != gone.artifact else None
    return state.model_copy(
        update={
            "tokens": max(state.tokens - gone.added, -bucket.most),
            "samples_in": max(state.samples_in - gone.samples, 0),
            "exports": exports,
            "latest": _latest(exports, current),
            "at": stamp(now),
            "cause": cause,
        }
    )


def refunded(state: LaneState, bucket: Bucket) -> LaneState:
    """The ledger once the run under way, which paid, was cancelled because its data was withdrawn: nothing came of
    it."""
    return state.model_copy(
        update={
            "tokens": min(state.tokens + bucket.required, bucket.most),
            "samples_spent": max(state.samples_spent - bucket.required, 0),
        }
    )


def begun_export(state: LaneState, now: datetime, cause: Cause) -> LaneState:
    """The ledger once the lane's export command was begun; who writes it is who runs it."""
    return state.model_copy(update={"exported_at": stamp(now), "at": stamp(now), "cause": cause})


def export_due(state: LaneState, definition: LaneDefinition, now: datetime) -> bool:
    """Whether the lane's export command is to be begun."""
    if definition.export is None or state.paused is not None:
        return False
    at = _after(state.exported_at, definition.export.every_seconds)
    return at is None or at <= now
