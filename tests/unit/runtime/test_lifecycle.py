"""The life of a daemon, each in a process of its own: signals, crashes and leftovers are real."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

PREAMBLE = """
import asyncio, signal, sys, threading, time
import structlog
from fleetcast.config.settings import LogSettings, NodeSettings, Settings
from fleetcast.daemons.runtime import Grace, Progress, Stage, bind_correlation, run_daemon

SETTINGS = Settings(node=NodeSettings(id="gpu-1"), log=LogSettings(level="debug"))
GRACE = Grace(drain_seconds=0.5, cancel_seconds=0.2, exit_seconds=0.5)
log = structlog.get_logger()

async def for_ever():
    await asyncio.Event().wait()

async def stubborn():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

def blocked():
    time.sleep(60)
"""
ENDING = """
sys.exit(run_daemon("tester", SETTINGS, body, grace=GRACE))
"""


@dataclass(frozen=True)
class Ended:
    """How a daemon ended: its exit code, its log lines, and the seconds from the signal (or start) to the end."""

    code: int
    lines: list[dict[str, Any]]
    seconds: float

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]

    def line(self, event: str) -> dict[str, Any]:
        return next(line for line in self.lines if line["event"] == event)


class Process:
    """A daemon that runs one body."""

    def __init__(self, body: str, env: dict[str, str]) -> None:
        code = PREAMBLE + textwrap.dedent(body) + ENDING
        self.began = time.monotonic()
        self._child = subprocess.Popen(
            [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env={**os.environ, **env}
        )
        self._lines: list[dict[str, Any]] = []

    def wait_for(self, event: str) -> None:
        """Read log lines until this event."""
        assert self._child.stderr
        for text in self._child.stderr:
            self._lines.append(json.loads(text))
            if self._lines[-1]["event"] == event:
                return
        raise AssertionError(f"no {event} in {self._lines}")

    def signal(self, number: signal.Signals) -> None:
        self.began = time.monotonic()
        self._child.send_signal(number)

    def end(self) -> Ended:
        """Wait for the end."""
        _, rest = self._child.communicate(timeout=20)
        seconds = time.monotonic() - self.began
        return Ended(self._child.returncode, [*self._lines, *(json.loads(text) for text in rest.splitlines())], seconds)

    def kill(self) -> None:
        """End what a failed test left."""
        self._child.kill()
        self._child.communicate()


Start = Callable[..., Process]


@pytest.fixture
def start() -> Iterator[Start]:
    processes: list[Process] = []

    def run(body: str, **env: str) -> Process:
        processes.append(Process(body, env))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()


def test_sigterm_ends_the_daemon_in_order_with_exit_code_0(start: Start) -> None:
    daemon = start("""
        async def body(daemon):
            async with daemon.roots() as roots:
                roots.start("intake", for_ever())
                daemon.ready("in sync")
            log.info("bus.closed")
    """)
    daemon.wait_for("daemon.ready")
    daemon.signal(signal.SIGTERM)
    ended = daemon.end()

    assert ended.code == 0
    assert ended.line("daemon.stopping")["reason"] == "SIGTERM"
    assert ended.events().index("root.cancelled") < ended.events().index("bus.closed")
    assert ended.events()[-1] == "daemon.stopped"
    assert {(line["node"], line["daemon"]) for line in ended.lines} == {("gpu-1", "tester")}


def test_stop_from_the_keyboard_has_its_own_exit_code(start: Start) -> None:
    daemon = start("""
        async def body(daemon):
            async with daemon.roots():
                daemon.ready()
    """)
    daemon.wait_for("daemon.ready")
    daemon.signal(signal.SIGINT)

    assert daemon.end().code == 130


def test_intake_stops_first_work_may_finish_and_support_stays_to_the_last(start: Start) -> None:
    daemon = start("""
        def saying(name):
            async def run():
                try:
                    await for_ever()
                finally:
                    log.info(name)
            return run()

        async def work(daemon):
            await daemon.stopping.wait()
            await asyncio.sleep(0.1)
            log.info("work finished")

        async def body(daemon):
            async with daemon.roots() as roots:
                roots.start("heartbeat", saying("heartbeat gone"), stage=Stage.SUPPORT)
                roots.start("work", work(daemon), stage=Stage.WORK)
                roots.start("intake", saying("intake gone"), stage=Stage.INTAKE)
                daemon.ready()
    """)
    daemon.wait_for("daemon.ready")
    daemon.signal(signal.SIGTERM)
    ended = daemon.end()

    order = [event for event in ended.events() if event.endswith(("gone", "finished"))]
    assert order == ["intake gone", "work finished", "heartbeat gone"]
    assert ended.line("stop.draining")["waiting_for"] == ["work"]
    assert ended.code == 0


def test_work_that_does_not_finish_in_its_time_is_cancelled(start: Start) -> None:
    daemon = start("""
        async def body(daemon):
            async with daemon.roots() as roots:
                roots.start("transfer", for_ever(), stage=Stage.WORK)
                daemon.ready()
    """)
    daemon.wait_for("daemon.ready")
    daemon.signal(signal.SIGTERM)
    ended = daemon.end()

    assert 0.5 <= ended.seconds < 3
    assert ended.code == 0


def test_second_signal_cuts_the_drain_short(start: Start) -> None:
    daemon = start("""
        GRACE = Grace(drain_seconds=60)
        async def body(daemon):
            async with daemon.roots() as roots:
                roots.start("transfer", for_ever(), stage=Stage.WORK)
                daemon.ready()
    """)
    daemon.wait_for("daemon.ready")
    daemon.signal(signal.SIGTERM)
    daemon.wait_for("stop.draining")
    daemon.signal(signal.SIGTERM)
    ended = daemon.end()

    assert ended.seconds < 5
    assert ended.code == 0


def test_task_that_ignores_its_cancellation_is_named_and_left_behind_in_bounded_time(start: Start) -> None:
    daemon = start("""
        async def body(daemon):
            async with daemon.roots() as roots:
                roots.start("intake", for_ever())
                roots.start("mule", stubborn(), stage=Stage.WORK)
                daemon.ready()
    """)
    daemon.wait_for("daemon.ready")
    daemon.signal(signal.SIGTERM)
    ended = daemon.end()

    assert ended.code == 1
    assert ended.line("stop.left")["tasks"] == ["mule"]
    assert ended.events()[-1] == "daemon.stopped"
    assert ended.seconds < 3


def test_broken_variant_a_task_group_would_wait_for_such_a_task_for_ever(start: Start) -> None:
    daemon = start("""
        async def body(daemon):
            async with asyncio.TaskGroup() as group:
                group.create_task(stubborn(), name="mule")
                daemon.ready()
    """)
    daemon.wait_for("daemon.ready")
    daemon.signal(signal.SIGTERM)
    ended = daemon.end()

    # Only the last resort ended it.
    assert ended.events()[-1] == "stop.killed"
    assert ended.code == 1


def test_blocked_event_loop_does_not_keep_the_process_alive(start: Start) -> None:
    daemon = start("""
        async def block(daemon):
            await daemon.stopping.wait()
            blocked()

        async def body(daemon):
            async with daemon.roots() as roots:
                roots.start("work", block(daemon), stage=Stage.WORK)
                daemon.ready()
    """)
    daemon.wait_for("daemon.ready")
    daemon.signal(signal.SIGTERM)
    ended = daemon.end()

    assert ended.events()[-1] == "stop.killed"
    assert ended.code == 1
    assert ended.seconds < 5


def test_thread_that_hangs_is_named_by_the_last_resort(start: Start) -> None:
    daemon = start("""
        async def body(daemon):
            asyncio.get_running_loop().run_in_executor(None, blocked)
            async with daemon.roots():
                daemon.ready()
    """)
    daemon.wait_for("daemon.ready")
    daemon.signal(signal.SIGTERM)
    ended = daemon.end()

    assert any(name.startswith("asyncio_") for name in ended.line("stop.killed")["threads"])


def test_crashed_root_task_ends_the_daemon_with_exit_code_1_and_is_named(start: Start) -> None:
    ended = start("""
        async def crash():
            raise ValueError("bad slot")

        async def body(daemon):
            async with daemon.roots() as roots:
                roots.start("slots", crash())
                roots.start("intake", for_ever())
    """).end()

    assert ended.code == 1
    assert ended.line("root.failed")["root"] == "slots"
    assert "ValueError: bad slot" in ended.line("root.failed")["exception"]
    assert "slots failed" in ended.line("daemon.stopping")["reason"]


def test_root_task_that_just_ends_takes_the_daemon_with_it(start: Start) -> None:
    ended = start("""
        async def nothing():
            return

        async def body(daemon):
            async with daemon.roots() as roots:
                roots.start("watch", nothing())
    """).end()

    assert ended.code == 1
    assert ended.line("root.ended")["root"] == "watch"


def test_body_that_fails_at_start_ends_with_its_traceback(start: Start) -> None:
    ended = start("""
        async def body(daemon):
            raise OSError("port taken")
    """).end()

    assert ended.code == 1
    assert "port taken" in ended.line("daemon.failed")["exception"]


def test_error_that_knows_the_next_step_is_reported_without_a_traceback(start: Start) -> None:
    ended = start("""
        class ServerTooOld(Exception):
            next_step = "install nats-server 2.15.1 or newer"

        async def body(daemon):
            async with daemon.roots():
                raise ServerTooOld("the server is 2.9.10")
    """).end()

    failed = ended.line("daemon.failed")
    assert (failed["reason"], failed["next_step"]) == ("the server is 2.9.10", "install nats-server 2.15.1 or newer")
    assert "exception" not in failed
    assert ended.code == 1


def test_daemon_that_still_connects_can_be_stopped(start: Start) -> None:
    daemon = start("""
        async def body(daemon):
            log.info("connecting")
            try:
                await for_ever()
            finally:
                log.info("gave up")
    """)
    daemon.wait_for("connecting")
    daemon.signal(signal.SIGTERM)
    ended = daemon.end()

    assert "gave up" in ended.events()
    assert ended.code == 0


def test_service_manager_hears_ready_status_watchdog_and_stopping(start: Start, manager: Any) -> None:
    daemon = start(
        """
        async def body(daemon):
            async with daemon.roots():
                daemon.ready("in sync")
                daemon.status("1 transfer")
                daemon.status("1 transfer")
    """,
        NOTIFY_SOCKET=manager.address,
        WATCHDOG_USEC="300000",
    )
    daemon.wait_for("daemon.ready")
    heard = [manager.receive() for _ in range(6)]
    daemon.signal(signal.SIGTERM)
    assert daemon.end().code == 0
    heard += manager.waiting()

    assert heard[0] == b"STATUS=starting, with NATS at 127.0.0.1:4222"
    assert heard[1].startswith(b"EXTEND_TIMEOUT_USEC=")
    assert heard[2:4] == [b"READY=1\nSTATUS=in sync", b"STATUS=1 transfer"]
    assert heard.count(b"STATUS=1 transfer") == 1
    assert heard[4:6] == [b"WATCHDOG=1", b"WATCHDOG=1"]
    stopping = heard.index(b"STOPPING=1\nSTATUS=stopping: SIGTERM")
    assert heard[stopping + 1].startswith(b"EXTEND_TIMEOUT_USEC=")


def test_watchdog_stops_when_progress_stops(start: Start, manager: Any) -> None:
    daemon = start(
        """
        async def body(daemon):
            progress = Progress(within_seconds=0.3)
            daemon.progress("bus", progress)
            async with daemon.roots():
                daemon.ready()
    """,
        NOTIFY_SOCKET=manager.address,
        WATCHDOG_USEC="150000",
    )
    daemon.wait_for("watchdog.withheld")
    fed = manager.waiting().count(b"WATCHDOG=1")
    time.sleep(0.3)
    starved = manager.waiting()
    daemon.signal(signal.SIGTERM)

    assert fed > 0
    assert starved == []
    assert daemon.end().line("daemon.stopping")["reason"] == "SIGTERM"


def test_watchdog_stops_when_the_event_loop_is_blocked(start: Start, manager: Any) -> None:
    daemon = start(
        """
        async def body(daemon):
            async with daemon.roots() as roots:
                daemon.ready()
                await asyncio.sleep(0.2)
                log.info("blocking")
                blocked()
    """,
        NOTIFY_SOCKET=manager.address,
        WATCHDOG_USEC="150000",
    )
    daemon.wait_for("blocking")
    fed = manager.waiting().count(b"WATCHDOG=1")
    time.sleep(0.3)

    assert fed > 0
    assert manager.waiting() == []
