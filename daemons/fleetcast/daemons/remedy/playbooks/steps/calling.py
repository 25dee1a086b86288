"""Telling something outside of fleetcast: a program, an address, a subject. Each carries the key of the step, so that
who is told twice after a crash knows that it was once."""

import asyncio
import contextlib
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError, NoResponder
from fleetcast.config.environment import for_program
from fleetcast.daemons.remedy.playbooks.steps.base import StepContext

KEPT_CHARACTERS: Final = 2000
KILL_SECONDS: Final = 5.0
SHORTEST_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Called:
    """What came of a call: whether it went well, and what was said."""

    ok: bool
    detail: str
    said: str = ""

    def document(self, name: str) -> dict[str, Any]:
        """For the record of a step."""
        return {"name": name, "ok": self.ok, "detail": self.detail, **({"said": self.said} if self.said else {})}


def document(context: StepContext) -> dict[str, Any]:
    """What others are told of a run."""
    run = context.run
    return {
        "event": "playbook.step",
        "key": context.key,
        "fence": context.fence,
        "run": run.run,
        "playbook": run.playbook,
        "step": context.step.name,
        "resource_type": run.resource_type.value,
        "resource_id": run.resource_id,
        "model": run.model,
        "version": run.version,
        "to": run.to,
        "incident": run.incident,
        "severity": run.severity.value,
        "reasons": list(run.reasons),
        "by": run.by,
        "drill": run.drill,
    }


async def call_program(words: Sequence[str], body: Mapping[str, Any], environment: Mapping[str, str]) -> Called:
    """Run a program to its end: what is told is its input, as JSON, and stands in its environment. It is alone in its
    session, and all of that is killed when it is not wanted any more."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**for_program(os.environ), **environment},
            start_new_session=True,
        )
    except OSError as e:
        return Called(False, f"{words[0]} cannot be started: {e.strerror}")
    try:
        output, _ = await process.communicate(json.dumps(body).encode())
    except BaseException:
        await asyncio.shield(_kill(process))
        raise
    said = output.decode(errors="replace")[-KEPT_CHARACTERS:].strip()
    last = said.splitlines()[-1][:200] if said else ""
    if process.returncode == 0:
        return Called(True, last or f"{words[0]} ended well", said)
    return Called(False, f"{words[0]} ended with {process.returncode}{f': {last}' if last else ''}", said)


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILL_SECONDS):
            await process.wait()


async def call_webhook(
    url: str, body: Mapping[str, Any], key: str, seconds: float, headers: Mapping[str, str] | None = None
) -> Called:
    """POST JSON; answers of 200 to 299 are well. Redirections are not followed: they lead where nobody allowed."""
    data = json.dumps(body).encode()
    sent = {"Content-Type": "application/json", "Idempotency-Key": key, **(headers or {})}
    if not url.startswith(("http://", "https://")):
        return Called(False, f"{url[:80]} is no address of HTTP")
    request = urllib.request.Request(url, data, sent, method="POST")  # noqa: S310 - its scheme was looked at
    return await asyncio.to_thread(_post, request, seconds)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _post(request: urllib.request.Request, seconds: float) -> Called:
    try:
        with _OPENER.open(request, timeout=max(seconds, SHORTEST_SECONDS)) as answer:
            return Called(True, f"HTTP {answer.status}", answer.read(KEPT_CHARACTERS).decode(errors="replace"))
    except urllib.error.HTTPError as e:
        with e:
            return Called(False, f"HTTP {e.code}", e.read(KEPT_CHARACTERS).decode(errors="replace"))
    except (OSError, ValueError) as e:
        return Called(False, f"no answer: {getattr(e, 'reason', e)}")


async def call_subject(bus: Bus, subject: str, body: Mapping[str, Any], seconds: float, *, answered: bool) -> Called:
    """Send to a subject; *answered*: somebody has to answer."""
    data = json.dumps(body).encode()
    if not answered:
        await bus.send(subject, data)
        return Called(True, f"sent to {subject}")
    try:
        said = (await bus.request(subject, data, max(seconds, SHORTEST_SECONDS))).decode(errors="replace")
    except NoResponder:
        return Called(False, f"nobody listens on {subject}")
    except BusError as e:
        return Called(False, f"no answer on {subject}: {e}")
    return Called(True, f"{subject} answered", said[:KEPT_CHARACTERS])


def environment(context: StepContext) -> dict[str, str]:
    """What a program finds in its environment."""
    told = {
        "KEY": context.key,
        "FENCE": str(context.fence),
        "ATTEMPT": str(context.attempt),
        **{
            name.upper(): str(value)
            for name, value in document(context).items()
            if isinstance(value, str) and name not in {"event", "key"}
        },
    }
    return {f"FLEETCAST_{name}": value for name, value in told.items()}
