"""Keeps one BitTorrent child alive: starts it, talks to it, starts it again when it dies."""

import asyncio
import contextlib
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from dataclasses import replace

import structlog

from fleetcast.config.environment import for_job
from fleetcast.transport.bittorrent import wire
from fleetcast.transport.errors import CannotListen

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
STEADY_SECONDS = 60.0
"""A child that lived so long is not one that dies at once: the delay starts anew."""
CLOSE_SECONDS = 3.0
"""Time for the child to write its last blocks at an orderly end."""
HANG_SECONDS = 10.0
"""A child that is busy and reports nothing for so long, 20 of its intervals, hangs."""
LOGGED_LINES = 200
"""Lines of the child's stderr that are logged in one life; a fault that repeats must not fill the log."""
_CHUNK = 2**18
_MODULE = "fleetcast.transport.bittorrent.child"

log = structlog.get_logger()


class Supervisor:
    """One child process at a time, listening on the same port in every life.

    Args:
        start: the first order of every life.
        on_report: called with every report.
        on_up: called when a child listens; it knows no torrents then.
        on_down: called when a child is gone.
    """

    def __init__(
        self,
        start: wire.Start,
        *,
        on_report: Callable[[wire.Report], None],
        on_up: Callable[[], None],
        on_down: Callable[[], None],
    ) -> None:
        self._start = start
        self._on_report, self._on_up, self._on_down = on_report, on_up, on_down
        self._listening: asyncio.Future[int] | None = None
        self._lives: asyncio.Task[None] | None = None
        self._process: Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._up = False
        self._closing = False
        self.restarts = 0
        self.last_heard = 0.0

    async def start(self) -> int:
        """Start the first child and return the port it listens on.

        Raises:
            CannotListen: the port is taken or not allowed.
        """
        self._listening = asyncio.get_running_loop().create_future()
        self._lives = asyncio.create_task(self._live(), name="bittorrent child")
        try:
            return await self._listening
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the child; its files are closed when this returns."""
        self._closing = True
        if self._writer is not None:
            self._writer.close()
        process = self._process
        if process is not None:
            try:
                await asyncio.wait_for(process.wait(), CLOSE_SECONDS)
            except TimeoutError:
                log.warning("bittorrent.child_killed", pid=process.pid, reason="it did not end in time")
                self.kill()
        if self._lives is not None:
            self._lives.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._lives

    @property
    def pid(self) -> int | None:
        """Process id of the child; None between two lives."""
        return self._process.pid if self._process is not None and self._up else None

    def send(self, order: wire.Order) -> bool:
        """Give an order; return whether a child was there to take it."""
        if not self._up or self._writer is None:
            return False
        self._writer.write(wire.encode(order))
        return True

    @property
    def silent_seconds(self) -> float:
        """How long the child has said nothing; it speaks all the time while something is fetched."""
        return asyncio.get_running_loop().time() - self.last_heard if self._up else 0.0

    def limit(self, limits: wire.Limits) -> None:
        """Set the caps of this child and of every later one."""
        self._start = replace(self._start, limits=(limits.download, limits.upload, limits.borrow))
        self.send(limits)

    def kill(self) -> None:
        """End a child that does not answer; the next one starts by itself."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def check(self) -> None:
        """End a child that has work and says nothing; call only while something is fetched."""
        silence = asyncio.get_running_loop().time() - self.last_heard
        if self._up and silence > HANG_SECONDS:
            log.error("bittorrent.child_hangs", pid=self.pid, silent_seconds=round(silence, 1))
            self.kill()

    async def _live(self) -> None:
        loop, delay = asyncio.get_running_loop(), FIRST_DELAY_SECONDS
        while not self._closing:
            born = loop.time()
            code = await self._one_life()
            if self._closing:
                return
            if loop.time() - born > STEADY_SECONDS:
                delay = FIRST_DELAY_SECONDS
            log.warning("bittorrent.child_lost", exit_code=code, next_start_seconds=round(delay, 2))
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)
            self.restarts += 1

    async def _one_life(self) -> int:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = process = await _spawn(theirs.fileno())
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._writer.write(wire.encode(self._start))
        talk = asyncio.create_task(_log_lines(process), name="bittorrent child's stderr")
        try:
            await self._listen_to(reader)
        finally:
            self._writer.close()
            if self._up:
                self._up = False
                self._on_down()
            if not self._closing:
                self.kill()
            code = await process.wait()
            await talk
        return code

    async def _listen_to(self, reader: asyncio.StreamReader) -> None:
        decoder, loop = wire.Decoder(), asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                self.last_heard = loop.time()
                for report in decoder.feed(data):
                    self._take(report)

    def _take(self, report: wire.Report) -> None:
        match report:
            case wire.Listening(port=port):
                self._came_up(port)
            case wire.NotListening():
                self._did_not_come_up(report)
            case wire.Alive():
                pass
            case _:
                self._on_report(report)

    def _came_up(self, port: int) -> None:
        if self._up:
            return
        self._up = True
        self._start = replace(self._start, port=port)
        if self._listening is not None and not self._listening.done():
            self._listening.set_result(port)
        self._on_up()

    def _did_not_come_up(self, report: wire.NotListening) -> None:
        where = f"{self._start.bind}:{report.port}"
        if self._listening is not None and not self._listening.done():
            self._closing = True
            self._listening.set_exception(
                CannotListen(
                    f"BitTorrent cannot listen on {where}: {report.reason}",
                    next_step="set another port in fleetcast.toml: [bittorrent] port (0 takes a free one)",
                )
            )
        else:
            log.error("bittorrent.cannot_listen", address=where, reason=report.reason)


async def _spawn(descriptor: int) -> Process:
    # Fewer malloc arenas keep the child small: its threads free what others allocated.
    environment = {**for_job(os.environ), "MALLOC_ARENA_MAX": "2"}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # the working directory is no place for modules
        "-m",
        _MODULE,
        str(descriptor),
        str(os.getpid()),
        pass_fds=(descriptor,),
        env=environment,
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
    )


async def _log_lines(process: Process) -> None:
    """Log what the child writes to its stderr: a traceback, or libtorrent's last words. Bounded per life."""
    assert process.stderr is not None
    lines = 0
    while line := await process.stderr.readline():
        lines += 1
        if lines <= LOGGED_LINES:
            log.error("bittorrent.child_says", pid=process.pid, line=line.decode(errors="replace").rstrip())
    if lines > LOGGED_LINES:
        log.error("bittorrent.child_said_more", pid=process.pid, lines_left_out=lines - LOGGED_LINES)
