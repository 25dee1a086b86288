"""Who tells serving processes: one hook at a time per model, of which the newest order wins."""

import asyncio
import contextlib
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from fleetcast.bus.shield import finish
from fleetcast.config.hooks import HookRule
from fleetcast.daemons.distributor.hooks.process import Ended, carry_out
from fleetcast.daemons.distributor.hooks.rules import (
    Telling,
    Told,
    about_to_tell,
    environment,
    has_told,
    is_told_of,
    known_before,
    occasion,
    telling,
)
from fleetcast.daemons.distributor.parts import Parts, now
from fleetcast.daemons.distributor.rules import retry_delay
from fleetcast.events.content import Kind
from fleetcast.events.hooks import HookFailed, HookReason, HookRecovered
from fleetcast.events.state import HookStatus
from fleetcast.registry.slots import Line
from fleetcast.transport.errors import StoreError
from fleetcast.transport.store import AppliedSlot

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.distributor.hooks")

Saying = Callable[[str | None], None]
"""Tells the fleet that a version came into force, given what became of the hook."""


@dataclass
class _Model:
    """What is being told of one model; owned by the daemon's loop.

    Attributes:
        verdict: how the first attempt to tell it ended; None: it has not.
        sayings: what waits for that.
        again: what was perhaps never said, because the daemon ended before the hook did.
    """

    rule: HookRule
    what: Telling
    status: HookStatus
    verdict: str | None = None
    sayings: list[Saying] = field(default_factory=list)
    again: list[Saying] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, verdict: str) -> None:
        """Answer everything that waits for how the hook ended."""
        sayings, self.sayings = self.sayings, []
        for saying in sayings:
            saying(verdict)


