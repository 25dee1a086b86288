"""The file of the read model is lost or damaged under the daemon, running and stopped: its answers come right again."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.system.registry.daemons import registries, start_again
from tests.system.registry.storm import Told, ask, reserve
from tests.system.registry.waiting import until

from fleetcast.bus import Bus, connect
from fleetcast.bus.errors import BusError
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.registry.commands import Promote
from fleetcast.registry.errors import RegistryError
from fleetcast.registry.querying import query

pytestmark = pytest.mark.asyncio


def deleted(file: Path) -> None:
    for each in file.parent.glob(f"{file.name}*"):
        each.unlink()


def truncated(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


def corrupted(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[100 : len(data) : 3] = b"\xff" * len(data[100 : len(data) : 3])
    with file.open("r+b") as opened:
        opened.write(data)


async def answer(bus: Bus, sequence: int) -> dict[str, Any] | None:
    """What is said of all versions as of a sequence; None: nothing yet."""
    try:
        return (await query(bus, "versions", {"order": "registered", "count": True}, min_seq=sequence)).result
    except (RegistryError, BusError):
        return None


@pytest.mark.parametrize(
    ("harm", "running"),
    [
        pytest.param(deleted, True, id="deleted-running"),
        pytest.param(corrupted, False, id="corrupted-stopped"),
        pytest.param(truncated, True, id="truncated-running", marks=pytest.mark.soak),
        pytest.param(truncated, False, id="truncated-stopped", marks=pytest.mark.soak),
        pytest.param(deleted, False, id="deleted-stopped", marks=pytest.mark.soak),
        pytest.param(corrupted, True, id="corrupted-running", marks=pytest.mark.soak),
    ],
)
async def test_the_answers_of_a_daemon_come_right_again(
    tmp_path: Path, harm: Callable[[Path], None], running: bool
) -> None:
    told = Told()
    async with nats_server(tmp_path / "nats") as server:
        settings = fast_settings(server.url)
        async with (
            registries(tmp_path, settings, "reg-1") as [daemon],
            connect(settings, node="t", daemon="test") as bus,
        ):
            file = daemon.data / "registry" / "read-model.sqlite"
            await reserve(bus, told)
            await ask(bus, Promote(model="m1", version="3"), told)
            last = max(a.sequence for a in told.answers.values())
            before: list[dict[str, Any] | None] = []

            async def answers() -> bool:
                before.append(await answer(bus, last))
                return before[-1] is not None

            await until("there is an answer", answers)
            if running:
                await asyncio.to_thread(harm, file)
            else:
                await asyncio.to_thread(daemon.stop)
                await asyncio.to_thread(harm, file)
                await start_again(daemon)
            await ask(bus, Promote(model="m1", version="4"), told)
            newest = max(a.sequence for a in told.answers.values())

            async def right() -> bool:
                now = await answer(bus, newest)
                return now is not None and _stages(now) == {
                    **_stages(before[-1]),
                    ("m1", "3"): "staging",
                    ("m1", "4"): "production",
                }

            await until("the answers are right", right)
            assert not daemon.ended


def _stages(result: dict[str, Any] | None) -> dict[tuple[str, str], str]:
    assert result is not None
    return {(v["model"], v["version"]): v["stage"] for v in result["versions"]}
