"""Steps that reach out of fleetcast: real programs, a real HTTP server, and what is kept of their answers."""

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fleetcast.daemons.remedy.playbooks.steps import StepContext, registered
from fleetcast.daemons.remedy.playbooks.steps.actions import NotifyDependents, PostWebhook, RunCommand, WaitFor
from fleetcast.events.remedies import PlaybookRunState, StepRecord
from fleetcast.events.state import Cause

pytestmark = pytest.mark.asyncio

PROGRAM = "import json,os,sys; b=json.load(sys.stdin); print(b['model'], os.environ['FLEETCAST_KEY'], b['fence'])"
LOOKS = """
from os import environ
print(environ["FLEETCAST_KEY"], [name for name in environ if environ[name] == "secret"], environ.get("KUBECONFIG"),
    environ["PATH"][:40])
"""


class Hook:
    """An HTTP server that answers with what it is told to."""

    def __init__(self) -> None:
        self.status = 200
        self.seen: list[tuple[str, dict[str, Any]]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.seen.append((self.headers["Idempotency-Key"], body))
                self.send_response(hook.status)
                self.send_header("Location", hook.url)
                self.end_headers()
                self.wfile.write(b"heard")

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


def context(*, dependents: tuple[dict[str, Any], ...] = (), timeout: float = 10.0, **step: Any) -> StepContext:
    async def of(_model: str) -> tuple[dict[str, Any], ...]:
        return dependents

    record = StepRecord(name="tell", action="command", timeout_seconds=timeout, attempt=1).model_copy(update=step)
    run = PlaybookRunState(
        run="pb-1",
        playbook="test",
        resource_id="hex8",
        model="hex8",
        version="2",
        by="ana",
        fence=17,
        asked_at="2026-11-21T09:30:00Z",
        at="2026-11-21T09:30:00Z",
        steps=(record,),
        cause=Cause(event="e", sequence=1, by="ana", correlation="e"),
    )
    around: Any = SimpleNamespace(bus=None, now=lambda: datetime.now(UTC), dependents=of)
    return StepContext(run, record, around)


async def test_a_program_is_told_the_run_its_key_and_its_fence() -> None:
    params = RunCommand.Params(command=(sys.executable, "-c", PROGRAM))

    result = await RunCommand().run(context(), params)

    assert (result.ok, result.detail) == (True, "hex8 pb-1.tell 17")


async def test_a_program_has_no_secret_of_the_daemon_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NATS_PASSWORD", "FLEETCAST_BUS_TOKEN", "PAGER_KEY", "NOTIFY_SOCKET"):
        monkeypatch.setenv(name, "secret")
    step = await RunCommand().run(context(), RunCommand.Params(command=(sys.executable, "-c", LOOKS)))
    dependents = ({"name": "batch", "command": ("env", "KUBECONFIG=/etc/kube", sys.executable, "-c", LOOKS)},)
    told = await NotifyDependents().run(context(dependents=dependents), NotifyDependents.Params(seconds=30))

    (answer,) = told.output["answers"]
    assert step.detail == f"pb-1.tell [] None {os.environ['PATH'][:40]}"
    assert answer["said"] == f"pb-1.tell [] /etc/kube {os.environ['PATH'][:40]}"


async def test_a_program_that_fails_or_is_not_there_says_so() -> None:
    failed = await RunCommand().run(context(), RunCommand.Params(command=("sh", "-c", "echo full >&2; exit 3")))
    missing = await RunCommand().run(context(), RunCommand.Params(command=("/no/such/program",)))

    assert (failed.ok, failed.detail) == (False, "sh ended with 3: full")
    assert (missing.ok, missing.detail) == (False, "/no/such/program cannot be started: No such file or directory")


async def test_a_program_that_is_given_up_leaves_no_child_behind(tmp_path: Path) -> None:
    mark = tmp_path / "alive"
    script = f"(while true; do touch {mark}; sleep 0.05; done) & wait"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await RunCommand().run(context(), RunCommand.Params(command=("sh", "-c", script)))

    await asyncio.to_thread(mark.unlink, missing_ok=True)
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        assert not await asyncio.to_thread(mark.exists), "a child goes on"
        await asyncio.sleep(0.05)


async def test_a_webhook_carries_the_key_of_the_step_and_no_redirection_is_followed(hook: Hook) -> None:
    params = PostWebhook.Params(url=hook.url, body={"more": 1})
    well = await PostWebhook().run(context(), params)
    hook.status = 302
    away = await PostWebhook().run(context(), params)

    assert (well.ok, well.output["said"]) == (True, "heard")
    assert (away.ok, away.detail) == (False, "HTTP 302")
    assert [key for key, _ in hook.seen] == ["pb-1.tell", "pb-1.tell"]
    assert (hook.seen[0][1]["version"], hook.seen[0][1]["more"]) == ("2", 1)


async def test_every_dependent_is_told_and_every_answer_is_kept(hook: Hook) -> None:
    dependents = (
        {"name": "gateway", "webhook": hook.url},
        {"name": "batch", "command": ("sh", "-c", "exit 1")},
        {"webhook": "http://127.0.0.1:1/down"},
    )
    result = await NotifyDependents().run(context(dependents=dependents), NotifyDependents.Params(seconds=5))

    answers = {each["name"]: each for each in result.output["answers"]}
    assert not result.ok
    assert result.detail.startswith("1 of 3 dependents were told; batch: sh ended with 1")
    assert (answers["gateway"]["ok"], answers["gateway"]["said"]) == (True, "heard")
    assert "refused" in answers["http://127.0.0.1:1/down"]["detail"]
    assert hook.seen[0][0] == "pb-1.tell.gateway"


async def test_who_answered_well_is_not_told_again(hook: Hook) -> None:
    dependents = ({"name": "gateway", "webhook": hook.url}, {"name": "batch", "command": ("true",)})
    told = {"answers": [{"name": "gateway", "ok": True, "detail": "HTTP 200"}]}
    again = context(dependents=dependents, attempt=2, output=told)

    result = await NotifyDependents().run(again, NotifyDependents.Params())

    assert (result.ok, hook.seen) == (True, [])
    assert result.detail == "2 of 2 dependents were told"


async def test_a_wait_ends_once_a_program_says_so(tmp_path: Path) -> None:
    flag = tmp_path / "ready"
    params = WaitFor.Params(command=("sh", "-c", f"test -e {flag}"), every_seconds=0.02)
    waiting = asyncio.create_task(WaitFor().run(context(), params))
    await asyncio.sleep(0.1)
    assert not waiting.done()

    await asyncio.to_thread(flag.touch)
    assert (await waiting).ok


class Polite:
    """A step of somebody else's."""

    name = "polite"
    params = None
    summary = "says hello"


async def test_a_step_of_ones_own_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        SimpleNamespace(value="mine", load=lambda: Polite),
        SimpleNamespace(value="broken", load=lambda: 1 / 0),
        SimpleNamespace(value="thief", load=lambda: SimpleNamespace(name="command")),
    ]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: found if group.endswith("steps") else [])

    steps = await asyncio.to_thread(registered)

    assert steps["polite"].summary == "says hello"
    assert isinstance(steps["command"], RunCommand)
