"""What a trainer that was killed leaves half done, and its next life must not take for something else."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.integration.trainer.runs.lives import a_run, ask, killed_at, life, now, until, until_file, until_true

from fleetcast.bus import Bus
from fleetcast.daemons.trainer import runner
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.claiming import Claimer
from fleetcast.daemons.trainer.claims.keeper import Keeper
from fleetcast.daemons.trainer.claims.rules import Again, Ended
from fleetcast.daemons.trainer.claims.store import Kept, RunStore
from fleetcast.daemons.trainer.lanes.definition import Resources
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.daemons.trainer.releasing import order, reclaimed, returns
from fleetcast.events.gpus import Gpu
from fleetcast.events.training import TRAINING_ENDED, TrainingPhase, TrainingRunState, WorkClass

pytestmark = pytest.mark.asyncio

CARD = Gpu(index=0, vendor="nvidia", model="H200")
WAITS = "import os, time\nwhile not os.path.exists({gate!r}): time.sleep(0.01)\n"
ENDS_WHEN_ASKED = """
import os, time
while os.environ["FLEETCAST_CLAIM"] == "1" and not os.path.exists(os.environ["FLEETCAST_STOP_FILE"]):
    time.sleep(0.01)
"""


def on_gpu(number: str, script: str, **more: Any) -> TrainingRunState:
    return a_run(number, script, work_class=WorkClass.GPU, resources=Resources(disk_bytes=0, gpus=1), **more)


async def asked_and_forgotten(bus: Bus, folder: Path, words: str) -> None:
    """A trainer that asks a run to save and end, and dies before the run has."""
    await ask(bus, a_run("1", ENDS_WHEN_ASKED))
    async with life(bus, folder):
        await until(bus, "run-1", lambda run: run.phase is TrainingPhase.RUNNING)
    (folder / "n1" / "runs" / "run-1" / "stop").write_text(words)


async def test_a_run_that_was_asked_to_end_by_a_trainer_that_died_has_not_succeeded_though_it_ended_well(
    bus: Bus, tmp_path: Path
) -> None:
    await asked_and_forgotten(bus, tmp_path, order(returns_now()))
    async with life(bus, tmp_path):
        run = await until(bus, "run-1", lambda run: run.phase in TRAINING_ENDED)
    assert [each.outcome for each in run.attempts] == ["returns", "succeeded"]
    assert run.faults == {}


async def test_a_run_whose_machine_was_to_be_taken_away_goes_elsewhere_though_the_trainer_was_started_anew(
    bus: Bus, tmp_path: Path
) -> None:
    soon = now() + timedelta(seconds=30)
    why = reclaimed(a_run("1", ""), "n1", "", deadline=soon, by=soon)
    await asked_and_forgotten(bus, tmp_path, order(why))
    async with life(bus, tmp_path):
        run = await until(bus, "run-1", lambda run: run.phase is not TrainingPhase.RUNNING)
    assert (run.phase, run.attempts[0].outcome) == (TrainingPhase.QUEUED, "reclaimed")
    assert "n1" in run.excluded


def returns_now() -> Any:
    return returns("a GPU is well")


@pytest.mark.soak
async def test_without_the_file_of_the_former_life_that_run_counts_as_done(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(runner, "asked_before", nothing)
    await asked_and_forgotten(bus, tmp_path, order(returns_now()))
    async with life(bus, tmp_path):
        run = await until(bus, "run-1", lambda run: run.phase in TRAINING_ENDED)
    assert [each.outcome for each in run.attempts] == ["succeeded"]


SAVES_LATE = """
import os, pathlib, time, zipfile
folder = pathlib.Path(os.environ["FLEETCAST_CHECKPOINT_DIR"])
if os.environ["FLEETCAST_CLAIM"] == "1":
    while not os.path.exists({gate!r}):
        time.sleep(0.01)
    with zipfile.ZipFile(folder / ".left", "w") as archive:
        archive.writestr("model", "weights")
    os.rename(folder / ".left", folder / "left.pt")
else:
    open({told!r}, "w").write(os.environ.get("FLEETCAST_CHECKPOINT", "from scratch"))
