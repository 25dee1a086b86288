"""The life of a daemon process: start, readiness, work, and an end in bounded time that names what did not end.

    async def body(daemon: Daemon) -> None:
        async with connect(...) as bus:
            async with daemon.roots() as roots:
                roots.start("intake", intake(bus))
                roots.start("heartbeat", heartbeat(bus), stage=Stage.SUPPORT)
                daemon.ready("2 models in sync")

    def main(settings: Settings) -> int:
        return run_daemon("distributor", settings, body)

Leaving the `roots` block waits until the daemon is told to stop (SIGTERM, SIGINT, SIGHUP, `Daemon.stop`) or the first
root task ends; then the roots are stopped stage by stage, while what surrounds the block (the bus) still works. A
body that is told to stop anywhere else, while it still connects for example, is cancelled there.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog

from fleetcast.bus import tracing
from fleetcast.client.node import default_node_id
from fleetcast.config.errors import ConfigError
from fleetcast.config.settings import Settings
from fleetcast.daemons.runtime import logs, signals
from fleetcast.daemons.runtime.lastresort import LastResort
from fleetcast.daemons.runtime.notify import Notifier
from fleetcast.daemons.runtime.progress import Proof, Watchdog
from fleetcast.daemons.runtime.roots import Ending, Grace, Roots

log = structlog.get_logger(__name__)

ORDERLY, FAILED, MISCONFIGURED, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: told to stop by the service manager or finished; something failed, and another start may help; the
settings are wrong, and none will; stopped from the keyboard."""

Body = Callable[["Daemon"], Awaitable[None]]


class Daemon:
    """One daemon process, as its body sees it: who it is, when it must stop, and what it tells the service manager."""

    def __init__(self, name: str, node: str, settings: Settings, *, notifier: Notifier, grace: Grace) -> None:
        self.name = name
        self.node = node
        self.settings = settings
        self.notifier = notifier
        self.stopping = asyncio.Event()
        """Set when the shutdown begins: work that can finish early looks at it."""
        self.exit_code = ORDERLY
        self.metrics_url: str | None = None
        """Where its metrics are served; None: not yet, or not at all."""
        self.last_resort = LastResort(grace.total_seconds + grace.exit_seconds)
        self._grace = grace
        self._hurry = asyncio.Event()
        self._proofs: dict[str, Proof] = {}
        self._watchdog = Watchdog(notifier, self._proofs)
        self._status = ""
        self._body: asyncio.Future[None] | None = None
        self._winding_down = False

    def ready(self, status: str = "") -> None:
        """Say that start-up is over: connected, streams checked, first round trip done. Only the first call counts."""
        if self._watchdog.ready:
            return
        self._watchdog.ready = True
        self._status = status
        self.notifier.ready(status)
        log.info("daemon.ready", status=status)

    @property
    def is_ready(self) -> bool:
        """Whether start-up is over and the shutdown has not begun."""
        return self._watchdog.ready and not self.stopping.is_set()

    def status(self, text: str) -> None:
        """Show people in one line what the daemon does right now; sent on change only."""
        if text != self._status and not self.stopping.is_set():
            self._status = text
            self.notifier.status(text)

    def progress(self, name: str, proof: Proof) -> None:
        """Make the watchdog depend on `proof`; a second one under the same name replaces the first."""
        self._proofs[name] = proof

    def stop(self, reason: str, *, code: int = ORDERLY) -> None:
        """Begin the shutdown. The first call decides reason and exit code; later ones change nothing."""
        if self.stopping.is_set():
            return
        log.info("daemon.stopping", reason=reason)
        self.exit_code = code
        self.last_resort.arm()
        self.notifier.stopping(f"stopping: {reason}")
        self.notifier.extend_timeout(self.last_resort.seconds)
        self.stopping.set()
        if self._body and not self._winding_down:
            self._body.cancel()

    @asynccontextmanager
    async def roots(self) -> AsyncIterator[Roots]:
        """The root tasks. Leaving the block waits for the stop, then stops them in stages; see the module."""
        roots = Roots(self._root_ended)
        try:
            yield roots
            self._winding_down = True
            await self.stopping.wait()
        except Exception as error:
            self._winding_down = True
            self.stop(_in_words(error), code=_code(error))
            raise
        finally:
            self._winding_down = True
            self.stop("cancelled", code=FAILED)
            await self._stop_roots(roots)

    async def live(self, body: Body) -> int:
        """Run the body to its end, the watchdog beside it, and return the exit code."""
        with signals.handled(self._signalled):
            watchdog = asyncio.create_task(self._watchdog.run(), name="watchdog")
            self.status(f"starting, with NATS at {_hosts(self.settings.bus.url)}")
            self._body = asyncio.ensure_future(body(self))
            try:
                await asyncio.wait({self._body})
                self._body_ended(self._body)
            finally:
                watchdog.cancel()
                await asyncio.wait({watchdog})
        return self.exit_code

    async def _stop_roots(self, roots: Roots) -> None:
        if left := await roots.stop(self._grace, hurry=self._hurry):
            self.exit_code = FAILED
            self.last_resort.left = left

    def _signalled(self, number: signal.Signals) -> None:
        """A stop signal came: the first begins the shutdown, the second cuts the drain short."""
        if self.stopping.is_set():
            log.warning("stop.hurry", signal=number.name)
            self._hurry.set()
            return
        self.stop(number.name, code=INTERRUPTED if number is signal.SIGINT else ORDERLY)

    def _root_ended(self, ending: Ending) -> None:
        if ending.error is None:
            log.warning("root.ended", root=ending.name)
        self.stop(ending.reason, code=_code(ending.error))

    def _body_ended(self, body: asyncio.Future[None]) -> None:
        """Settle how the body came to its end: told to, by itself, or by an error that nobody else reported."""
        if body.cancelled():
            self.stop("cancelled", code=FAILED)
        elif error := body.exception():
            _report(error)
            self.stop(_in_words(error), code=_code(error))
            self.exit_code = _code(error)
        else:
            self.stop("finished")


