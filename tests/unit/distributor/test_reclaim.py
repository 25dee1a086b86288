"""Notices that the node's machine is taken away, several at a time."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from fleetcast.daemons.distributor.reclaim import NEAR, STILL_HERE, Notices

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SOON = NOW + timedelta(minutes=2)
WAIT_SECONDS = 30


class Heard:
    """Notices, and how often one of them came near."""

    def __init__(self) -> None:
        self.times = 0
        self.again = asyncio.Event()
        self.notices = Notices(self._near)

    def _near(self) -> None:
        self.times += 1
        self.again.set()


@pytest.fixture
def heard() -> Iterator[Heard]:
    made = Heard()
    yield made
    made.notices.close()


@pytest.mark.asyncio
async def test_maintenance_of_next_week_does_not_cancel_the_end_in_two_minutes(heard: Heard) -> None:
    heard.notices.add(SOON, "aws.spot", NOW)
    heard.notices.add(NOW + timedelta(days=7), "aws.maintenance", NOW)

    assert heard.notices.is_near(NOW)
    assert heard.times == 1


@pytest.mark.asyncio
async def test_what_was_announced_for_later_is_heard_of_when_its_time_is_near(heard: Heard) -> None:
    deadline = NOW + NEAR + timedelta(milliseconds=20)
    heard.notices.add(deadline, "aws.maintenance", NOW)
    assert (heard.times, heard.notices.is_near(NOW)) == (0, False)

    await asyncio.wait_for(heard.again.wait(), WAIT_SECONDS)

    assert heard.times == 1
    assert heard.notices.is_near(deadline - NEAR)


@pytest.mark.asyncio
async def test_a_notice_that_is_read_again_is_heard_of_once_and_one_that_is_over_never(heard: Heard) -> None:
    heard.notices.add(NOW - STILL_HERE, "a person", NOW)
    heard.notices.add(SOON, "aws.spot", NOW)
    heard.notices.add(SOON, "aws.spot", NOW)

    assert heard.times == 1
    assert not heard.notices.is_near(SOON + STILL_HERE)
