"""`fleetcast node quarantine` and `release`, against a trainer's answers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.integration.cli.stand import Cli, Stand, commands_that_end, live_in, standing

from fleetcast.bus import Service
from fleetcast.cli.connection import quiet_logs
from fleetcast.daemons.trainer.faults.answering import QuarantineService
from fleetcast.daemons.trainer.faults.book import QuarantineBook
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.events.quarantine import QUARANTINE_SUBJECT


@asynccontextmanager
async def _answers(stand: Stand) -> AsyncIterator[None]:
    book = QuarantineBook(TrainingLedger(stand.bus), now=lambda: datetime.now(UTC))
    answer = QuarantineService(book).answer
    endpoints = {"quarantine": (QUARANTINE_SUBJECT, answer)}
    service = await stand.bus.serve(
        Service(name="fleetcast-trainer", version="0.1.0", description="a test", endpoints=endpoints)
    )
    following = asyncio.create_task(book.watch())
    yield
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await service.stop()


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with standing(tmp_path_factory.mktemp("stand")) as made:
        answers = _answers(made)
        made.do(answers.__aenter__())
        made.do(made.bus.kv_put("fc_nodes", "gpu-1.trainer", b"{}"))
        yield made
        made.do(answers.__aexit__(None, None, None))


@pytest.fixture
def cli(stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    live_in(tmp_path, stand.url, monkeypatch)
    quiet_logs()
    return commands_that_end(capsys, "node")


def test_dry_run_says_what_would_be_done_and_does_nothing(cli: Cli) -> None:
    for_two = ("quarantine", "gpu-1", "--for", "2h", "--reason", "rack is moved")
    assert "dry run: gpu-1 would get no training runs until" in cli(*for_two, "--dry-run").out
    assert "nothing is known against gpu-1" in cli("release", "gpu-1", "--reason", "moved", code=3).err

    until = cli(*for_two, "--json").document["until"]
    longer = cli("quarantine", "gpu-1", "--for", "3d", "--reason", "longer", "--dry-run", "--json").document
    assert (longer["before"], longer["dry_run"], longer["until"] > until) == (until, True, True)
    assert f"without this from {until}" in cli("release", "gpu-1", "--reason", "moved", "--dry-run").out
    assert "gpu-1 gets training runs again" in cli("release", "gpu-1", "--reason", "moved").out
    assert "is not in quarantine" in cli("release", "gpu-1", "--reason", "moved").out


def test_a_mistyped_node_is_not_kept_from_anything(cli: Cli) -> None:
    said = cli("quarantine", "gpu-11", "--reason", "rack is moved", code=3).err
    assert "no node gpu-11 was heard from" in said
    assert "did you mean gpu-1?" in said
    assert "a reason must be said" in cli("quarantine", "gpu-1", code=2).err
