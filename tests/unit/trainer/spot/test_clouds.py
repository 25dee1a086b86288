"""Notices of AWS and GCP, read from services that speak their documented interfaces."""

from datetime import UTC, datetime, timedelta

import pytest

from fleetcast.config.trainer import TrainerSettings
from fleetcast.daemons.trainer.spot.asking import NoAnswer
from fleetcast.daemons.trainer.spot.aws import NOTICE, REBALANCE, Aws
from fleetcast.daemons.trainer.spot.clouds import adapter_of
from fleetcast.daemons.trainer.spot.gcp import Gcp
from fleetcast.daemons.trainer.spot.testing import aws_metadata, gcp_metadata

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("no_task_left")]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def test_instance_that_stays_has_no_notice() -> None:
    async with aws_metadata() as cloud:
        cloud.values["autoscaling/target-lifecycle-state"] = "InService"
        assert await Aws(cloud.url).look() == []
    async with gcp_metadata() as cloud:
        assert await Gcp(cloud.url).look() == []


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
async def test_aws_interruption_is_a_notice_with_its_time(action: str) -> None:
    async with aws_metadata() as cloud:
        cloud.interrupt(action, NOW + timedelta(minutes=2))
        (notice,) = await Aws(cloud.url).look()
    assert (notice.source, notice.deadline, notice.certain) == ("aws.spot", NOW + timedelta(minutes=2), True)
    assert action in notice.detail


async def test_aws_rebalance_is_no_certain_end_and_may_come_with_the_interruption() -> None:
    async with aws_metadata() as cloud:
        cloud.rebalance(NOW)
        (only,) = await Aws(cloud.url).look()
        cloud.interrupt("terminate", NOW + timedelta(minutes=2))
        both = await Aws(cloud.url).look()
    assert (only.source, only.deadline, only.certain) == ("aws.rebalance", NOW + REBALANCE, False)
    assert [notice.source for notice in both] == ["aws.spot", "aws.rebalance"]


async def test_aws_maintenance_counts_while_it_is_active_and_ends_the_instance() -> None:
    async with aws_metadata() as cloud:
        cloud.maintain("instance-retirement", NOW + timedelta(days=3))
        (notice,) = await Aws(cloud.url).look()
        assert (notice.source, notice.deadline) == ("aws.maintenance", NOW + timedelta(days=3))
        cloud.maintain("instance-retirement", NOW, state="completed")
        assert await Aws(cloud.url).look() == []
        cloud.maintain("system-maintenance", NOW)
        assert await Aws(cloud.url).look() == []


async def test_aws_group_that_ends_an_instance_gives_two_minutes() -> None:
    async with aws_metadata() as cloud:
        cloud.values["autoscaling/target-lifecycle-state"] = "Terminated"
        (notice,) = await Aws(cloud.url, now=lambda: NOW).look()
    assert (notice.source, notice.deadline) == ("aws.autoscaling", NOW + NOTICE)


async def test_aws_token_is_asked_for_once_and_again_when_it_is_refused() -> None:
    async with aws_metadata() as cloud:
        aws = Aws(cloud.url)
        await aws.look()
        await aws.look()
        assert cloud.asked.count("/latest/api/token") == 1
        cloud.forget_tokens()
        cloud.interrupt("terminate", NOW)
        assert len(await aws.look()) == 1
        assert cloud.asked.count("/latest/api/token") == 2


async def test_gcp_preemption_gives_thirty_seconds_unless_the_machine_has_more() -> None:
    async with gcp_metadata() as cloud:
        cloud.preempt()
        (short,) = await Gcp(cloud.url, now=lambda: NOW).look()
        (long,) = await Gcp(cloud.url, notice_seconds=120, now=lambda: NOW).look()
    assert (short.source, short.deadline) == ("gcp.preempted", NOW + timedelta(seconds=30))
    assert long.deadline == NOW + timedelta(seconds=120)
    assert short.key == long.key, "every look would be another notice"


async def test_gcp_maintenance_that_ends_the_machine_is_one_and_that_moves_it_is_none() -> None:
    async with gcp_metadata() as cloud:
        cloud.values["maintenance-event"] = "TERMINATE_ON_HOST_MAINTENANCE"
        (notice,) = await Gcp(cloud.url).look()
        assert notice.source == "gcp.maintenance"
        cloud.values["maintenance-event"] = "MIGRATE_ON_HOST_MAINTENANCE"
        assert await Gcp(cloud.url).look() == []


async def test_somebody_else_under_the_name_of_the_service_is_not_believed() -> None:
    async with aws_metadata() as cloud:
        with pytest.raises(NoAnswer):
            await Gcp(cloud.url).look()


@pytest.mark.parametrize("fault", ["broken", "silent", "gone"])
async def test_service_that_is_not_there_says_so_within_its_time(fault: str) -> None:
    async with aws_metadata() as cloud:
        aws = Aws(cloud.url, timeout_seconds=0.2)
        cloud.broken, cloud.silent = fault == "broken", fault == "silent"
        if fault != "gone":
            with pytest.raises(NoAnswer):
                await aws.look()
    if fault == "gone":
        with pytest.raises(NoAnswer):
            await aws.look()


async def test_garbage_where_a_notice_is_expected_is_none() -> None:
    async with aws_metadata() as cloud:
        cloud.values["spot/instance-action"] = "<html>"
        cloud.values["events/maintenance/scheduled"] = '{"State": "active"}'
        cloud.values["events/recommendations/rebalance"] = '{"noticeTime": 7}'
        assert await Aws(cloud.url).look() == []


async def test_settings_choose_the_cloud_and_where_it_answers() -> None:
    async with gcp_metadata() as cloud:
        cloud.preempt()
        settings = TrainerSettings(reclaim_notices="gcp", metadata_address=cloud.url, gcp_notice_seconds=90)
        adapter = adapter_of(settings, lambda: NOW)
        assert adapter is not None
        (notice,) = await adapter.look()
    assert notice.deadline == NOW + timedelta(seconds=90)
    assert adapter_of(TrainerSettings(), lambda: NOW) is None
