"""What the real daemons tell the service manager over a real socket: ready, alive, what they do, stopping."""

import asyncio
import itertools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.runtime.service_manager import WATCHDOG_SECONDS, Manager, Service, Silence, told_by

from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import Proxy
from fleetcast.config.gateway import GatewaySettings
from fleetcast.config.settings import RegistrySettings, Settings
from fleetcast.daemons.testing import node_settings

Start = Callable[..., tuple[Service, Manager]]
BLOCKED = "daemon.ready.after=sleep:600"
STARVED_SECONDS = 3 * WATCHDOG_SECONDS
FED_BY_A_TIMER = """
import sys, threading, time
from fleetcast.daemons.runtime import progress

async def run(self):
    def feed():
        while True:
            self._notifier.watchdog()
            time.sleep(self.interval_seconds)
    threading.Thread(target=feed, daemon=True).start()

progress.Watchdog.run = run
from fleetcast.cli import main
sys.exit(main())
"""
"""A daemon with the mistake that the watchdog is there to avoid."""
READY_AT_ONCE = """
import sys
import fleetcast.daemons.registry.daemon as registry

async def say_ready(daemon, bus, sentence):
    daemon.ready(sentence())

registry.say_ready = say_ready
from fleetcast.cli import main
sys.exit(main())
"""
"""A daemon that takes a connection for a bus that works."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with LocalServer(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture
def start(tmp_path: Path, server: LocalServer) -> Iterator[Start]:
    """Starts a daemon as its unit would."""
    made: list[tuple[Service, Manager]] = []
    numbers = itertools.count(1)

    def begin(
        daemon: str = "registry",
        *,
        url: str = "",
        settings: Callable[[Settings], Settings] = lambda s: s,
        program: str | None = None,
        **environment: str,
    ) -> tuple[Service, Manager]:
        folder = tmp_path / f"{daemon}-{next(numbers)}"
        folder.mkdir()
        manager = Manager(folder / "notify")
        base = node_settings(folder, "node-1", url or server.url)
        quick = base.bus.model_copy(update={"canary_interval_seconds": 0.3, "canary_timeout_seconds": 1.0})
        chosen = settings(base.model_copy(update={"bus": quick, "gateway": GatewaySettings(port=0)}))
        service = Service(daemon, folder, chosen, told_by(manager, **environment))
        service.program = program
        made.append((service, manager))
        service.start()
        return service, manager

    yield begin
    for service, manager in made:
        service.send(signal.SIGCONT)
        service.kill()
        manager.close()


def fed(manager: Manager, seconds: float) -> bool:
    """Whether the watchdog is fed from now on, within so many seconds; what was said before does not count."""
    manager.listen()
    before = len(manager.heard)
    try:
        manager.until("WATCHDOG=1", since=before, seconds=seconds)
    except Silence:
        return False
    return True


@pytest.mark.soak
@pytest.mark.parametrize("daemon", ["distributor", "monitor", "remedy", "notifier", "trainer", "gateway"])
def test_daemon_says_when_it_is_ready_that_it_lives_what_it_does_and_that_it_stops(start: Start, daemon: str) -> None:
    if daemon == "gateway":
        pytest.importorskip("uvicorn")
    service, manager = start(daemon)

    ready = manager.until("READY=1")
    manager.until("WATCHDOG=1", since=ready)
    service.send(signal.SIGTERM)
    stopping = manager.until("STOPPING=1", since=ready)
    assert service.ended() == 0, service.tail()
    manager.listen()

    said = manager.lines()
    assert said[0] == f"STATUS=starting, with NATS at {service.settings.bus.url.removeprefix('nats://')}"
    assert said[ready + 1].startswith("STATUS=")
    assert "READY=1" not in said[ready + 1 :]
    assert said[stopping + 1] == "STATUS=stopping: SIGTERM"
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in said[stopping:])


@pytest.mark.asyncio
async def test_daemon_is_ready_once_a_message_was_stored_and_read_back_and_says_that_it_stops(
    start: Start, server: LocalServer
) -> None:
    async with Proxy(server.port) as proxy:
        # Everything passes but the canary on its way back: connected, streams checked, requests answered.
        proxy.filter = lambda frame: None if b'"subject":"fc.canary.' in frame else frame
        service, manager = start(url=proxy.url)
        waiting = await asyncio.to_thread(manager.until, "STATUS=NATS is away; no rollout under way")
        assert "READY=1" not in manager.lines(), service.tail()

        proxy.filter = lambda frame: frame
        ready = await asyncio.to_thread(manager.until, "READY=1")
        service.send(signal.SIGTERM)
        stopping = await asyncio.to_thread(manager.until, "STOPPING=1")
        assert await asyncio.to_thread(service.ended) == 0, service.tail()

    assert waiting < ready < stopping


@pytest.mark.soak
@pytest.mark.asyncio
async def test_broken_variant_a_daemon_that_is_ready_without_a_round_trip_is_noticed(
    start: Start, server: LocalServer
) -> None:
    async with Proxy(server.port) as proxy:
        proxy.filter = lambda frame: None if b'"subject":"fc.canary.' in frame else frame
        _, manager = start(url=proxy.url, program=READY_AT_ONCE)

        await asyncio.to_thread(manager.until, "READY=1")


@pytest.mark.soak
def test_daemon_that_is_halted_starves_its_watchdog_until_it_goes_on(start: Start) -> None:
    service, manager = start()
    manager.until("READY=1")
    assert fed(manager, 30)

    service.send(signal.SIGSTOP)
    manager.listen(0.2)
    starved = not fed(manager, STARVED_SECONDS)
    service.send(signal.SIGCONT)

    assert starved
    assert fed(manager, 30)


def test_daemon_whose_loop_is_blocked_starves_its_watchdog(start: Start) -> None:
    _, manager = start(FLEETCAST_FAILPOINTS=BLOCKED)
    manager.until("READY=1")

    assert not fed(manager, STARVED_SECONDS)


@pytest.mark.soak
def test_broken_variant_a_watchdog_fed_by_a_timer_hides_a_blocked_loop(start: Start) -> None:
    _, manager = start(FLEETCAST_FAILPOINTS=BLOCKED, program=FED_BY_A_TIMER)
    manager.until("READY=1")

    assert fed(manager, 30)


@pytest.mark.soak
def test_daemon_whose_nats_goes_away_lives_on_and_says_so(start: Start, tmp_path: Path) -> None:
    with LocalServer(tmp_path / "own-nats") as own:
        service, manager = start(url=own.url)
        manager.until("READY=1")
        own.kill()
        away = manager.until("STATUS=NATS is away; ")
        manager.until("WATCHDOG=1", since=away)
        own.start()
        back = manager.until("STATUS=no rollout under way", since=away)
        service.send(signal.SIGTERM)
        assert service.ended() == 0, service.tail()
        manager.listen()

    assert back > away
    assert manager.statuses()[-1] == "stopping: SIGTERM"


def test_settings_that_are_wrong_end_a_daemon_with_the_code_that_forbids_another_start(
    start: Start, tmp_path: Path
) -> None:
    gates = tmp_path / "gates.toml"
    gates.write_text("[default]\ndecides = 7\n")

    service, manager = start(settings=lambda s: s.model_copy(update={"registry": RegistrySettings(gates=gates)}))
    code = service.ended()
    manager.listen()

    assert code == 2, service.tail()
    assert "READY=1" not in manager.lines()
    assert manager.statuses()[-1].startswith(f"stopping: the settings are wrong: {gates}")