"""


async def test_what_a_run_saved_on_a_node_while_its_trainer_was_away_is_what_its_next_claim_there_goes_on_from(
    bus: Bus, tmp_path: Path
) -> None:
    gate, told = tmp_path / "gate", tmp_path / "told"
    saved = tmp_path / "n1" / "runs" / "run-1" / "checkpoints" / "left.pt"
    await ask(bus, a_run("1", SAVES_LATE.format(gate=str(gate), told=str(told))))
    async with life(bus, tmp_path):
        await until(bus, "run-1", lambda run: run.phase is TrainingPhase.RUNNING)
    gate.touch()
    await until_file(saved)
    store = RunStore(TrainingLedger(bus), node="test")
    await store.change("run-1", lambda run: rules.queued_again(run, Ended("lost"), Again(), now()))
    async with life(bus, tmp_path):
        run = await until(bus, "run-1", lambda run: run.phase in TRAINING_ENDED)
    assert (run.phase, run.claim) == (TrainingPhase.SUCCEEDED, 2)
    assert told.read_text() == str(saved)


@pytest.mark.parametrize(
    "step", ["training.claimed.after", pytest.param("training.process.before", marks=pytest.mark.soak)]
)
async def test_a_run_that_was_claimed_before_its_trainer_died_is_started_on_a_gpu(
    bus: Bus, tmp_path: Path, step: str
) -> None:
    told = tmp_path / "environment.json"
    await ask(bus, on_gpu("1", f"import json, os\njson.dump(dict(os.environ), open({str(told)!r}, 'w'))"))
    await killed_at(bus, tmp_path, step, gpus=(CARD,))
    async with life(bus, tmp_path, gpus=(CARD,)):
        run = await until(bus, "run-1", lambda run: run.phase in TRAINING_ENDED)
    seen = json.loads(told.read_text())
    assert (run.phase, run.claim, run.device) == (TrainingPhase.SUCCEEDED, 1, "cuda:0")
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["FLEETCAST_GPUS"]) == ("0", "0")


async def test_a_run_whose_gpu_is_gone_when_its_trainer_comes_back_waits_for_another_and_spends_no_try(
    bus: Bus, tmp_path: Path
) -> None:
    await ask(bus, on_gpu("1", ""))
    await killed_at(bus, tmp_path, "training.claimed.after", gpus=(CARD,))
    async with life(bus, tmp_path):
        run = await until(bus, "run-1", lambda run: run.phase is not TrainingPhase.CLAIMED)
    assert run.phase is TrainingPhase.QUEUED
    assert "its GPU is not to be had here" in run.phase_detail
    assert run.faults == {}


class Adopting:
    """Holds up what a new life takes up of the former one, and counts how often it looks for more meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, broken: bool = False) -> None:
        self.goes_on = asyncio.Event()
        self.looks = 0
        self.broken = broken
        adopt = Keeper._adopt

        async def later(keeper: Keeper, run: TrainingRunState) -> None:
            await self.goes_on.wait()
            await adopt(keeper, run)

        monkeypatch.setattr(Keeper, "_adopt", later)

    def watch(self, keeper: Keeper, claimer: Claimer) -> None:
        def settled() -> bool:
            self.looks += 1
            return self.broken or keeper.settled

        claimer.settled = settled

    async def three_looks(self) -> None:
        await until_true(lambda: self.looks >= 3)


async def two_runs_and_one_gpu(bus: Bus, folder: Path, adopting: Callable[[], Adopting]) -> TrainingRunState:
    """The second run, after a trainer that has the first one in hand was started anew, and looked for more."""
    gate, running = folder / "gate", folder / "pid"
    script = f"open({str(running)!r}, 'w').write('1')\n" + WAITS.format(gate=str(gate))
    await ask(bus, on_gpu("1", script))
    async with life(bus, folder, gpus=(CARD,)):
        await until(bus, "run-1", lambda run: run.phase is TrainingPhase.RUNNING)
    await until_file(running)
    await ask(bus, on_gpu("2", ""))
    held = adopting()
    async with life(bus, folder, gpus=(CARD,), wired=held.watch) as keeper:
        if not held.broken:
            await held.three_looks()
            held.goes_on.set()
            first = await until(bus, "run-1", lambda _: True)
            assert first.phase is TrainingPhase.RUNNING
            await until_true(lambda: "run-1" in keeper.owned and keeper.owned["run-1"].gpus is not None)
            assert keeper.owned["run-1"].gpus == (0,)
        second = await until(bus, "run-2", lambda run: not held.broken or run.claim > 0)
        held.goes_on.set()
        gate.touch()
        await until(bus, "run-1", lambda run: run.phase in TRAINING_ENDED)
        await until(bus, "run-2", lambda run: run.phase in TRAINING_ENDED)
    return second


async def test_a_gpu_is_not_given_to_a_second_run_while_a_trainer_that_was_restarted_takes_up_the_first(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = await two_runs_and_one_gpu(bus, tmp_path, lambda: Adopting(monkeypatch))
    assert (second.phase, second.claim) == (TrainingPhase.QUEUED, 0)


@pytest.mark.soak
async def test_without_the_wait_two_runs_have_one_gpu(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = await two_runs_and_one_gpu(bus, tmp_path, lambda: Adopting(monkeypatch, broken=True))
    assert second.claim == 1


async def claimed_while_the_answer_was_away(
    bus: Bus, folder: Path, monkeypatch: pytest.MonkeyPatch, wired: Callable[[Keeper, Claimer], None]
) -> list[str]:
    """What a trainer logs whose watch tells it of its claim before the answer to the claim has come."""
    save: Callable[..., Awaitable[Kept]] = RunStore.save
    looks: list[int] = []
    look = Keeper._look

    async def looked(keeper: Keeper) -> None:
        await look(keeper)
        looks.append(1)

    async def late(store: RunStore, before: Kept | None, run: TrainingRunState, *more: Any) -> Kept:
        kept = await save(store, before, run, *more)
        if before is not None and before.run.phase is TrainingPhase.QUEUED and run.phase is TrainingPhase.CLAIMED:
            seen = len(looks)
            await until_true(lambda: len(looks) >= seen + 3)
        return kept

    monkeypatch.setattr(RunStore, "save", late)
    monkeypatch.setattr(Keeper, "_look", looked)
    await ask(bus, a_run("1", ""))
    with capture_logs() as logs:
        async with life(bus, folder, wired=wired):
            run = await until(bus, "run-1", lambda run: run.phase in TRAINING_ENDED)
    assert (run.phase, run.claim) == (TrainingPhase.SUCCEEDED, 1)
    return [entry["event"] for entry in logs]


async def test_a_run_that_is_just_being_claimed_is_not_taken_up_as_one_of_an_earlier_life(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = await claimed_while_the_answer_was_away(bus, tmp_path, monkeypatch, lambda _keeper, _claimer: None)
    assert "run.claimed" in logged
    assert "run.adopted" not in logged


@pytest.mark.soak
async def test_without_knowing_of_the_claim_a_run_is_taken_in_hand_twice(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwired(keeper: Keeper, _claimer: Claimer) -> None:
        keeper.claiming = lambda _run: False

    assert "run.adopted" in await claimed_while_the_answer_was_away(bus, tmp_path, monkeypatch, unwired)
