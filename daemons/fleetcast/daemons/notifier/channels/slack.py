"""Slack: an incoming webhook, with blocks (Slack's Block Kit; the limits are those of its reference)."""

import asyncio
import json
from typing import Any, Final

from fleetcast.config.notifier import SlackChannel
from fleetcast.daemons.notifier.channels.http import post
from fleetcast.daemons.notifier.channels.secrets import SecretMissing, read_secret
from fleetcast.daemons.notifier.rules import Later, Outcome
from fleetcast.daemons.notifier.state import Message, Section
from fleetcast.daemons.notifier.topics import line

_BRACKETS: Final = str.maketrans("<>", "\u2039\u203a")
HEADER, TEXT, BLOCKS = 150, 3000, 50
"""Characters of a header and of a section, and blocks of a message, at most."""
_MARKS: Final = {"critical": ":red_circle:", "high": ":large_orange_circle:", "medium": ":large_yellow_circle:"}


def escaped(text: str) -> str:
    """*text* as mrkdwn takes it literally: no mention, no link, no formatting can be made with it."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A zero-width joiner keeps formatting signs from pairing; it shows nothing.
    return "".join(f"{sign}\u2060" if sign in "*_~`" else sign for sign in plain)


def _code(text: str) -> str:
    plain = text.replace("`", "'")
    return f"`{plain.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}`"


def _clipped(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    # Not inside an entity, which would show as what it was to hide.
    cut = text[: limit - 1]
    amp = cut.rfind("&", max(len(cut) - 6, 0))
    if amp >= 0 and ";" not in cut[amp:]:
        cut = cut[:amp]
    return f"{cut}…"


def payload(message: Message) -> dict[str, Any]:
    """The body of the request."""
    blocks: list[dict[str, Any]] = [_header(message.title)]
    alone = len(message.sections) == 1
    blocks.extend(_mrkdwn(_clipped(_section(each, alone=alone), TEXT)) for each in message.sections)
    tail = [f"And {message.more} more: {_code('fleetcast incidents')}"] if message.more else []
    tail += [escaped(note) for note in message.notes]
    if message.again:
        tail.append("This may be a repetition: whether it was delivered before is not known.")
    if tail:
        blocks.append(_mrkdwn(_clipped("\n".join(tail), TEXT)))
    return {"text": _clipped(escaped(message.title), TEXT), "blocks": blocks[:BLOCKS], "unfurl_links": False}


def _header(text: str) -> dict[str, Any]:
    # Plain text is not escaped; other signs for those that could begin a mention leave no doubt.
    plain = line(text, HEADER).translate(_BRACKETS)
    return {"type": "header", "text": {"type": "plain_text", "text": plain, "emoji": False}}


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def _section(each: Section, *, alone: bool) -> str:
    mark = _MARKS.get(each.severity, ":white_circle:")
    head = f"{mark} *{escaped(each.what)}*" + ("" if alone else f" {escaped(each.title)}")
    rows = [f"*{name}* {escaped(value)}" for name, value in each.lines]
    rows += [f"*{name}* {_code(command)}" for name, command in each.commands]
    if each.runbook:
        rows.append(f"*runbook* {escaped(each.runbook)}")
    return "\n".join([head, *rows])


class Slack:
    """One incoming webhook."""

    kind = "slack"

    def __init__(self, settings: SlackChannel) -> None:
        self._settings = settings

    async def send(self, message: Message) -> Outcome:
        try:
            url = await asyncio.to_thread(read_secret, self._settings.url)
        except SecretMissing as e:
            return Later(str(e))
        body = json.dumps(payload(message), ensure_ascii=False).encode()
        return await post(url, body, {"Content-Type": "application/json; charset=utf-8"})