class HookDesk:
    """Owner of the hooks of one node. Nothing here holds up a pointer, a heartbeat, or another model."""

    def __init__(self, parts: Parts, renew: Callable[[], None]) -> None:
        self._parts = parts
        self._renew = renew
        self._settings = parts.settings.hooks
        self._models: dict[str, _Model] = {}
        self._new: asyncio.Queue[_Model] = asyncio.Queue()
        self._turns = asyncio.Semaphore(self._settings.parallel)

    def status(self, model: str) -> HookStatus | None:
        """How far the hook of a model is; None: it has none, or nothing is served of it."""
        known = self._models.get(model)
        return None if known is None else known.status

    def serve(self, line: Line, applied: AppliedSlot, sayings: Sequence[Saying], again: Sequence[Saying] = ()) -> None:
        """The pointers of a line show what is ordered.

        Args:
            sayings: called once it is known what the hook made of it, or at once where there is none.
            again: called as well, where the hook of an order from before this daemon started has to run.
        """
        kind, name = line
        rule = self._settings.rule_for(name) if kind is not Kind.DATASET else None
        what = telling(name, applied) if rule is not None else None
        if rule is None or what is None:
            for saying in sayings:
                saying(None)
            return
        known = self._models.get(name)
        if known is None:
            self._models[name] = known = _Model(rule, what, _status(what, "waiting"))
            known.sayings += sayings
            known.again += () if sayings else again
            self._new.put_nowait(known)
        elif known.what == what and not sayings:
            return
        elif what.is_same(known.what):
            self._go_on(known, what, sayings)
        else:
            known.say(f"superseded by generation {what.generation}")
            known.what, known.verdict, known.status = what, None, _status(what, "waiting")
            known.sayings, known.again = [*sayings], []
            known.changed.set()
        self._renew()

    def _go_on(self, known: _Model, what: Telling, sayings: Sequence[Saying]) -> None:
        """What is served stays the same under a later order."""
        known.what = what
        known.status = known.status.model_copy(update={"generation": what.generation})
        known.sayings += sayings
        if known.verdict is not None:
            known.say("unchanged" if known.status.state == "ok" else known.verdict)

    async def run(self) -> None:
        """Tell what there is to tell, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                model = await self._new.get()
                tasks.create_task(self._follow(model), name=f"hook:{model.what.model}")

    async def _follow(self, model: _Model) -> None:
        """Tell the newest; what was being told before is stopped first."""
        while True:
            model.changed.clear()
            telling_it = asyncio.create_task(self._tell(model), name=f"hook-run:{model.what.model}")
            newer = asyncio.create_task(model.changed.wait(), name=f"hook-order:{model.what.model}")
            try:
                await asyncio.wait({telling_it, newer}, return_when=asyncio.FIRST_COMPLETED)
                if telling_it.done():
                    telling_it.result()
                    await newer
            finally:
                for task in (telling_it, newer):
                    task.cancel()
                await asyncio.wait({telling_it, newer})

    async def _tell(self, model: _Model) -> None:
        what = model.what
        try:
            told = await asyncio.to_thread(self._read, what.model)
            why = occasion(what, told)
            if why is None:
                self._set(model, "ok", 0, f"knew {what.version} already")
                model.verdict = "unchanged"
                model.say("unchanged")
                model.again = []
                return
            model.sayings, model.again = [*model.sayings, *model.again], []
            await self._keep(what.model, about_to_tell(what, told))
            await self._attempts(model, what, why, known_before(told))
        except StoreError as fault:
            log.exception("hook.not_noted", model=what.model, reason=str(fault))
            self._set(model, "failed", 0, str(fault))
            model.verdict = f"failed: {fault}"
            model.say(model.verdict)

    async def _attempts(self, model: _Model, what: Telling, why: HookReason, previous: str) -> None:
        """Try until it works, or for ever."""
        path = await asyncio.to_thread(self._parts.store.loadable, what.model, what.version)
        attempt = 0
        while True:
            attempt += 1
            async with self._turns:
                self._set(model, "running", attempt - 1, model.status.detail)
                surroundings = environment(model.what, path=path, previous=previous, why=why, inherited=os.environ)
                ended = await carry_out(model.rule, surroundings)
            if ended.error is None:
                await self._keep(what.model, has_told(what))
            self._judge(model, why, attempt, ended)
            if ended.error is None or not self._settings.retry:
                return
            await asyncio.sleep(self._delay(attempt))

    def _delay(self, attempt: int) -> float:
        base, cap = self._settings.retry_base_seconds, self._settings.retry_cap_seconds
        # Half of it is certain, so that a hook that fails at once does not run in circles.
        jitter = 0.5 + random.random() / 2  # noqa: S311 -- spreads load, guards nothing
        return retry_delay(attempt, base_seconds=base, cap_seconds=cap, jitter=jitter).delay_seconds

    def _judge(self, model: _Model, why: HookReason, attempt: int, ended: Ended) -> None:
        """Say how an attempt ended: in the log, in the heartbeat, and to the fleet."""
        what, seconds = model.what, round(ended.seconds, 3)
        detail = f"failed: {ended.error}" if ended.error else f"ok in {ended.seconds:.2f} s"
        note = log.warning if ended.error else log.info
        note(
            "hook.ended",
            model=what.model,
            version=what.version,
            generation=what.generation,
            occasion=why,
            attempt=attempt,
            outcome=detail,
            seconds=seconds,
            output=ended.output,
        )
        self._set(model, "failed" if ended.error else "ok", attempt, ended.error or detail)
        self._parts.board.hurry()
        if ended.error and is_told_of(attempt):
            self._parts.say_first(_failed(self._parts.node, what, why, attempt, ended))
        elif not ended.error and attempt > 1:
            self._parts.say_first(
                HookRecovered(
                    node=self._parts.node,
                    model=what.model,
                    version=what.version,
                    generation=what.generation,
                    attempts=attempt,
                )
            )
        if model.verdict is None or not ended.error:
            model.verdict = detail
        model.say(detail)

    def _set(self, model: _Model, state: str, attempts: int, detail: str) -> None:
        model.status = _status(model.what, state, attempts, detail)
        self._renew()

    def _read(self, model: str) -> Told | None:
        text = self._parts.store.hooks.read(model)
        if text is None:
            return None
        with contextlib.suppress(ValueError):
            return Told.model_validate_json(text)
        return None

    async def _keep(self, model: str, told: Told) -> None:
        # To its end: a note that is written late would cover the one of a newer order.
        await finish(asyncio.to_thread(self._parts.store.hooks.write, model, told.model_dump_json().encode()))


def _status(what: Telling, state: str, attempts: int = 0, detail: str = "") -> HookStatus:
    return HookStatus.model_validate(
        {
            "state": state,
            "version": what.version,
            "generation": what.generation,
            "attempts": attempts,
            "detail": detail,
            "at": now(),
        }
    )


def _failed(node: str, what: Telling, why: HookReason, attempt: int, ended: Ended) -> HookFailed:
    return HookFailed(
        node=node,
        model=what.model,
        version=what.version,
        artifact=what.artifact,
        generation=what.generation,
        slot=what.slot,
        occasion=why,
        attempt=attempt,
        error=ended.error or "",
        output=ended.output,
        seconds=round(ended.seconds, 3),
    )
