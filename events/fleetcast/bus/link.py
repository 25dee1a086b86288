"""One connection to one server, for its life: the only place that touches nats-py's client.

nats-py is used as a dialer and codec. Its reconnection is switched off: a connection that failed is thrown away whole
and `Wire` dials a new one, because a client whose read loop died keeps calling itself connected (docs/adr/0005).
"""

import asyncio
import contextlib
import ipaddress
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast
from urllib.parse import ParseResult, urlsplit

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from fleetcast.bus.credentials import RENEW, auth_options, certificate_trouble
from fleetcast.bus.errors import AccessDenied, BusUnavailable, ConnectionLost, NoTls, OperationRefused, PayloadTooLarge
from fleetcast.bus.shield import cancellation_kept, finish
from fleetcast.config.settings import BusSettings

PING_INTERVAL_SECONDS = 10
MAX_OUTSTANDING_PINGS = 2
PENDING_MESSAGES = 16384
PENDING_BYTES = 32 * 2**20
HEADER_FRAME_BYTES = 16
FLUSH_TIMEOUT_SECONDS = 10.0
CLOSE_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came from the server.

    Attributes:
        status: of a server's own message (100 heartbeat, 404, 408, 409, 503), else None.
        description: text that goes with the status.
    """

    subject: str
    data: bytes
    reply: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None
    description: str = ""


Callback = Callable[[Message], None]
ErrorCallback = Callable[[Exception], None]


def _to_message(msg: Msg) -> Message:
    headers = {str(getattr(k, "value", k)): v for k, v in (msg.headers or {}).items()}
    # nats-py makes a header of the server's status line. Somebody's stored message may have a header of that name:
    # it comes with a reply subject, a status never does.
    status = headers.pop("Status", "") if not msg.data and not msg.reply else ""
    description = headers.pop("Description", "") if status else ""
    return Message(
        msg.subject, msg.data, msg.reply, headers, int(status) if status.isdigit() else None, description.strip()
    )


class _DialFailed(Exception):
    """Carries the first dial error out of nats-py's own retry loop."""


def _is_address(host: str | None) -> bool:
    try:
        ipaddress.ip_address(host or "")
    except ValueError:
        return False
    return True


def _wrapped(error: BaseException, server: str, *, tls: bool = False) -> Exception:
    text = str(error).removeprefix("nats: ").strip("'\" ") or type(error).__name__
    if "authorization" in text.lower() or "authentication" in text.lower():
        return AccessDenied(f"{server} refuses these credentials", next_step="check bus.creds, bus.nkey or bus.user")
    if isinstance(error, ImportError):
        return OperationRefused(
            "nkeys and credentials need the package nkeys", next_step="pip install 'nats-py[nkeys]'"
        )
    # A server that misses the client's certificate says so only after the handshake (TLS 1.3), or just hangs up: in
    # the middle of our reading (reset, end of file) or of our writing (broken pipe).
    hung_up = isinstance(error, ConnectionResetError | BrokenPipeError | EOFError | nats.errors.UnexpectedEOF)
    if isinstance(error, ssl.SSLError) or (tls and hung_up):
        return NoTls(f"no TLS with {server}: {text}", next_step="check bus.ca, bus.cert and bus.key")
    if isinstance(error, asyncio.TimeoutError | nats.errors.TimeoutError):
        text = "no answer in time"
    return BusUnavailable(f"no NATS at {server}: {text}", next_step="fleetcast doctor")


