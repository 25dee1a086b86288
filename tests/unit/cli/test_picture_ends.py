"""A picture of the fleet that nobody keeps up to date any more is not shown as if it were."""

import asyncio

import pytest

from fleetcast.registry.picture.live import Fleet, PictureEnded

pytestmark = pytest.mark.asyncio


async def failing() -> None:
    raise KeyError("a follower's fault")


async def test_whoever_waits_is_told_that_nothing_changes_any_more() -> None:
    fleet = Fleet(heartbeat_seconds=5.0)
    waiting: asyncio.Task[object] = asyncio.create_task(fleet.until(lambda: None, 3600.0))
    await asyncio.sleep(0)
    follower = asyncio.create_task(failing(), name="heartbeats")
    follower.add_done_callback(fleet.follower_ended)
    with pytest.raises(PictureEnded, match="a follower's fault"):
        await waiting
    with pytest.raises(PictureEnded):
        await fleet.change()


async def test_a_follower_that_is_ended_in_order_is_no_fault() -> None:
    fleet = Fleet(heartbeat_seconds=5.0)
    follower = asyncio.create_task(asyncio.Event().wait())
    follower.add_done_callback(fleet.follower_ended)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    follower.cancel()
    await asyncio.gather(follower, return_exceptions=True)
    await fleet.change(within_seconds=0.01)
