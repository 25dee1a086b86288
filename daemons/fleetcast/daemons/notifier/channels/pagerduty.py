"""PagerDuty: Events API v2, one alert per incident, under the incident's id."""

import asyncio
import json
from typing import Any, Final

from fleetcast.config.notifier import PagerDutyChannel
from fleetcast.daemons.notifier import compose
from fleetcast.daemons.notifier.channels.http import post
from fleetcast.daemons.notifier.channels.secrets import SecretMissing, read_secret
from fleetcast.daemons.notifier.rules import Later, Outcome
from fleetcast.daemons.notifier.state import Message
from fleetcast.events.incidents import Severity

SUMMARY, DEDUP_KEY, DETAILS = 1024, 255, 20_000
"""Characters of a summary, of a key, and, by choice of ours, of the details; an event has at most 512 KiB."""
SEVERITIES: Final = {
    Severity.CRITICAL: "critical",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "info",
}


def payload(message: Message, routing_key: str) -> dict[str, Any]:
    """The body of the request. An alert that is acknowledged or resolved needs its key only."""
    action = "trigger" if message.action == "tell" else message.action
    event: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": (message.alert or message.id)[:DEDUP_KEY],
    }
    if action != "trigger":
        return event
    first = message.sections[0]
    event["client"] = "fleetcast"
    event["payload"] = {
        "summary": message.title[:SUMMARY],
        "source": str(first.facts.get("subject") or message.channel),
        "severity": SEVERITIES[message.severity],
        "timestamp": str(first.facts.get("since") or message.made_at),
        "component": str(first.facts.get("about", "")),
        "group": str(first.facts.get("version") or first.kind),
        "class": str(first.facts.get("trigger") or first.what),
        "custom_details": _details(message),
    }
    links = [{"href": each.runbook, "text": "runbook"} for each in message.sections if _is_link(each.runbook)]
    if links:
        event["links"] = links[:5]
    return event


def _is_link(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _details(message: Message) -> dict[str, Any]:
    if len(message.sections) > 1 or message.more:
        return {"incidents": compose.text(message)[:DETAILS]}
    only = message.sections[0]
    details = {**dict(only.lines), **dict(only.commands)}
    if only.runbook:
        details["runbook"] = only.runbook
    if message.notes:
        details["notes"] = "; ".join(message.notes)
    return details


class PagerDuty:
    """One integration."""

    kind = "pagerduty"

    def __init__(self, settings: PagerDutyChannel) -> None:
        self._settings = settings

    async def send(self, message: Message) -> Outcome:
        try:
            key = await asyncio.to_thread(read_secret, self._settings.routing_key)
        except SecretMissing as e:
            return Later(str(e))
        body = json.dumps(payload(message, key)).encode()
        return await post(self._settings.url, body, {"Content-Type": "application/json"})
