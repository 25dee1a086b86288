"""Every daemon, scraped over HTTP: what it shows is what the catalogue says, and true."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.metrics.rig import World, read, running

from fleetcast.bus import connect, declare
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.config.metrics import MetricsSettings
from fleetcast.daemons.metrics.catalogue import DAEMONS, shown_by
from fleetcast.daemons.metrics.listening import listen, note_path, port_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

each_daemon = pytest.mark.parametrize("daemon", DAEMONS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("metrics")
    async with (
        nats_server(folder / "nats") as server,
        connect(fast_settings(server.url), node="tests", daemon="tests") as bus,
    ):
        await declare(bus, 1)
        async with running(bus, folder, server.url) as made:
            yield made


def linted(text: str) -> str:
    """What promtool has to say."""
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@each_daemon
async def test_a_daemon_shows_what_the_catalogue_says_and_nothing_else(world: World, daemon: str) -> None:
    scraped = await world.scrape(daemon)

    assert scraped.families == {metric.family for metric in shown_by(daemon)}
    assert scraped.value("fleetcast_daemon_ready") == 1
    assert scraped.value("fleetcast_bus_ready") == 1


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing (apt-get install prometheus)")
async def test_promtool_finds_nothing_wrong_with_what_daemons_show(world: World) -> None:
    for daemon in DAEMONS:
        assert await asyncio.to_thread(linted, (await world.scrape(daemon)).text) == "", daemon
    assert "_total" in await asyncio.to_thread(linted, "# HELP fc_x x\n# TYPE fc_x counter\nfc_x 1\n")


async def test_a_promotion_is_seen_in_every_number_that_it_changes(world: World) -> None:
    dead = (await world.scrape("registry")).value("fleetcast_dlq_messages") or 0
    await world.promote("hex8", "1")
    registry = await world.until("registry", "fleetcast_slot_serving", 1, model="hex8")
    node = await world.until("distributor", "fleetcast_serving_generation", 1, model="hex8")

    assert registry.value("fleetcast_slot_wanted", model="hex8") == 1
    assert registry.value("fleetcast_model_info", model="hex8", version="1", slot="production") == 1
    assert registry.value("fleetcast_decisions_total", action="promote", outcome="done") == 1
    assert registry.value("fleetcast_node_up", node="node-1") == 1
    assert registry.value("fleetcast_dlq_messages") == dead
    assert node.value("fleetcast_serving_info", model="hex8", version="1", slot="production") == 1
    assert node.value("fleetcast_installed_bytes") == 5000
    assert (node.value("fleetcast_events_total", type="model.promoted", outcome="done") or 0) >= 1

    await world.promote("hex8", "2")
    registry = await world.until("registry", "fleetcast_slot_generation", 2, model="hex8")
    assert registry.value("fleetcast_model_info", model="hex8", version="1", slot="previous") == 1
    assert registry.value("fleetcast_model_info", model="hex8", version="1", slot="production") is None
    monitor = await world.until("monitor", "fleetcast_models_unknown", 1)
    assert monitor.value("fleetcast_models_production") == 1


async def test_a_message_that_nobody_understands_is_counted_as_dead_and_under_no_name_of_its_own(
    world: World,
) -> None:
    heard = (await world.scrape("distributor")).value("fleetcast_events_total", type="other", outcome="dead") or 0
    kept = (await world.scrape("registry")).value("fleetcast_dlq_messages") or 0
    await world.bus.publish_raw("fc.ev.model.promted.secret_name", b"not an event")
    node = await world.until("distributor", "fleetcast_events_total", heard + 1, type="other", outcome="dead")
    registry = await world.until("registry", "fleetcast_dlq_messages", kept + 1)

    assert "secret_name" not in node.text + registry.text


async def test_a_daemon_says_where_its_metrics_are_in_a_file_that_prometheus_reads_and_in_its_heartbeat(
    world: World,
) -> None:
    for name, url in world.urls.items():
        note = json.loads(note_path(world.folder / "data", name).read_text())
        assert note == [{"targets": [url[7:-8]], "labels": {"instance": f"node-1/{name}"}}]
        async with asyncio.timeout(30):
            while True:
                beat = await world.bus.kv_get("fc_nodes", f"node-1.{name}")
                if beat is not None and json.loads(beat.data)["metrics"] == url:
                    break
                await asyncio.sleep(0.05)


async def test_a_monitoring_system_is_told_in_one_line_and_by_the_exit_code(world: World) -> None:
    await world.bus.publish_raw("fc.ev.model.promted.other", b"not an event")
    async with asyncio.timeout(30):
        while not (await world.scrape("registry")).value("fleetcast_dlq_messages"):  # noqa: ASYNC110 - on a server
            await asyncio.sleep(0.1)
    fleet, node, away, where = await asyncio.gather(
        world.command("check", "--format", "nagios"),
        world.command("check", "--format", "json", "--node", "node-1"),
        world.command("check", "--format", "nagios", "--server", "nats://127.0.0.1:1"),
        world.command("metrics", "--file-sd"),
    )

    assert fleet[0] == 1
    assert fleet[1].startswith("FLEETCAST WARNING - ")
    assert "dead letter" in fleet[1]
    assert fleet[1].count("\n") == 1
    assert node[0] == 0
    assert "dead_letters" not in {check["check"] for check in json.loads(node[1])["checks"]}
    assert away[0] == 2
    assert away[1].startswith("FLEETCAST CRITICAL - no NATS at nats://127.0.0.1:1")
    found = {entry["labels"]["instance"]: entry["targets"] for entry in json.loads(where[1])}
    assert found == {f"node-1/{name}": [url[7:-8]] for name, url in world.urls.items()}


async def test_nothing_secret_is_shown(world: World) -> None:
    capability = (world.folder / "data" / ".capability").read_text().strip()
    assert len(capability) == 32
    for daemon in DAEMONS:
        assert capability not in (await world.scrape(daemon)).text


async def test_a_scrape_while_the_bus_is_away_says_so_and_shows_no_streams(tmp_path: Path) -> None:
    async with (
        nats_server(tmp_path / "nats") as server,
        connect(fast_settings(server.url), node="tests", daemon="tests") as bus,
    ):
        await declare(bus, 1)
        async with running(bus, tmp_path, server.url, "registry") as alone:
            await alone.until("registry", "fleetcast_stream_led", 1, stream="FC_EVENTS")
            await asyncio.to_thread(server.kill)
            away = await alone.until("registry", "fleetcast_bus_ready", 0)

            assert away.value("fleetcast_stream_led", stream="FC_EVENTS") is None
            assert (away.value("fleetcast_bus_interruptions_total") or 0) >= 1
            await asyncio.to_thread(server.start)
            await alone.until("registry", "fleetcast_bus_ready", 1)


async def test_a_port_that_is_taken_is_replaced_by_a_free_one() -> None:
    with listen("registry", MetricsSettings(port=0)) as free:
        taken = free.getsockname()[1]
        settings = MetricsSettings(port=taken - 1)
        assert port_of("registry", settings) == taken
        with listen("registry", settings) as other:
            assert other.getsockname()[1] != taken


async def test_the_reading_of_a_scrape_would_notice_a_metric_that_is_not_in_the_catalogue() -> None:
    shown = read("# TYPE fleetcast_secret gauge\nfleetcast_secret 1\n")
    assert shown.families - {metric.family for metric in shown_by("registry")} == {"fleetcast_secret"}
