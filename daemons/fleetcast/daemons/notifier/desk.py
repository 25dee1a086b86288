"""The desk: `fc.svc.notifier` in, how the channels are out; and a message to see whether one works."""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from fleetcast.bus import ServiceError
from fleetcast.config.notifier import NotifierSettings
from fleetcast.daemons.notifier import rules
from fleetcast.daemons.notifier.channels import Channel
from fleetcast.daemons.notifier.ledger import Ledger
from fleetcast.daemons.notifier.routing import PAGING
from fleetcast.daemons.notifier.state import Message, Outbox, Section
from fleetcast.daemons.runtime.requests import read_request
from fleetcast.events.content import Value
from fleetcast.events.incidents import Severity
from fleetcast.registry.commands import stamp

NOTIFIER_SUBJECT = "fc.svc.notifier.ask"


class AskStatus(Value):
    """How are the channels? `channel`: this one only."""

    ask: Literal["status"] = "status"
    channel: str | None = None


class AskTest(Value):
    """Send a message now, past all queues. `by`: whose idea it is."""

    ask: Literal["test"] = "test"
    channel: str | None = None
    by: str = Field(default="somebody", max_length=200)


_QUESTION: TypeAdapter[AskStatus | AskTest] = TypeAdapter(Annotated[AskStatus | AskTest, Field(discriminator="ask")])


class NotifierDesk:
    """Answers about channels."""

    def __init__(self, ledger: Ledger, settings: NotifierSettings, channels: Mapping[str, Channel], node: str) -> None:
        self._ledger = ledger
        self._settings = settings
        self._channels = channels
        self._node = node

    async def answer(self, body: bytes) -> bytes:
        """The answer to a question, as JSON.

        Raises:
            ServiceError: 400: it is none; 404: there is no such channel.
        """
        question = read_request(_QUESTION.validate_json, body)
        if question.channel is not None and question.channel not in self._channels:
            known = ", ".join(self._channels) or "none at all"
            raise ServiceError(404, f"no channel is called {question.channel[:60]!r}; there is {known}")
        names = [question.channel] if question.channel else list(self._channels)
        if isinstance(question, AskTest):
            rows = await asyncio.gather(*(self._test(name, question.by) for name in names))
        else:
            rows = [self.status(name) for name in names]
        return json.dumps({"node": self._node, "channels": list(rows)}).encode()

    def status(self, name: str) -> dict[str, Any]:
        """One channel in plain values."""
        outbox = self._ledger.outbox(name).value or Outbox(channel=name)
        waiting = [each for each in self._ledger.topics if name in each.wishes]
        under_way = outbox.message
        return {
            "channel": name,
            "kind": self._channels[name].kind,
            "state": "failing" if outbox.failing_since else "sending" if under_way else "ok",
            "waiting": len(waiting),
            "under_way": under_way.title if under_way else None,
            "attempts": outbox.attempts,
            "next_at": outbox.next_at,
            "failing_since": outbox.failing_since,
            "last_error": outbox.last_error or None,
            "last_error_at": outbox.last_error_at,
            "last_sent_at": outbox.last_sent_at,
            "sent": outbox.sent_total,
            "sent_last_hour": self._last_hour(outbox),
            "limit_per_hour": self._settings.channels[name].messages_per_hour,
            "parked": outbox.parked_total,
            "parked_messages": [
                {
                    "message": each.message.id,
                    "title": each.message.title,
                    "since": each.since,
                    "parked_at": each.parked_at,
                    "attempts": each.attempts,
                    "reason": each.reason,
                    "about": [member.topic for member in each.message.members],
                }
                for each in outbox.parked
            ],
        }

    def _last_hour(self, outbox: Outbox) -> int:
        hour = stamp(self._ledger.clock.now() - timedelta(hours=1))
        return sum(each > hour for each in outbox.sent)

    async def _test(self, name: str, by: str) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        channel, message = self._channels[name], trial(name, by, self._node, stamp(self._ledger.clock.now()))
        try:
            async with asyncio.timeout(self._settings.attempt_seconds):
                outcome = await channel.send(message)
                if channel.kind in PAGING and isinstance(outcome, rules.Sent):
                    # An alert stays open until somebody ends it, and nothing is wrong.
                    outcome = await channel.send(message.model_copy(update={"action": "resolve"}))
        except TimeoutError:
            outcome = rules.Later(f"no answer within {self._settings.attempt_seconds:g} s")
        said = outcome.detail if isinstance(outcome, rules.Sent) else outcome.reason
        return {
            "channel": name,
            "kind": channel.kind,
            "ok": isinstance(outcome, rules.Sent),
            "said": said,
            "seconds": round(loop.time() - began, 3),
        }


def trial(channel: str, by: str, node: str, at: str) -> Message:
    """A message that says that it is none; on channels with alerts it makes one of the lowest severity, which
    is resolved at once."""
    key = f"test-{channel}"
    only = Section(
        topic=key,
        kind="test",
        what="test",
        title="this is a test of fleetcast's notifications",
        severity=Severity.LOW,
        lines=(("what", f"{by} asked {node} to try this channel"), ("since", at), ("done", "nothing is wrong")),
        commands=(("look", f"fleetcast notify status {channel}"),),
        facts={"subject": node, "about": "channel", "since": at, "trigger": "test"},
    )
    return Message(
        id=f"{key}-{at.translate(str.maketrans('', '', ':-.'))}",
        channel=channel,
        alert=key,
        title="[TEST] this is a test of fleetcast's notifications",
        severity=Severity.LOW,
        sections=(only,),
        counts={"test": 1},
        made_at=at,
    )
