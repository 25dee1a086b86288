"""One aria2c: started when a transfer needs it, ended when none does, and never without its daemon."""

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
import structlog

from fleetcast.transport.aria2 import launch, options
from fleetcast.transport.errors import TransferFailed
from fleetcast.transport.niceness import lower

if TYPE_CHECKING:
    from fleetcast.transport.aria2.rpc import Rpc

START_SECONDS = 15.0
"""Time to listen; it takes 50 ms on a machine with nothing else to do."""
RPC_SECONDS = 3.0
"""Time for one call, which takes milliseconds; a process that needs longer hangs and is replaced."""
END_SECONDS = 3.0
LOOK_SECONDS = 0.02
STARTS = 3
"""Tries to start: another process may take the free port first."""
LOGGED_LINES = 50
_VERSION_SECONDS = 5.0
_INHERITED = ("PATH", "LANG")
"""Nothing else: proxies, HOME with its configuration and password files, and secrets stay with the daemon."""

_T = TypeVar("_T")
log = structlog.get_logger()


class ChildGone(Exception):
    """The aria2c that was asked has ended or hangs."""


class CallRefused(Exception):
    """aria2c refused a call."""


class Child:
    """A running aria2c and its RPC; calls follow each other in a thread of its own.

    Attributes:
        limit: the cap that it was told last, in bytes per second; 0: none.
    """

    def __init__(self, process: Process, rpc: "Rpc", thread: ThreadPoolExecutor, limit: int) -> None:
        self._process, self._rpc, self._thread = process, rpc, thread
        self.limit = limit
        self._talk = asyncio.create_task(_log_lines(process), name="aria2c's stderr")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    async def call(self, method: str, *parameters: object) -> Any:
        """Call one method of its RPC.

        Raises:
            ChildGone: it does not answer.
            CallRefused: it says no.
        """
        return await self._ask(lambda: self._rpc.call(method, *parameters))

    async def calls(self, calls: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
        """Call several methods at once; the answer to one that is refused is None.

        Raises:
            ChildGone: it does not answer.
        """
        return await self._ask(lambda: self._rpc.calls(calls))

    async def _ask(self, ask: Callable[[], _T]) -> _T:
        from fleetcast.transport.aria2.rpc import RpcFault, RpcGone

        if not self.alive:
            raise ChildGone(f"aria2c ended with status {self._process.returncode}")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, ask)
        except RpcFault as e:
            raise CallRefused(str(e)) from e
        except RpcGone as e:
            raise ChildGone(str(e)) from e

    async def end(self) -> None:
        """End it; nothing that it keeps is needed, so it is not asked."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._talk
        # A call under way ends with the process.
        await asyncio.to_thread(self._thread.shutdown)
        self._rpc.close()


class Nursery:
    """Has one child while somebody holds it, and brings another one when it died.

    Args:
        nice: niceness of the child.
        header: what each of its requests has besides, `Name: value`.
    """

    def __init__(self, nice: int = 0, header: str = "") -> None:
        self._nice, self._header = nice, header
        self.path: str | None = None
        self.version: tuple[int, ...] | None = None
        self.starts = 0
        self._limit = self._cap = 0
        self._child: Child | None = None
        self._holders = 0
        self._changing = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Process id of the child; None when there is none."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def look(self) -> None:
        """Look for aria2c. Blocks for a run of it."""
        self.path, self.version = look_for()

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """A child that was started meanwhile lives as long as anybody holds it."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                await asyncio.shield(self.end())

    async def child(self) -> Child:
        """Return the child, a new one where there is none.

        Raises:
            TransferFailed: aria2c cannot be started.
        """
        async with self._changing:
            if self._child is not None and not self._child.alive:
                await self._child.end()
                self._child = None
            if self._child is None:
                self._child = await self._start()
                # The cap may have changed while it started.
                await self._tell()
            return self._child

    async def lose(self, child: Child) -> None:
        """End a child that does not answer; the next one starts when it is asked for."""
        async with self._changing:
            if self._child is child:
                self._child = None
                await child.end()

    async def limit(self, download: int, *, cap: int) -> None:
        """Limit what all downloads receive together, in bytes per second; 0: no limit.

        Args:
            cap: what they may receive, whoever sees to it; a child is started for it.
        """
        self._limit, self._cap = download, cap
        await self._tell()

    async def speed(self) -> int | None:
        """Bytes per second of all downloads as the child sees them; None without one."""
        child = self._child
        if child is None or not child.alive:
            return None
        try:
            return int((await child.call("aria2.getGlobalStat"))["downloadSpeed"])
        except (ChildGone, CallRefused):
            return None

    async def _tell(self) -> None:
        while (child := self._child) is not None and child.alive and child.limit != self._limit:
            child.limit = self._limit
            with contextlib.suppress(ChildGone, CallRefused):
                await child.call("aria2.changeGlobalOption", {"max-overall-download-limit": str(child.limit)})

    async def end(self) -> None:
        """End the child, if there is one."""
        async with self._changing:
            child, self._child = self._child, None
            if child is not None:
                await child.end()

    async def _start(self) -> Child:
        if self.path is None:
            await asyncio.to_thread(self.look)
        if reason := options.objection(self.path, self.version):
            raise TransferFailed(reason, next_step=f"apt-get install {options.PACKAGE}")
        problem = ""
        for _ in range(STARTS):
            try:
                return await self._try()
            except OSError as e:
                problem = str(e)
                log.warning("aria2.not_started", reason=problem)
        raise TransferFailed(f"aria2c cannot be started: {problem}")

    async def _try(self) -> Child:
        assert self.path is not None
        port, secret = _free_port(), secrets.token_hex(32)
        limit = self._limit
        configuration = options.configuration(
            port=port,
            secret=secret,
            parent=os.getpid(),
            download_limit=limit,
            cap=self._cap,
            header=self._header,
        )
        process = await _spawn(self.path, configuration)
        try:
            lower(self._nice, thread=process.pid)
            await _listening(process, port)
            thread = ThreadPoolExecutor(1, "aria2 rpc")
            rpc = await asyncio.get_running_loop().run_in_executor(thread, _connect, port, secret)
        except BaseException:
            await _kill(process)
            raise
        self.starts += 1
        child = Child(process, rpc, thread, limit)
        log.debug("aria2.started", pid=child.pid)
        return child


