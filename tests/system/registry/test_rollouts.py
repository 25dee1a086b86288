"""Two registry daemons drive the same rollouts; clocks jump under one."""

import os
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.system.registry.checker import problems, read_streams
from tests.system.registry.daemons import registries
from tests.system.registry.storm import Told, ask, version
from tests.system.registry.waiting import until

from fleetcast.bus import Bus, connect
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.daemons import testing
from fleetcast.events.lifecycle import Phase, RolloutState, rollout_subject
from fleetcast.events.payloads import Checks
from fleetcast.events.state import InstalledVersion, ModelStatus, NodeStatus
from fleetcast.registry import Registry
from fleetcast.registry.commands import AnyCommand, Promote, Reserve, Resume
from fleetcast.registry.fleet import FleetView
from fleetcast.registry.ledger import Ledger
from fleetcast.registry.transitions.view import Readiness

SHIFTED = str(Path(__file__).parents[1] / "faults" / "shifted")
MODELS = tuple(f"m{n}" for n in range(1, 9))


async def beat(bus: Bus, node: str, held: tuple[str, ...] = (), number: int = 1) -> None:
    """Let a node beat that wants everything, and holds one version of the models in *held*."""
    await bus.kv_put("fc_nodes", f"{node}.distributor", heartbeat(node, held, number).model_dump_json().encode())


def heartbeat(node: str, held: tuple[str, ...] = (), number: int = 1) -> NodeStatus:
    at = datetime.now(UTC).isoformat()
    models = tuple(
        ModelStatus(
            model=model,
            path="/x",
            installed=(
                InstalledVersion(
                    version=str(number),
                    artifact=version(model, number).artifact,
                    bytes=1,
                    checks=Checks(size="ok", sha256="ok", format="ok"),
                    transport="none",
                    seconds=0.0,
                    installed_at=at,
                ),
            ),
        )
        for model in held
    )
    return testing.heartbeat(
        node,
        at=at,
        models=models,
    )


async def rollout(bus: Bus, model: str) -> RolloutState:
    found = (await Ledger(bus).find(rollout_subject(model), RolloutState)).value
    assert found is not None
    return found


async def phase_of(bus: Bus, model: str) -> Phase:
    return (await rollout(bus, model)).phase


async def asked(bus: Bus, told: Told, *commands: AnyCommand) -> None:
    for command in commands:
        await ask(bus, command, told)
    assert all(a.accepted for a in told.answers.values()), told.answers


@pytest.mark.asyncio
async def test_two_daemons_take_every_step_of_a_rollout_once(tmp_path: Path) -> None:
    told = Told()
    async with nats_server(tmp_path / "nats") as server:
        settings = fast_settings(server.url)
        async with (
            registries(tmp_path, settings, "reg-1", "reg-2"),
            connect(settings, node="t", daemon="test") as bus,
        ):
            for node in ("gpu-1", "gpu-2"):
                await beat(bus, node)
            for model in MODELS:
                await asked(bus, told, Reserve(state=version(model, 1)), Promote(model=model, version="1"))
            assert {await phase_of(bus, m) for m in MODELS} == {Phase.DISTRIBUTING}

            await beat(bus, "gpu-1", MODELS)

            await until("all are served", lambda: _all_promoted(bus))
            histories = [await Registry(bus).history(m) for m in MODELS]
            steps = Counter((r.model, r.action) for history in histories for r in history)
            assert problems(await read_streams(bus), told) == []
    expected = ("version.reserved", "rollout.started", "rollout.verified", "slot.ordered")
    assert steps == {(model, action): 1 for model in MODELS for action in expected}


async def _all_promoted(bus: Bus) -> bool:
    return {await phase_of(bus, m) for m in MODELS} == {Phase.PROMOTED}


@pytest.mark.asyncio
@pytest.mark.parametrize("hours", [48, -48])
async def test_a_clock_that_jumps_serves_nothing_that_nodes_do_not_hold(tmp_path: Path, hours: int) -> None:
    told = Told()
    path = os.pathsep.join(filter(None, (SHIFTED, os.environ.get("PYTHONPATH"))))
    clock = {"PYTHONPATH": path, "FAULT_CLOCK_HOURS": str(hours)}
    async with nats_server(tmp_path / "nats") as server:
        settings = fast_settings(server.url)
        async with (
            registries(tmp_path, settings, "reg-1", environment=clock) as [daemon],
            connect(settings, node="t", daemon="test") as bus,
        ):
            await beat(bus, "gpu-1")
            await asked(bus, told, Reserve(state=version("m1", 1)), Promote(model="m1", version="1"))
            await until("the node is known", lambda: _is(bus, Phase.DISTRIBUTING))

            daemon.send(signal.SIGUSR2)
            await asked(bus, told, Reserve(state=version("m1", 2)))
            # Ahead of time, the deadline of the rollout has passed: it halts, and can be resumed.
            if hours > 0:
                await until("it halts", lambda: _is(bus, Phase.HALTED))
                await asked(bus, told, Resume(model="m1"))
            assert await phase_of(bus, "m1") is Phase.DISTRIBUTING
            assert await Registry(bus).slot("m1") is None
            await beat(bus, "gpu-1", ("m1",))

            await until("it is served", lambda: _is(bus, Phase.PROMOTED))
            assert not daemon.ended
            assert problems(await read_streams(bus), told) == []
            records = await Registry(bus).history("m1")
    assert [r.n for r in records] == list(range(1, len(records) + 1))
    moments = [datetime.fromisoformat(r.at) for r in records]
    assert (moments == sorted(moments)) == (hours > 0)
    assert abs((moments[-1] - moments[0]).total_seconds()) > 40 * 3600, "the clock did not jump"


def test_by_the_clock_on_the_wall_the_fleet_would_look_empty_and_no_quorum_be_asked() -> None:
    """The broken variant: ages of heartbeats are counted by a clock that jumps."""
    later = datetime.now(UTC) + timedelta(hours=48)
    fleet_then = FleetView.at(later, [heartbeat("gpu-1")], silent_after_seconds=15)

    wanting = fleet_then.wanting("m1")

    assert wanting == ()
    assert Readiness(0, len(wanting)).reaches(1.0)


async def _is(bus: Bus, phase: Phase) -> bool:
    return await phase_of(bus, "m1") is phase
