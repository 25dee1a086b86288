"""One channel, served: what is due is written down, sent, and noted. Whoever dies in between is followed by somebody
who sends the same message under the same id."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError, Conflict, OperationRefused, TransportFailed
from fleetcast.bus.retry import RESTART
from fleetcast.client.ulid import new_ulid
from fleetcast.config.notifier import NotifierSettings
from fleetcast.daemons.notifier import rules
from fleetcast.daemons.notifier.channels import Channel
from fleetcast.daemons.notifier.ledger import Ledger
from fleetcast.daemons.notifier.state import Message, Outbox, Parked
from fleetcast.daemons.notifier.trouble import Trouble

log = structlog.get_logger("fleetcast.notifier")

CLAIM_SECONDS = 60.0
"""How long a message of another notifier may stand still before it is taken over; beyond any attempt."""


def _local() -> datetime:
    return datetime.now().astimezone()


class Sender:
    """Serves one channel."""

    def __init__(
        self,
        bus: Bus,
        ledger: Ledger,
        settings: NotifierSettings,
        name: str,
        channel: Channel,
        *,
        local: Callable[[], datetime] = _local,
    ) -> None:
        self.name = name
        self._ledger = ledger
        self._settings = settings
        self._channel = channel
        self._turns = rules.Turns(name, settings)
        self._trouble = Trouble(bus, name, channel.kind)
        self._node = bus.node
        self._claim = f"{bus.node}:{new_ulid()}"
        self._local = local
        self._log = log.bind(channel=name, kind=channel.kind)

    async def run(self) -> None:
        """Serve until cancelled; when the bus is away, nothing goes out that could not be noted."""
        await self._ledger.known.wait()
        failures = 0
        while True:
            try:
                await self._ledger.clock.refresh()
                await self._turn()
                failures = 0
            except Conflict:
                failures += 1  # another notifier was quicker
                await asyncio.sleep(RESTART.delay(failures))
            except (TransportFailed, OperationRefused) as e:
                failures += 1
                self._log.warning("notice.waiting", reason=str(e))
                await asyncio.sleep(RESTART.delay(failures))

    async def _turn(self) -> None:
        seen, now = self._ledger.sequence, self._ledger.clock.now()
        found = self._ledger.outbox(self.name)
        assert found.value is not None
        outbox = found.value
        if outbox.message is not None:
            await self._go_on(outbox, found.sequence, seen, now)
            return
        if outbox.raised and outbox.failing_since is None:
            await self._trouble.over(now)
            await self._ledger.put_outbox(self.name, found.sequence, outbox.model_copy(update={"raised": False}))
            return
        turn = self._turns.next(self._ledger.topics, outbox, now, self._local())
        match turn:
            case rules.Say(message):
                begun = rules.begun(outbox, message, self._claim, now)
                await self._ledger.put_outbox(self.name, found.sequence, begun)
            case rules.Settle(members):
                await self._ledger.settle(self.name, members, now)
            case rules.Wait(until):
                await self._ledger.changed(seen, None if until is None else max((until - now).total_seconds(), 0.01))

    async def _go_on(self, outbox: Outbox, sequence: int, seen: int, now: datetime) -> None:
        """A message is under way: send it, or take it over from somebody who stands still."""
        due = datetime.fromisoformat(outbox.next_at) if outbox.next_at else now
        if outbox.claim != self._claim:
            if not self._is_orphan(outbox, due, now):
                await self._ledger.changed(seen, 1.0)
                return
            await self._ledger.put_outbox(self.name, sequence, rules.taken(outbox, self._claim))
            self._log.warning("notice.taken_over", message=outbox.message and outbox.message.id, before=outbox.claim)
            return
        if due > now:
            # Not woken by news: what is under way is what is sent.
            await asyncio.sleep((due - now).total_seconds())
            return
        await self._attempt(outbox)

    def _is_orphan(self, outbox: Outbox, due: datetime, now: datetime) -> bool:
        """Whether nobody sends a message any more: its notifier ran on this node and is gone, or it stands still."""
        if outbox.claim.partition(":")[0] == self._node:
            return True
        written = self._ledger.stored_at(self.name) or now
        return now - max(due, written) > timedelta(seconds=CLAIM_SECONDS + self._settings.attempt_seconds)

    async def _attempt(self, outbox: Outbox) -> None:
        message = outbox.message
        assert message is not None
        if not await self._is_mine():
            return
        outcome = await self._send(message)
        now = self._ledger.clock.now()
        match outcome:
            case rules.Sent():
                await self._delivered(outbox, message, now)
            case rules.Later() | rules.Refused():
                await self._failed(outbox, outcome, now)

    async def _is_mine(self) -> bool:
        """A last look before the effect: a notifier that stood still may have been replaced."""
        found = await self._ledger.read_outbox(self.name)
        return found.value is not None and found.value.claim == self._claim

    async def _send(self, message: Message) -> rules.Outcome:
        try:
            async with asyncio.timeout(self._settings.attempt_seconds):
                return await self._channel.send(message)
        except TimeoutError:
            return rules.Later(f"no answer within {self._settings.attempt_seconds:g} s", unsure=True)
        except Exception as e:
            # A fault of ours in one channel must not take the others with it; the message stays where it is.
            await asyncio.to_thread(self._log.error, "channel.crashed", exc_info=e)
            return rules.Later(f"a fault of its own: {type(e).__name__}", unsure=True)

    async def _delivered(self, outbox: Outbox, message: Message, now: datetime) -> None:
        told = {"message": message.id, "topics": len(message.members), "action": message.action}
        self._log.info("notice.sent", **told, attempts=outbox.attempts + 1, severity=message.severity.value)
        await self._note(message, rules.delivered(outbox, now), now)

    async def _failed(self, outbox: Outbox, outcome: rules.Later | rules.Refused, now: datetime) -> None:
        after, parked = rules.failed(outbox, outcome, self._settings, now)
        self._log.warning("notice.failed", attempts=outbox.attempts + 1, reason=outcome.reason, given_up=bool(parked))
        if rules.alarming(after, self._settings, now) and not outbox.raised:
            await self._trouble.raised(after, outcome.reason)
            after = after.model_copy(update={"raised": True})
        if parked is None:
            found = self._ledger.outbox(self.name)
            await self._ledger.put_outbox(self.name, found.sequence, after)
            return
        await self._park(parked, after, now)

    async def _park(self, parked: Parked, after: Outbox, now: datetime) -> None:
        await self._trouble.given_up(parked)
        await self._note(parked.message, after, now)

    async def _note(self, message: Message, after: Outbox, now: datetime) -> None:
        """Write what came of it, as often as it takes: it has happened."""
        failures = 0
        while True:
            try:
                await self._ledger.settle(self.name, message.members, now, after, claim=self._claim)
                return
            except BusError as e:
                failures += 1
                self._log.warning("notice.unnoted", message=message.id, reason=str(e))
                await asyncio.sleep(RESTART.delay(failures))
