"""A run of a playbook, as a collector sees it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.remedy.playbook_rig import life, rig
from tests.integration.tracing.collector import Collector, collecting

from fleetcast.bus import tracing
from fleetcast.config.settings import TracingSettings


@pytest.fixture
def collected() -> Iterator[Collector]:
    """What this process has sent, once the loop that it ran has ended."""
    with collecting() as collector:
        yield collector


def test_a_rollback_is_one_trace_from_its_request_to_the_decision_of_the_registry(
    tmp_path: Path, collected: Collector
) -> None:
    async def rollback() -> str:
        async with rig(tmp_path) as made, life(made) as alive:
            await made.serve("m", "1", "2")
            await made.say("fc.ev.model.rollback_requested.m", b'{"reasons": ["bad answers"]}')
            (run,) = await alive.ended("m")
            return run.phase.value

    with tracing.exporting(TracingSettings(endpoint=collected.url), daemon="tests", node="n"):
        assert asyncio.run(rollback()) == "succeeded"

    ran = collected.find("playbook model_rollback", model="m")
    assert ran is not None
    assert ran.failed is None
    assert ran.attributes["fleetcast.phase"] == "succeeded"
    assert collected.way_up(ran) == ["playbook model_rollback", "handle model.rollback.requested"]
    decided = [each for each in collected.spans if each.name == "decide rollback"]
    assert [each.trace for each in decided] == [ran.trace]
