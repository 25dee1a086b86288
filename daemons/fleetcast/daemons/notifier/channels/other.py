"""Whatever apprise knows, where it is installed: it tells text, and knows neither acknowledging nor resolving."""

import asyncio
from importlib import import_module
from typing import Any

from fleetcast.config.notifier import AppriseChannel
from fleetcast.daemons.notifier import compose
from fleetcast.daemons.notifier.channels.secrets import SecretMissing, read_secret
from fleetcast.daemons.notifier.rules import Later, Outcome, Refused, Sent
from fleetcast.daemons.notifier.state import Message

MISSING = "apprise is not installed: pip install 'fleetcast[apprise]'"
BODY = 30_000
_KINDS = {"critical": "failure", "high": "failure", "medium": "warning", "low": "info"}


class Apprise:
    """One address of apprise."""

    kind = "apprise"

    def __init__(self, settings: AppriseChannel) -> None:
        self._settings = settings

    async def send(self, message: Message) -> Outcome:
        return await asyncio.to_thread(self._send, message)

    def _send(self, message: Message) -> Outcome:
        library = _library()
        if library is None:
            return Later(MISSING)
        try:
            url = read_secret(self._settings.url)
        except SecretMissing as e:
            return Later(str(e))
        # Secure logging hides the address; nothing of the message is taken for a template or for an escape.
        asset = library.AppriseAsset(secure_logging=True, interpret_emojis=False, interpret_escapes=False)
        service = library.Apprise(asset=asset)
        if not service.add(url):
            return Refused("apprise does not know this address")
        over = all(each.over for each in message.members)
        notify_type = "success" if over else _KINDS[message.severity]
        sent = service.notify(
            title=message.title, body=compose.text(message)[:BODY], notify_type=notify_type, body_format="text"
        )
        return Sent("apprise has delivered it") if sent else Later("apprise could not deliver it", unsure=True)


def _library() -> Any:
    """apprise, imported when a message needs it: importing it takes a third of a second. None: it is not there."""
    try:
        return import_module("apprise")
    except ImportError:
        return None