class Link:
    """A live connection.

    Attributes:
        lost: set, with the reason, once it can no longer be used.
        on_lost: called at that moment.
    """

    def __init__(self, server: str, on_error: ErrorCallback) -> None:
        self.server = server
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.on_lost: Callable[[], None] = lambda: None
        self._on_error = on_error
        self._client = Client()
        self._dialing = True

    @classmethod
    async def open(cls, server: str, settings: BusSettings, *, name: str, inbox: str, on_error: ErrorCallback) -> Self:
        """Dial *server* once.

        Raises:
            BusUnavailable: nobody answers there.
            AccessDenied: the credentials are refused.
            OperationRefused: credentials or TLS files cannot be used.
        """
        link = cls(server, on_error)
        try:
            async with asyncio.timeout(settings.connect_timeout_seconds * 2):
                options = await link._options(settings)
                with cancellation_kept():
                    await link._connect(options, settings, name, inbox)
        except BaseException as e:
            await finish(link.close(flush=False))
            if isinstance(e, OperationRefused) or not isinstance(e, Exception):
                raise
            cause = e.args[0] if isinstance(e, _DialFailed) else e
            tls = server.startswith("tls") or bool(settings.ca or settings.cert)
            wrapped = _wrapped(cause, server, tls=tls)
            if isinstance(wrapped, NoTls) and (trouble := await asyncio.to_thread(certificate_trouble, settings)):
                wrapped = NoTls(f"no TLS with {server}: {trouble}", next_step=RENEW)
            raise wrapped from cause
        link._watch()
        return link

    async def _options(self, settings: BusSettings) -> dict[str, Any]:
        options = await asyncio.to_thread(auth_options, settings)
        host = urlsplit(self.server).hostname
        names = [h for h in (urlsplit(s.strip()).hostname for s in settings.url.split(",")) if not _is_address(h)]
        if "tls" in options and _is_address(host) and names:
            # A server that another one announced by address still has the certificate of the name we were given.
            options["tls_hostname"] = names[0]
        return options

    async def _connect(self, options: Mapping[str, Any], settings: BusSettings, name: str, inbox: str) -> None:
        await self._client.connect(
            servers=[self.server],
            name=name,
            error_cb=self._report,
            closed_cb=self._closed,
            allow_reconnect=False,
            connect_timeout=cast("int", settings.connect_timeout_seconds),
            reconnect_time_wait=0,
            max_reconnect_attempts=1,
            ping_interval=PING_INTERVAL_SECONDS,
            max_outstanding_pings=MAX_OUTSTANDING_PINGS,
            inbox_prefix=inbox,
            flush_timeout=FLUSH_TIMEOUT_SECONDS,
            **options,
        )
        self._dialing = False

    def _watch(self) -> None:
        # An unexpected exception ends nats-py's read loop while is_connected stays true and no callback runs
        # (reproduced); the end of the task itself is the only sign.
        task = self._client._reading_task  # noqa: SLF001
        assert task is not None
        task.add_done_callback(lambda _: self.lose("the read loop ended"))

    async def _report(self, error: Exception) -> None:
        if self._dialing:
            # nats-py would dial the same server again and again; raising here is the way out of its loop.
            raise _DialFailed(error)
        self._on_error(error)

    async def _closed(self) -> None:
        self.lose(str(self._client.last_error or "closed by the server"))

    def lose(self, reason: str) -> None:
        """Declare this link dead: nothing is sent or received through it from now on."""
        if not self.lost.done():
            self.lost.set_result(reason)
            # At once, not by a callback of the future: until the loop runs again, the loss would be half known.
            self.on_lost()

    async def publish(self, subject: str, data: bytes, reply: str, headers: Mapping[str, str] | None) -> None:
        """Hand a message to the socket.

        Raises:
            ConnectionLost: this link is dead.
            PayloadTooLarge: the server would refuse it and drop the connection.
        """
        if self.lost.done():
            raise ConnectionLost
        self.check_size(subject, data, headers)
        try:
            with cancellation_kept():
                # nats-py writes into the dict that it is given: never the caller's.
                await self._client.publish(subject, data, reply, headers=dict(headers) if headers else None)
        except nats.errors.MaxPayloadError as e:
            raise PayloadTooLarge from e
        except (nats.errors.BadSubjectError, nats.errors.BadHeaderError) as e:
            raise OperationRefused(f"{subject!r} cannot be published: {e}") from e
        except (nats.errors.Error, OSError) as e:
            raise ConnectionLost from e

    def check_size(self, subject: str, data: bytes, headers: Mapping[str, str] | None) -> None:
        """Refuse what the server would refuse: it counts headers too, nats-py does not, and the server then drops the
        connection.

        Raises:
            PayloadTooLarge: more bytes than the server takes.
        """
        size = len(data) + sum(len(k.encode()) + len(v.encode()) + 4 for k, v in (headers or {}).items())
        if size + HEADER_FRAME_BYTES > self._client.max_payload:
            raise PayloadTooLarge(f"{size} bytes for {subject}: the server takes {self._client.max_payload}")

    async def subscribe(self, subject: str, queue: str, callback: Callback) -> Callable[[], Awaitable[None]]:
        """Call *callback* with every message on *subject*; the result ends it.

        Raises:
            OperationRefused: *subject* is no subject.
            ConnectionLost: the server did not take it.
        """

        async def deliver(msg: Msg) -> None:
            # Only synchronous code here: nats-py ends a subscription silently when its callback is cancelled.
            callback(_to_message(msg))

        try:
            with cancellation_kept():
                subscription = await self._client.subscribe(
                    subject, queue, cb=deliver, pending_msgs_limit=PENDING_MESSAGES, pending_bytes_limit=PENDING_BYTES
                )
        except nats.errors.BadSubjectError as e:
            raise OperationRefused(f"{subject!r} is no subject") from e
        except (nats.errors.Error, OSError) as e:
            raise ConnectionLost from e

        async def stop() -> None:
            with contextlib.suppress(nats.errors.Error, OSError), cancellation_kept():
                await subscription.unsubscribe()

        return stop

    async def rtt(self, timeout_seconds: float) -> float:
        """Seconds for one PING and its PONG.

        Raises:
            BusUnavailable: no PONG in time.
        """
        began = time.monotonic()
        try:
            with cancellation_kept():
                await self._ping(timeout_seconds)
        except (nats.errors.Error, OSError, AttributeError, TimeoutError) as e:
            raise BusUnavailable(f"{self.server} does not answer a PING") from e
        return time.monotonic() - began

    async def flush(self, timeout_seconds: float) -> None:
        """Return when the server has everything that was handed over before.

        Raises:
            BusUnavailable: it does not say so in time.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                with cancellation_kept():
                    # The messages that wait for the flusher task go first: a PING is sent at once, past them.
                    await self._client._flush_pending(force_flush=True)  # noqa: SLF001
                    await self._ping(timeout_seconds)
        except (nats.errors.Error, OSError, AttributeError, TimeoutError) as e:
            raise BusUnavailable(f"{self.server} does not answer a PING") from e

    async def _ping(self, timeout_seconds: float) -> None:
        """One PING and its PONG, in place of nats-py's `rtt` and `flush`: these cancel the future that they wait for
        when the time is over, and the PONG that comes all the same sets it, whose InvalidStateError ends the read loop
        of a connection that only was slow (2.16, reproduced)."""
        if self.lost.done():
            raise ConnectionLost
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(timeout_seconds):
            await self._client._send_ping(answered)  # noqa: SLF001
            # Shielded: whoever stops waiting leaves the future as it is for the PONG.
            await asyncio.shield(answered)

    @property
    def version(self) -> str:
        """Version text of the server, `0.0.0` when it did not say."""
        return str(self._client._server_info.get("version", "0.0.0"))  # noqa: SLF001 - the public property re-parses

    @property
    def server_info(self) -> Mapping[str, Any]:
        """What the server said about itself when the connection began."""
        return dict(self._client._server_info)  # noqa: SLF001 - nats-py has no public form

    @property
    def max_payload(self) -> int:
        """Most bytes that the server takes in one message."""
        return self._client.max_payload

    @property
    def discovered(self) -> list[ParseResult]:
        """Other servers of the cluster, as this one announced them."""
        return self._client.discovered_servers

    @property
    def local_address(self) -> str:
        """IP address of this end of the connection."""
        writer = self._writer()
        return str(writer.get_extra_info("sockname")[0]) if writer is not None else ""

    def _writer(self) -> asyncio.StreamWriter | None:
        transport = self._client._transport  # noqa: SLF001 - nats-py has no way to reach its socket
        return cast("asyncio.StreamWriter | None", getattr(transport, "_io_writer", None))

    def abort(self) -> None:
        """Drop the connection without sending what is buffered: a peer that is gone would keep us waiting for ever."""
        self.lose("dropped")
        writer = self._writer()
        if writer is not None:
            # A TLS connection that has ended already has nothing to abort, at which Python 3.11.2 (Debian 12) fails.
            with contextlib.suppress(AttributeError):
                writer.transport.abort()

    async def close(self, *, flush: bool) -> None:
        """End the connection; with *flush*, what was handed over is sent first. Never raises; takes seconds at most."""
        if flush and not self.lost.done():
            with contextlib.suppress(BusUnavailable):
                await self.flush(CLOSE_TIMEOUT_SECONDS)
        self.abort()
        if self._dialing:
            # Nothing to take leave of, and nats-py would wait for a half-made TLS connection to end well.
            return
        # nats-py would write what is pending to the dead socket, fail there, and leave all of its tasks running.
        self._client._pending_data_size = 0  # noqa: SLF001
        tasks = self._tasks()
        with contextlib.suppress(nats.errors.Error, OSError, asyncio.TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self._client.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _tasks(self) -> list[asyncio.Task[Any]]:
        client = self._client
        subscribed = [s._wait_for_msgs_task for s in client._subs.values()]  # noqa: SLF001
        own = [client._reading_task, client._ping_interval_task, client._flusher_task]  # noqa: SLF001
        current = asyncio.current_task()
        return [task for task in (*own, *subscribed) if task is not None and task is not current]
