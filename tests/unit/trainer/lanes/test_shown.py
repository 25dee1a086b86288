"""What people read of a lane."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tests.unit.trainer.lanes.builders import CAUSE, START, at, counted, data, lane, ledger, trained

from fleetcast.cli.training.lane_tables import told
from fleetcast.daemons.trainer.claims.eligibility import NodeFacts
from fleetcast.daemons.trainer.claims.watching import NodeWatch
from fleetcast.daemons.trainer.lanes import bucket, reading
from fleetcast.daemons.trainer.lanes.definition import Bucket
from fleetcast.daemons.trainer.lanes.judging import Judges
from fleetcast.daemons.trainer.lanes.loading import Lanes, Loaded
from fleetcast.daemons.trainer.lanes.queue import new_run
from fleetcast.events.training import LaneState

RULES = Bucket(required=200)
CPU = lane(work_class="cpu", resources={"labels": {"site": "west*"}})


def sentences(state: LaneState | None, seconds: float = 0.0, **fields: Any) -> list[str]:
    """What `why` says of a lane without nodes."""
    definition = lane(**fields)
    lanes = Lanes({definition.name: Loaded(definition, Path("lanes.toml"))})
    return told(reading.view(lanes, definition.name, state, None, at(seconds)))


def test_a_lane_that_never_saw_data_says_so() -> None:
    assert sentences(None) == [
        "lane hex8_2p is scaling: the newest data set has 0 of 200 samples",
        "no run is due: there is no data set so far",
        "next: fleetcast emit EXPORT_COMPLETED lane=hex8_2p path=FILE.npz samples_new=N samples_total=N",
    ]


def test_debt_is_called_debt_and_what_was_not_carried_over_is_said() -> None:
    state = counted(ledger(), RULES, data("a", 1152))
    assert "1,152 samples in, 852 not carried over, 0 spent in 0 runs; 300 of 200 in the bucket" in sentences(state)
    asked = bucket.asked(trained(state, RULES, "r1"), "new loss", "ann", at(1), CAUSE)
    owing = trained(asked, RULES, "r2", seconds=2)
    assert any(line.endswith("-100 of 200 in the bucket (a debt of 100)") for line in sentences(owing, 3))


def test_when_time_alone_makes_it_due_the_time_is_said() -> None:
    state = counted(ledger(), RULES, data("a", 300))
    said = sentences(state, 1, bucket={"quiet_seconds": 60})[-1]
    assert "59 s of quiet are left; due at " in said


def test_every_node_is_judged_as_trainers_judge_it_when_they_race() -> None:
    west = NodeFacts(
        "west-1", labels={"site": "west-2"}, artifacts=frozenset({data("a", 1).artifact}), limits={"cpu": 1}
    )
    far = NodeFacts("east-1", labels={"site": "east"}, limits={"cpu": 1})
    web = NodeFacts("web-1", trains=False)
    judges = Judges(cast("NodeWatch", SimpleNamespace(all_facts=[west, far, web])))
    found = {each.node: each for each in judges(CPU, new_run(CPU, data("a", 1), START, CAUSE), START)}
    assert found["west-1"].eligible
    assert found["west-1"].score > 0
    assert found["east-1"].reason == "label site is east, asked for: west*"
    assert found["web-1"].reason == "no trainer runs there"
