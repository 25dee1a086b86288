"""A service that is just being restarted is waited for; one that says no is not asked twice."""

import asyncio

import pytest

from fleetcast.bus import Bus, Service, ServiceError, patience
from fleetcast.bus.errors import NoResponder, ServiceFailed

pytestmark = pytest.mark.asyncio
SUBJECT = "fc.svc.test.patience"


def service(answers: list[bytes | ServiceError]) -> Service:
    """Gives its answers one after the other, the last one for ever."""

    async def answer(_body: bytes) -> bytes:
        said = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(said, ServiceError):
            raise said
        return said

    return Service(name="test", version="0.1.0", description="t", endpoints={"ask": (SUBJECT, answer)})


async def test_a_service_that_comes_late_is_waited_for(bus: Bus) -> None:
    asking = asyncio.create_task(patience.ask(bus, SUBJECT, b"?", deadline_seconds=60))
    with pytest.raises(NoResponder):
        await bus.request(SUBJECT, b"?", 1.0)
    running = await bus.serve(service([b"yes"]))
    assert await asking == b"yes"
    await running.stop()


async def test_a_service_that_cannot_answer_now_is_asked_again(bus: Bus) -> None:
    running = await bus.serve(service([ServiceError(503, "starting"), ServiceError(503, "starting"), b"yes"]))
    assert await patience.ask(bus, SUBJECT, b"?", deadline_seconds=60) == b"yes"
    await running.stop()


async def test_a_refusal_is_final(bus: Bus) -> None:
    running = await bus.serve(service([ServiceError(400, "no"), b"yes"]))
    with pytest.raises(ServiceFailed, match="no"):
        await patience.ask(bus, SUBJECT, b"?", deadline_seconds=60)
    await running.stop()


async def test_nobody_is_waited_for_where_waiting_is_no_use(bus: Bus) -> None:
    async with asyncio.timeout(30):
        with pytest.raises(NoResponder):
            await patience.ask(bus, SUBJECT, b"?", deadline_seconds=3600, wait_for_somebody=False)


async def test_at_the_deadline_the_last_problem_is_told(bus: Bus) -> None:
    with pytest.raises(NoResponder):
        await patience.ask(bus, SUBJECT, b"?", deadline_seconds=0.2)