def run_daemon(name: str, settings: Settings, body: Body, *, grace: Grace | None = None) -> int:
    """Run `body` as the daemon `name` until it is told to stop, and return the process's exit code.

    Configures logs, listens to signals, speaks to the service manager, feeds the watchdog. 0: told to stop, or the
    body returned; 130: stopped from the keyboard; 2: the settings are wrong; 1: the body or a root task failed, a root
    task ended by itself, or a task did not obey its cancellation (its name is logged; the process then ends without
    waiting for it). To be called in the main thread. `grace` bounds the steps of the shutdown.
    """
    node = settings.node.id or default_node_id()
    logs.configure(settings.log, node=node, daemon=name)
    if untraceable := tracing.problem(settings.tracing):
        _report(untraceable)
        return MISCONFIGURED
    began = time.monotonic()
    with tracing.exporting(settings.tracing, daemon=name, node=node), asyncio.Runner() as runner:
        daemon = runner.run(_make(name, node, settings, grace or Grace()))
        log.info("daemon.started")
        code = runner.run(daemon.live(body))
        log.info("daemon.stopped", code=code, seconds=round(time.monotonic() - began, 3))
        if daemon.last_resort.left:
            # Closing the loop would wait for them for ever.
            daemon.last_resort.end_process(code)
    daemon.last_resort.disarm()
    return code


def _code(error: BaseException | None) -> int:
    return MISCONFIGURED if isinstance(error, ConfigError) else FAILED


def _in_words(error: BaseException) -> str:
    """An error in one line, as the last thing that the service manager is told."""
    return f"the settings are wrong: {str(error).splitlines()[0]}" if isinstance(error, ConfigError) else repr(error)


def _hosts(url: str) -> str:
    """Server addresses without what they may carry of secrets."""
    return ", ".join(each.rpartition("@")[2].rpartition("//")[2].strip() for each in url.split(","))


async def _make(name: str, node: str, settings: Settings, grace: Grace) -> Daemon:
    asyncio.get_running_loop().set_exception_handler(_unhandled)
    return Daemon(name, node, settings, notifier=Notifier.from_environment(), grace=grace)


def _unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.error("loop.unhandled", message=context.get("message", ""), exc_info=context.get("exception"))


def _report(error: BaseException) -> None:
    """Log why the body failed. An error that names the next step is meant for people: no traceback hides it."""
    if next_step := getattr(error, "next_step", ""):
        log.error("daemon.failed", reason=str(error), next_step=next_step)
    else:
        log.error("daemon.failed", reason=repr(error), exc_info=error)
