"""A webhook of your own: JSON, signed as Standard Webhooks 1.0 has it (standardwebhooks.com): HMAC-SHA256 over
`id.timestamp.body`, so that neither the content nor an old message can be passed off as a new one."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import time
from typing import Any

from fleetcast.config.notifier import WebhookChannel
from fleetcast.daemons.notifier.channels.http import post
from fleetcast.daemons.notifier.channels.secrets import SecretMissing, read_secret
from fleetcast.daemons.notifier.rules import Later, Outcome
from fleetcast.daemons.notifier.state import Message

SCHEMA = "fleetcast.notification.v1"
PREFIX = "whsec_"


def payload(message: Message) -> dict[str, Any]:
    """The document, as docs/notifications.md describes it."""
    return {
        "schema": SCHEMA,
        "id": message.id,
        "channel": message.channel,
        "action": message.action,
        "severity": message.severity.value,
        "title": message.title,
        "made_at": message.made_at,
        "maybe_repeated": message.again,
        "counts": message.counts,
        "more": message.more,
        "about": [each.topic for each in message.members],
        "notes": list(message.notes),
        "topics": [
            {
                **each.facts,
                "what": each.what,
                "runbook": each.runbook,
                "commands": dict(each.commands),
            }
            for each in message.sections
        ],
    }


def signed(message_id: str, body: bytes, secret: str, timestamp: int) -> dict[str, str]:
    """The headers that prove who sent *body*, and when.

    *secret*: `whsec_` and base 64, as the standard writes it, or any other text, which is then the key itself.
    """
    told = f"{message_id}.{timestamp}.".encode() + body
    mac = base64.b64encode(hmac.new(_key(secret), told, hashlib.sha256).digest()).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{mac}"}


def _key(secret: str) -> bytes:
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        return secret.encode()


class Webhook:
    """One address."""

    kind = "webhook"

    def __init__(self, settings: WebhookChannel) -> None:
        self._settings = settings

    async def send(self, message: Message) -> Outcome:
        body = json.dumps(payload(message), ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "webhook-id": message.id}
        if self._settings.secret:
            try:
                secret = await asyncio.to_thread(read_secret, self._settings.secret)
            except SecretMissing as e:
                return Later(str(e))
            headers |= signed(message.id, body, secret, int(time.time()))
        return await post(self._settings.url, body, headers, ca=self._settings.ca)
