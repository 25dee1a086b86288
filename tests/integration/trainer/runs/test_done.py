"""A job that comes to its end just when it is asked to end: repeated only if something of it would be lost otherwise.
Real processes, a real server; its trainer is away meanwhile, and the next life of that finds both."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.trainer.runs.lives import a_run, ask, life, now, server, until

from fleetcast.bus import Bus
from fleetcast.daemons.trainer import finishing
from fleetcast.daemons.trainer.releasing import order, reclaimed, returns
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.payloads import ModelPromoted
from fleetcast.events.training import TRAINING_ENDED, TrainingPhase, TrainingRunState
from fleetcast.registry.fencing import Fence

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENDS = """
import json, os, time
claim = os.environ["FLEETCAST_CLAIM"]
while claim == "1" and not os.path.exists(os.environ["FLEETCAST_STOP_FILE"]):
    time.sleep(0.01)
if {word!r} is not None:
    with open(os.environ["FLEETCAST_DONE_FILE"], "w") as file:
        json.dump({{"claim": int(claim), "effects": {word!r}}}, file)
raise SystemExit({status})
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bus]:
    async with server(tmp_path_factory.mktemp("done")) as (_, made):
        yield made


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finishing, "ACCEPTED_SECONDS", 0.5)


def promoted(number: str, claim: int = 1) -> Event:
    """What the job of a run says before it is done."""
    said = ModelPromoted(
        model=f"model-{number}", version="1", path="/m", node="n1", run_id=f"run-{number}", claim=claim
    )
    return new_event(said, source="/job")


def naming(*events: Event) -> list[dict[str, str]]:
    """Its word about that."""
    return [{"event": each.id, "line": each.key, "version": "1"} for each in events]


async def asked(
    bus: Bus, folder: Path, number: str, word: list[dict[str, str]] | None, *, words: str = "\n", status: int = 0
) -> None:
    """A run that is asked to end, and ends with its last word, while its trainer is away."""
    await ask(bus, a_run(number, ENDS.format(word=word, status=status)))
    async with life(bus, folder):
        await until(bus, f"run-{number}", lambda run: run.phase is TrainingPhase.RUNNING)
    (folder / "n1" / "runs" / f"run-{number}" / "stop").write_text(words)


def going() -> str:
    """What the stop file says when the machine is taken away."""
    soon = now() + timedelta(seconds=1)
    return order(reclaimed(a_run("x", ""), "n1", "", deadline=soon, by=soon))


async def ended(bus: Bus, folder: Path, number: str, *, held: bool = False) -> TrainingRunState:
    """What the next life makes of it, once the run has ended or waits."""
    async with life(bus, folder, is_held=lambda *_: held):
        return await until(
            bus, f"run-{number}", lambda run: run.phase in TRAINING_ENDED or run.attempts[0].ended_at is not None
        )


async def test_a_job_that_is_done_and_of_which_all_is_accepted_is_not_repeated(bus: Bus, tmp_path: Path) -> None:
    event = promoted("whole")
    await asked(bus, tmp_path, "whole", naming(event), words=order(returns("a GPU is well")))
    assert await Fence(bus).commit(event) is None
    run = await ended(bus, tmp_path, "whole")
    assert (run.phase, [each.outcome for each in run.attempts]) == (TrainingPhase.SUCCEEDED, ["succeeded"])
    assert "it was done, though asked to end" in run.phase_detail


@pytest.mark.parametrize(("name", "status"), [("silent", 0), ("failing", 3)])
async def test_without_its_word_or_with_another_status_it_is_repeated(
    bus: Bus, tmp_path: Path, name: str, status: int
) -> None:
    await asked(bus, tmp_path, name, None if name == "silent" else [], status=status)
    run = await ended(bus, tmp_path, name)
    assert run.attempts[0].outcome == "returns"


async def test_what_was_not_accepted_is_refused_from_then_on_and_had_once_by_the_next_claim(
    bus: Bus, tmp_path: Path
) -> None:
    first, second = promoted("late"), promoted("late", claim=2)
    await asked(bus, tmp_path, "late", naming(first))
    async with life(bus, tmp_path):
        run = await until(bus, "run-late", lambda run: run.phase in TRAINING_ENDED)
    assert [each.outcome for each in run.attempts] == ["returns", "succeeded"]
    stale = await Fence(bus).commit(first)
    assert stale is not None
    assert "claim 1 of run run-late is over" in stale.reason
    assert await Fence(bus).commit(second) is None


@pytest.mark.soak
async def test_a_trainer_that_believes_the_word_alone_loses_what_was_not_accepted(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing.Done, "is_accepted", lambda *_: True)
    await asked(bus, tmp_path, "lost", naming(promoted("lost")), words=going())
    run = await ended(bus, tmp_path, "lost", held=True)
    # Nobody repeats it, and the spool that holds its only word goes with the machine.
    assert (run.phase, run.commits) == (TrainingPhase.SUCCEEDED, ())


@pytest.mark.parametrize("held", [True, False])
async def test_of_a_machine_that_is_taken_away_another_node_has_to_hold_what_was_made(
    bus: Bus, tmp_path: Path, held: bool
) -> None:
    number = "kept" if held else "alone"
    event = promoted(number)
    await asked(bus, tmp_path, number, naming(event), words=going())
    assert await Fence(bus).commit(event) is None
    run = await ended(bus, tmp_path, number, held=held)
    assert run.attempts[0].outcome == ("succeeded" if held else "reclaimed")
    assert run.phase is (TrainingPhase.SUCCEEDED if held else TrainingPhase.QUEUED)
