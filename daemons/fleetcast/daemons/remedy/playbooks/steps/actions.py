"""Steps of general use: a program, an address, a subject, a service, a wait."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from fleetcast.bus.errors import BusError
from fleetcast.daemons.remedy.playbooks.definition import LONGEST_SECONDS
from fleetcast.daemons.remedy.playbooks.rules import StepResult
from fleetcast.daemons.remedy.playbooks.steps.base import StepContext, StepParams
from fleetcast.daemons.remedy.playbooks.steps.calling import (
    Called,
    call_program,
    call_subject,
    call_webhook,
    document,
    environment,
)

Words = Annotated[tuple[str, ...], Field(min_length=1, max_length=100)]
Url = Annotated[str, Field(pattern=r"^(https?://|\{)[^\s]+$", max_length=2000)]
Subject = Annotated[str, Field(pattern=r"^[^\s*>]+$", max_length=200)]
POLL_SECONDS = 1.0


def drilled(context: StepContext, plan: str) -> StepResult | None:
    """What a drill says instead of doing it; None: it is none."""
    return StepResult(True, f"drill: would {plan}") if context.run.drill else None


def result(called: Called) -> StepResult:
    return StepResult(called.ok, called.detail, {"said": called.said} if called.said else {})


class RunCommand:
    """Runs a program on the node of the remedy daemon."""

    class Params(StepParams):
        """Which."""

        command: Words = Field(description="Program and arguments; no shell reads them.")

    name = "command"
    params: type[BaseModel] | None = Params
    summary = "run a program on the remedy daemon's node; exit code 0 is well"

    async def run(self, context: StepContext, params: "RunCommand.Params") -> StepResult:
        """To its end, or to the deadline."""
        if (told := drilled(context, self.plan(context, params))) is not None:
            return told
        return result(await call_program(params.command, document(context), environment(context)))

    def plan(self, context: StepContext, params: "RunCommand.Params") -> str:
        return f"run: {' '.join(params.command)}"


class PostWebhook:
    """Sends JSON to an address."""

    class Params(StepParams):
        """Where to."""

        url: Url = Field(description="Address that gets a POST; 200 to 299 is well.")
        headers: dict[str, str] = Field(default={}, description="Further headers.")
        body: dict[str, Any] = Field(default={}, description="Further keys of the JSON that is sent.")

    name = "webhook"
    params: type[BaseModel] | None = Params
    summary = "POST what the run is about to an address"

    async def run(self, context: StepContext, params: "PostWebhook.Params") -> StepResult:
        """Once per attempt."""
        if (told := drilled(context, self.plan(context, params))) is not None:
            return told
        body = {**document(context), **params.body}
        return result(await call_webhook(params.url, body, context.key, context.step.timeout_seconds, params.headers))

    def plan(self, context: StepContext, params: "PostWebhook.Params") -> str:
        return f"POST to {params.url}"


class SendSubject:
    """Sends JSON to a NATS subject."""

    class Params(StepParams):
        """Where to."""

        subject: Subject = Field(description="NATS subject.")
        answered: bool = Field(default=False, description="Whether somebody has to answer.")
        body: dict[str, Any] = Field(default={}, description="Further keys of the JSON that is sent.")

    name = "subject"
    params: type[BaseModel] | None = Params
    summary = "send what the run is about to a NATS subject, and wait for an answer where one is wanted"

    async def run(self, context: StepContext, params: "SendSubject.Params") -> StepResult:
        """Once per attempt."""
        if (told := drilled(context, self.plan(context, params))) is not None:
            return told
        body = {**document(context), **params.body}
        seconds = context.step.timeout_seconds
        return result(await call_subject(context.around.bus, params.subject, body, seconds, answered=params.answered))

    def plan(self, context: StepContext, params: "SendSubject.Params") -> str:
        return f"send to {params.subject}{' and wait for an answer' if params.answered else ''}"


class RestartService:
    """Restarts a service of the remedy daemon's node."""

    class Params(StepParams):
        """Which, and how."""

        unit: str = Field(default="", max_length=200, description="systemd unit: `systemctl restart UNIT`.")
        command: Annotated[tuple[str, ...], Field(max_length=100)] = Field(
            default=(), description="Program that restarts it, in place of systemctl."
        )

        @model_validator(mode="after")
        def _is_one_way(self) -> "RestartService.Params":
            if bool(self.unit) == bool(self.command):
                raise ValueError("says exactly one of unit and command")
            return self

        @property
        def words(self) -> tuple[str, ...]:
            return self.command or ("systemctl", "restart", "--", self.unit)

    name = "restart_service"
    params: type[BaseModel] | None = Params
    summary = "restart a systemd unit, or run the command that restarts a service"

    async def run(self, context: StepContext, params: "RestartService.Params") -> StepResult:
        """To its end; a second restart after a crash does no harm."""
        if (told := drilled(context, self.plan(context, params))) is not None:
            return told
        return result(await call_program(params.words, document(context), environment(context)))

    def plan(self, context: StepContext, params: "RestartService.Params") -> str:
        return f"run: {' '.join(params.words)}"


