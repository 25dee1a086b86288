"""The data set of a run stays on its node while something of the run may still open it, and no longer."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.integration.store.conftest import Workplace
from tests.integration.trainer.runs.lives import (
    a_run,
    ask,
    killed_at,
    life,
    now,
    until,
    until_file,
    until_true,
)

from fleetcast.bus import Bus
from fleetcast.config.settings import StoreSettings
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.daemons.trainer.lanes.store import LaneStore
from fleetcast.daemons.trainer.ledger import TrainingLedger, stored
from fleetcast.daemons.trainer.readers import WAITING, RunReaders
from fleetcast.events.content import Content, Kind
from fleetcast.events.state import Cause
from fleetcast.events.training import (
    TRAINING_ENDED,
    CountedExport,
    DataInput,
    LaneState,
    TrainingPhase,
    TrainingRunState,
    lane_subject,
)
from fleetcast.registry.commands import stamp
from fleetcast.transport.store import Store

CAUSE = Cause(event="e", sequence=1, by="ann", correlation="e")
READS = "open(os.environ['FLEETCAST_DATA'] + '/hex8.npz', 'rb').read()"


class Held:
    """The store of the node n1, with three data sets of a lane; a run reads the first."""

    def __init__(self, folder: Path) -> None:
        (folder / "publish").mkdir()
        settings = StoreSettings(
            data=folder / "n1", publish_roots=(folder / "publish",), reserve_bytes=0, keep_versions=2
        )
        self.workplace = Workplace(folder, settings, Store(settings))
        self.contents: dict[str, Content] = {
            f"d{number}": self.workplace.receive(
                "hex8", f"d{number}", {"hex8.npz": bytes([number]) * 100}, Kind.DATASET
            )
            for number in (1, 2, 3)
        }

    @property
    def artifacts(self) -> frozenset[str]:
        return frozenset(content.artifact for content in self.contents.values())

    def run(self, script: str, **changes: Any) -> TrainingRunState:
        data = DataInput(lane="hex8", version="d1", artifact=self.contents["d1"].artifact, samples=300)
        return a_run("1", f"import os, sys, time\n{script}", **changes).model_copy(update={"data": (data,)})

    async def squeeze(self) -> list[str]:
        """What is left of the lane when the disk is full."""
        await asyncio.to_thread(self.workplace.store.collect, until_free_bytes=2**60)
        left = await asyncio.to_thread(self.workplace.store.installed, "hex8", Kind.DATASET)
        return [each.version for each in left]

    def is_noted(self, *claims: int) -> bool:
        """Whether one of these claims of the run says that it reads."""
        return any((self.workplace.data / "readers" / f"run-1.{claim}.json").exists() for claim in claims)


@pytest.fixture
def held(tmp_path: Path) -> Held:
    return Held(tmp_path)


def waits_for(gate: Path) -> str:
    return f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)"


@pytest.mark.asyncio
async def test_what_a_run_reads_survives_a_full_disk_also_while_no_trainer_is_there_and_goes_after_its_end(
    bus: Bus, held: Held, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    await ask(bus, held.run(f"{waits_for(gate)}\n{READS}"))
    async with life(bus, tmp_path, artifacts=held.artifacts):
        await until(bus, "run-1", lambda run: run.phase is TrainingPhase.RUNNING)
        assert await held.squeeze() == ["d1", "d2", "d3"]
    assert await held.squeeze() == ["d1", "d2", "d3"]
    async with life(bus, tmp_path, artifacts=held.artifacts) as keeper:
        await until_true(lambda: "run-1" in keeper.owned)
        assert await held.squeeze() == ["d1", "d2", "d3"]
        gate.touch()
        run = await until(bus, "run-1", lambda run: run.phase in TRAINING_ENDED)
        await until_true(lambda: not held.is_noted(WAITING, 1))
    assert run.phase is TrainingPhase.SUCCEEDED
    assert await held.squeeze() == ["d2", "d3"]


@pytest.mark.asyncio
async def test_what_a_run_is_to_read_stays_while_it_waits_for_a_node(bus: Bus, held: Held, tmp_path: Path) -> None:
    await ask(bus, held.run(READS))
    async with life(bus, tmp_path):
        await until_true(lambda: held.is_noted(WAITING))
        assert await held.squeeze() == ["d1", "d2", "d3"]
        await withdraw(bus, held)
        await until_true(lambda: not held.is_noted(WAITING))
    assert await held.squeeze() == ["d2", "d3"]


@pytest.mark.asyncio
async def test_a_trainer_that_dies_right_after_an_end_leaves_no_data_held_for_ever(
    bus: Bus, held: Held, tmp_path: Path
) -> None:
    await ask(bus, held.run(READS))
    await killed_at(bus, tmp_path, "training.succeeded.after", artifacts=held.artifacts)
    assert held.is_noted(1)
    async with life(bus, tmp_path):
        await until_true(lambda: not held.is_noted(WAITING, 1))
    assert await held.squeeze() == ["d2", "d3"]


@pytest.mark.asyncio
async def test_a_run_whose_data_was_removed_before_it_began_is_given_to_another_node(
    bus: Bus, held: Held, tmp_path: Path
) -> None:
    assert await held.squeeze() == ["d2", "d3"]
    await ask(bus, held.run(READS))
    async with life(bus, tmp_path, artifacts=held.artifacts):
        run = await until(bus, "run-1", lambda run: run.phase is TrainingPhase.QUEUED and run.claim == 1)
        await until_true(lambda: not held.is_noted(1))
    assert "data set hex8@d1 is gone" in run.phase_detail
    assert "n1" in run.excluded
    assert not (tmp_path / "n1" / "runs" / "run-1" / "spec.json").exists()


@pytest.mark.asyncio
async def test_a_withdrawn_data_set_ends_the_run_that_reads_it_and_stays_until_its_process_has_ended(
    bus: Bus, held: Held, tmp_path: Path
) -> None:
    saved, begun = tmp_path / "saved", tmp_path / "begun"
    at_the_end = f"def end(*_):\n    {READS}\n    open({str(saved)!r}, 'w').write('read')\n    sys.exit(0)\n"
    begins = f"signal.signal(signal.SIGTERM, end)\nopen({str(begun)!r}, 'w').write('x')\ntime.sleep(600)"
    script = f"import signal\n{at_the_end}{begins}"
    await ask(bus, held.run(script, name="hex8"))
    async with life(bus, tmp_path, artifacts=held.artifacts) as keeper:
        await until(bus, "run-1", lambda run: run.phase is TrainingPhase.RUNNING)
        await until_file(begun)
        run = await withdraw(bus, held)
        await held.squeeze()
        await until_true(lambda: not keeper.owned and not held.is_noted(WAITING, 1))
    assert (run.phase, run.claim) == (TrainingPhase.CANCELLED, 1)
    assert "data set d1 was withdrawn: labels are swapped" in run.phase_detail
    assert saved.read_text() == "read"
    assert await held.squeeze() == ["d2", "d3"]


async def withdraw(bus: Bus, held: Held) -> TrainingRunState:
    """Take the data set back that the run reads; the run as it is then."""
    ledger, at = TrainingLedger(bus), stamp(now())
    export = CountedExport(
        artifact=held.contents["d1"].artifact, version="d1", samples=300, total=300, added=300, at=at
    )
    state = LaneState(lane="hex8", n=1, exports=(export,), latest=export, run="run-1", runs=1, at=at, cause=CAUSE)
    await ledger.write([stored(lane_subject("hex8"), state, 0)])
    lane = LaneDefinition(name="hex8", command=("train",))
    outcome = await LaneStore(ledger, now).withdraw(lane, "d1", "labels are swapped", CAUSE)
    assert outcome.run is not None
    return outcome.run


@pytest.mark.soak
@pytest.mark.asyncio
async def test_broken_variant_a_trainer_that_notes_nothing_has_the_data_taken_from_under_its_run(
    bus: Bus, held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunReaders, "_write", lambda *_: None)
    monkeypatch.setattr(RunReaders, "_renew", lambda *_: None)
    gate = tmp_path / "gate"
    await ask(bus, held.run(f"{waits_for(gate)}\n{READS}", retries={"unknown": 0, "data": 0, "code": 0}))
    async with life(bus, tmp_path, artifacts=held.artifacts):
        await until(bus, "run-1", lambda run: run.phase is TrainingPhase.RUNNING)
        assert await held.squeeze() == ["d2", "d3"]
        gate.touch()
        run = await until(bus, "run-1", lambda run: run.phase in TRAINING_ENDED)
    assert run.phase is TrainingPhase.FAILED
    assert "No such file" in str(run.attempts[-1].evidence)
