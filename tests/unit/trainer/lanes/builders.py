"""Lanes, ledgers and data sets for tests of what is decided about them."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from fleetcast.daemons.trainer.lanes import bucket
from fleetcast.daemons.trainer.lanes.definition import Bucket, LaneDefinition
from fleetcast.events.state import Cause
from fleetcast.events.training import CountedExport, LaneState
from fleetcast.registry.commands import stamp

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
CAUSE = Cause(event="export-1", sequence=1, by="/fleet/n1/job", correlation="export-1")


def at(seconds: float) -> datetime:
    """A moment, in seconds from the start."""
    return START + timedelta(seconds=seconds)


def lane(name: str = "hex8_2p", **fields: Any) -> LaneDefinition:
    """A lane; *fields* as in its table."""
    return LaneDefinition.model_validate({"name": name, "command": ["train", "{data}"], **fields})


def data(version: str, samples: int, total: int | None = None, *, seconds: float = 0.0) -> CountedExport:
    """A data set; its bytes are told by its version."""
    digest = hashlib.sha256(version.encode()).hexdigest()
    whole = samples if total is None else total
    return CountedExport(artifact=digest, version=version, samples=samples, total=whole, at=stamp(at(seconds)))


def ledger(name: str = "hex8_2p") -> LaneState:
    """An empty ledger."""
    return bucket.opened(name, START, CAUSE)


def counted(state: LaneState, rules: Bucket, *found: CountedExport, seconds: float = 0.0) -> LaneState:
    """A ledger after data sets came, the last of them the newest."""
    newest = found[-1].artifact
    after = bucket.count(state, rules, found, newest, state.through + len(found), at(seconds), CAUSE)
    return state if after is None else after


def trained(state: LaneState, rules: Bucket, run: str, *, seconds: float = 0.0) -> LaneState:
    """A ledger after a run was queued and has ended."""
    spent = bucket.spend(state, rules, run, at(seconds), CAUSE)
    after = bucket.ended(spent, run, at(seconds), CAUSE)
    assert after is not None
    return after