class WaitFor:
    """Waits: some seconds, or until a program or an address says that it is well."""

    class Params(StepParams):
        """For what."""

        seconds: Annotated[float, Field(ge=0, le=LONGEST_SECONDS)] = Field(default=0.0, description="So long.")
        command: Annotated[tuple[str, ...], Field(max_length=100)] = Field(
            default=(), description="Until this program ends with 0."
        )
        url: Url | None = Field(default=None, description="Until a POST to it is answered by 200 to 299.")
        every_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
            default=POLL_SECONDS, description="Seconds between looks."
        )

    name = "wait_for"
    params: type[BaseModel] | None = Params
    summary = "wait some seconds, or until a program or an address says that it is well"

    async def run(self, context: StepContext, params: "WaitFor.Params") -> StepResult:
        """Until it holds; the deadline of the step ends it otherwise."""
        if (told := drilled(context, self.plan(context, params))) is not None:
            return told
        began = time.monotonic()
        # A wait that was interrupted goes on where it was: the step began when its first attempt did.
        waited = self._waited(context)
        await asyncio.sleep(max(0.0, params.seconds - waited))
        said = "waited"
        async for called in self._looks(context, params):
            said = called.detail
            if called.ok:
                break
        return StepResult(True, f"{said}, after {waited + time.monotonic() - began:.1f} s")

    @staticmethod
    def _waited(context: StepContext) -> float:
        began = context.step.started_at
        now = context.around.now()
        return 0.0 if began is None else max(0.0, (now - datetime.fromisoformat(began)).total_seconds())

    @staticmethod
    async def _looks(context: StepContext, params: "WaitFor.Params") -> AsyncIterator[Called]:
        """What is said at every look; nothing where nobody is to be asked."""
        while params.command or params.url is not None:
            if params.command:
                yield await call_program(params.command, document(context), environment(context))
            elif params.url is not None:
                yield await call_webhook(params.url, document(context), context.key, context.step.timeout_seconds)
            await asyncio.sleep(params.every_seconds)

    def plan(self, context: StepContext, params: "WaitFor.Params") -> str:
        until = f" until `{' '.join(params.command)}` ends with 0" if params.command else ""
        until = until or (f" until {params.url} answers well" if params.url else "")
        return f"wait {f'{params.seconds:g} s' if params.seconds else ''}{until}".strip()


class NotifyDependents:
    """Tells the services that depend on a model; every answer is recorded."""

    class Params(StepParams):
        """Whom, besides those that the settings name."""

        dependents: tuple[dict[str, Any], ...] = Field(
            default=(), max_length=50, description="Further ones: {name, command | webhook | subject}."
        )
        seconds: Annotated[float, Field(gt=0, le=600)] = Field(default=10.0, description="Seconds for each of them.")

    name = "notify_dependents"
    params: type[BaseModel] | None = Params
    summary = "tell the model's dependents (command, webhook or subject), all at once, and record every answer"

    async def run(self, context: StepContext, params: "NotifyDependents.Params") -> StepResult:
        """Who answered well is not told again by a second attempt."""
        known = {each["name"]: each for each in context.step.output.get("answers", []) if each.get("ok")}
        named = await self._dependents(context, params)
        if not named:
            return StepResult(True, "no dependents are named")
        if context.run.drill:
            return StepResult(True, f"drill: would tell {', '.join(named)}")
        open_ones = {name: how for name, how in named.items() if name not in known}
        answers = await asyncio.gather(*(self._tell(context, name, how, params) for name, how in open_ones.items()))
        told = [*known.values(), *(a.document(n) for n, a in zip(open_ones, answers, strict=True))]
        bad = [f"{each['name']}: {each['detail']}" for each in told if not each["ok"]]
        said = f"{len(told) - len(bad)} of {len(named)} dependents were told"
        return StepResult(not bad, "; ".join([said, *bad]), {"answers": told})

    async def _dependents(self, context: StepContext, params: "NotifyDependents.Params") -> dict[str, dict[str, Any]]:
        settings = await context.around.dependents(context.run.model) if context.run.model else ()
        named: dict[str, dict[str, Any]] = {}
        for each in (*settings, *params.dependents):
            how = {key: value for key, value in each.items() if value is not None}
            named[str(how.pop("name", "") or _called(how))] = how
        return named

    async def _tell(
        self, context: StepContext, name: str, how: dict[str, Any], params: "NotifyDependents.Params"
    ) -> Called:
        body = {**document(context), "dependent": name}
        key = f"{context.key}.{name}"
        try:
            async with asyncio.timeout(params.seconds):
                if how.get("command"):
                    return await call_program(tuple(how["command"]), body, environment(context))
                if how.get("webhook"):
                    return await call_webhook(how["webhook"], body, key, params.seconds)
                if how.get("subject"):
                    return await call_subject(context.around.bus, how["subject"], body, params.seconds, answered=True)
        except TimeoutError:
            return Called(False, f"no answer within {params.seconds:g} s")
        except (BusError, OSError) as e:
            return Called(False, str(e))
        return Called(False, "says none of command, webhook and subject")

    def plan(self, context: StepContext, params: "NotifyDependents.Params") -> str:
        more = f" and {len(params.dependents)} of the playbook" if params.dependents else ""
        return f"tell the dependents of {context.run.model} that the settings name{more}"


def _called(how: dict[str, Any]) -> str:
    """A name for a dependent that has none."""
    value = next(iter(how.values()), "")
    return " ".join(value) if isinstance(value, list | tuple) else str(value)
