"""The gateway's shell: connects its parts, listens, and stops in order."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fleetcast.bus import Bus, connect
from fleetcast.bus.streams import declare
from fleetcast.config.gateway import GatewaySettings
from fleetcast.config.settings import Settings
from fleetcast.daemons import metrics
from fleetcast.daemons.gateway.access import AccessRefused, check_listening
from fleetcast.daemons.gateway.app import make_app
from fleetcast.daemons.gateway.asking import Parts
from fleetcast.daemons.gateway.stream import Feed
from fleetcast.daemons.gateway.tokens import TokenBook, TokenFileWrong
from fleetcast.daemons.runtime import Daemon, Stage, run_daemon
from fleetcast.daemons.runtime.beat import Heartbeat, until_closed
from fleetcast.daemons.runtime.readiness import say_ready
from fleetcast.registry.picture.amounts import counted
from fleetcast.registry.picture.live import watched

log = structlog.get_logger("fleetcast.gateway")

FORGET: Final = timedelta(days=1)
"""A node that was not heard from for so long is not shown any more."""
TIDY_SECONDS: Final = 60.0
TOKEN_SECONDS: Final = 1.0
"""Distance of looks at the token file: a token that was revoked is refused a second later."""
FAREWELL_SECONDS: Final = 3
"""How long answers that are under way may take at the end."""
BACKLOG: Final = 512
HEAD_BYTES: Final = 32768


def main(settings: Settings) -> int:
    """Run the gateway until it is told to stop; returns the process's exit code."""
    return run_daemon("gateway", settings, run)


async def run(daemon: Daemon) -> None:
    """The body of the daemon."""
    settings = daemon.settings.gateway
    check_listening(settings)
    tokens = TokenBook(settings.tokens) if settings.tokens else None
    if tokens is not None:
        await asyncio.to_thread(tokens.refresh)
    listening = await asyncio.to_thread(listen, settings)
    with contextlib.closing(listening):
        async with connect(daemon.settings.bus, node=daemon.node, daemon="gateway") as bus:
            await declare(bus, daemon.settings.bus.replicas)
            await _live(daemon, bus, tokens, listening)


async def _live(daemon: Daemon, bus: Bus, tokens: TokenBook | None, listening: socket.socket) -> None:
    settings = daemon.settings.gateway
    feed = Feed(bus, settings)
    beat_seconds = daemon.settings.distributor.heartbeat_seconds
    async with watched(bus, beat_seconds) as fleet:
        parts = Parts(bus, fleet, feed, settings, tokens)
        address = url_of(settings, listening)
        beat = Heartbeat(daemon, bus, lambda: f"{address}, {counted(feed.clients, 'event stream')}")
        async with daemon.roots() as roots:
            roots.start("bus", until_closed(bus), stage=Stage.SUPPORT)
            roots.start("feed", feed.run())
            roots.start("fleet-changes", feed.watch(fleet))
            roots.start("tidy", _tidy(parts))
            if tokens is not None:
                roots.start("tokens", _follow_tokens(tokens, feed))
            await feed.began.wait()
            server = _server(settings, make_app(settings, parts))
            roots.start("http", _serve(daemon, server, listening, feed), stage=Stage.WORK)
            await server.listening.wait()
            roots.start("metrics", metrics.serve(daemon, bus, metrics.nothing), stage=Stage.SUPPORT)
            roots.start("heartbeat", beat.run(), stage=Stage.SUPPORT)
            log.info("gateway.listening", url=address, tokens=tokens.count if tokens else None)
            await say_ready(daemon, bus, beat.sentence)
        await beat.stopped()


async def _tidy(parts: Parts) -> None:
    while True:
        await asyncio.sleep(TIDY_SECONDS)
        parts.fleet.forget(datetime.now(UTC) - FORGET)


async def _follow_tokens(tokens: TokenBook, feed: Feed) -> None:
    """A file that is wrong lets nobody in until it is right again."""
    wrong = ""
    while True:
        await asyncio.sleep(TOKEN_SECONDS)
        changed, fault = await asyncio.to_thread(_look_at, tokens)
        if fault is not None and str(fault) != wrong:
            log.error("tokens.wrong", reason=str(fault), next_step=fault.next_step)
        wrong = str(fault or "")
        if changed:
            feed.recheck()


def _look_at(tokens: TokenBook) -> tuple[bool, TokenFileWrong | None]:
    """Whether others may be let in than before, and what is wrong with the file."""
    try:
        return tokens.refresh(), None
    except TokenFileWrong as fault:
        return True, fault


# -- HTTP


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the daemon has them. `listening`: it does."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _Config(uvicorn.Config):
    """uvicorn's settings, and how long a connection may take to begin a request, in seconds."""

    begin_seconds = 20.0


class _Connection(H11Protocol):
    """A connection that has to begin a request in time."""

    config: _Config
    _hurry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._hurry = self.loop.call_later(self.config.begin_seconds, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._hurry is not None:
            self._hurry.cancel()
        self._hurry = self.loop.call_later(self.config.begin_seconds, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def _server(settings: GatewaySettings, app: Any) -> _Server:
    config = _Config(
        app,
        http=_Connection,
        ws="none",
        lifespan="off",
        loop="none",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=FAREWELL_SECONDS,
        h11_max_incomplete_event_size=HEAD_BYTES,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
    )
    config.begin_seconds = settings.body_seconds
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return _Server(config)


async def _serve(daemon: Daemon, server: _Server, listening: socket.socket, feed: Feed) -> None:
    """Answer until the daemon stops; then streams are told so, and answers under way may end."""
    work = asyncio.create_task(server.serve(sockets=[listening]), name="gateway-http")
    stopping = asyncio.create_task(daemon.stopping.wait(), name="gateway-stopping")
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        feed.close()
        server.should_exit = True
        await asyncio.wait({work})
    work.result()


def listen(settings: GatewaySettings) -> socket.socket:
    """A listening socket.

    Raises:
        AccessRefused: somebody else has the port, or the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    host = "127.0.0.1" if settings.host == "localhost" else settings.host
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it: what a client does not take in for so long is thrown away by the kernel, whoever it is.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.stalled_seconds * 1000))
    try:
        listening.bind((host, settings.port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise AccessRefused(
            f"the gateway cannot listen on {settings.host}:{settings.port}: {error.strerror}",
            next_step="set gateway.port to a free one (with up: --gateway-port), or end what has it",
        ) from error
    listening.setblocking(False)
    return listening


def url_of(settings: GatewaySettings, listening: socket.socket) -> str:
    """Where it answers: `http://127.0.0.1:8000`."""
    host, port = listening.getsockname()[:2]
    scheme = "https" if settings.certificate else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