def look_for() -> tuple[str | None, tuple[int, ...] | None]:
    """Where aria2c is, and its version. Blocks for a run of it."""
    path = shutil.which("aria2c")
    if path is None:
        return None, None
    try:
        shown = subprocess.run(
            [path, "--no-conf", "--version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return path, None
    return path, options.version_of(shown.stdout)


def _connect(port: int, secret: str) -> "Rpc":
    # aria2p takes 0.3 s to import, with requests and all it brings: not before somebody needs it, and not on the loop.
    from fleetcast.transport.aria2.rpc import Rpc

    return Rpc(port, secret, RPC_SECONDS)


async def _spawn(path: str, configuration: str) -> Process:
    """Start aria2c. Its configuration lies in memory, in a file of mode 0600 that has no name and ends with it."""
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    fd = os.memfd_create("aria2.conf", os.MFD_CLOEXEC)
    try:
        os.fchmod(fd, 0o600)
        await asyncio.to_thread(os.pwrite, fd, configuration.encode(), 0)
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-B", str(Path(launch.__file__)), str(os.getpid())),
            *(path, f"--conf-path=/proc/self/fd/{fd}"),
            pass_fds=(fd,),
            env=environment,
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
            cwd="/",
            start_new_session=True,  # Ctrl-C is the daemon's
        )
    finally:
        os.close(fd)


async def _listening(process: Process, port: int) -> None:
    """Wait until this very process listens: the secret must not go to whoever took the port first.

    Raises:
        OSError: it ended, or does not listen in time.
    """
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await asyncio.to_thread(_listens, process.pid, port):
                if process.returncode is not None:
                    raise OSError(f"it ended with status {process.returncode}: {await _last_words(process)}")
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError as e:
        raise OSError(f"it does not listen on port {port}") from e


def _listens(pid: int, port: int) -> bool:
    try:
        found = psutil.Process(pid).net_connections("tcp4")
    except psutil.Error:
        return False
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in found)


async def _last_words(process: Process) -> str:
    assert process.stderr is not None
    said = (await process.stderr.read(4096)).decode(errors="replace").split()
    return " ".join(said)[:300] or "it said nothing"


async def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


async def _log_lines(process: Process) -> None:
    """Log what it says to its stderr, some lines of it: a fault that repeats must not fill the log."""
    assert process.stderr is not None
    lines = 0
    with contextlib.suppress(ValueError):  # a line without end
        while line := await process.stderr.readline():
            lines += 1
            if lines <= LOGGED_LINES:
                log.warning("aria2.says", pid=process.pid, line=line.decode(errors="replace").rstrip())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
