"""`fleetcast notify`: whether people are told."""

import json
from typing import Any

from fleetcast.bus.errors import BusTimeout, NoResponder, ServiceFailed
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, person, target
from fleetcast.cli.narrate import printable
from fleetcast.cli.problems import Exit, Problem, not_found
from fleetcast.cli.running import run_async
from fleetcast.cli.table import table
from fleetcast.cli.units import clock
from fleetcast.daemons.notifier.desk import NOTIFIER_SUBJECT

ANSWER_SECONDS = 75.0
"""Longer than a notifier may try a channel."""


def status(call: Call, channel: str | None) -> Exit:
    """Every channel in a line, and what was given up."""
    answer = run_async(_ask(target(call), {"ask": "status", "channel": channel}))
    rows = answer["channels"]
    call.out.document(answer)
    call.out.show(
        table(
            ("CHANNEL", "KIND", "STATE", "WAITING", "SENT", "LAST HOUR", "PARKED", "LAST SENT", "LAST ERROR"),
            [_row(each) for each in rows],
            right=(3, 4, 5, 6),
        )
    )
    for each in rows:
        for parked in each["parked_messages"]:
            why = f"{parked['attempts']} tries since {_when(parked['since'])}: {parked['reason']}"
            call.out.text(printable(f"parked on {each['channel']}: {parked['title']} ({why})"))
    if not rows:
        call.out.say("no channel is configured, so nobody is told; [notifier.channels.NAME] names one")
    failing = any(each["state"] == "failing" for each in rows)
    if failing:
        call.out.say("try a channel: fleetcast notify test CHANNEL")
    return Exit.FAILED if failing else Exit.OK


def _row(each: dict[str, Any]) -> tuple[object, ...]:
    return (
        each["channel"],
        each["kind"],
        each["state"],
        each["waiting"],
        each["sent"],
        f"{each['sent_last_hour']} of {each['limit_per_hour']}",
        each["parked"],
        _when(each["last_sent_at"]),
        each["last_error"] or "-",
    )


def _when(at: str | None) -> str:
    from datetime import datetime

    return clock(datetime.fromisoformat(at)) if at else "-"


def test(call: Call, channel: str | None) -> Exit:
    """A message through one channel or all, and what came of it."""
    answer = run_async(_ask(target(call), {"ask": "test", "channel": channel, "by": person()}))
    rows = answer["channels"]
    call.out.document(answer)
    shown = [(r["channel"], r["kind"], "ok" if r["ok"] else "failed", f"{r['seconds']:.2f} s", r["said"]) for r in rows]
    call.out.show(table(("CHANNEL", "KIND", "RESULT", "TIME", "WHAT IT SAID"), shown, right=(3,)))
    if not rows:
        call.out.say("no channel is configured, so nobody is told; [notifier.channels.NAME] names one")
    return Exit.OK if rows and all(each["ok"] for each in rows) else Exit.FAILED


async def _ask(aim: Target, question: dict[str, str | None]) -> dict[str, Any]:
    asked = {name: value for name, value in question.items() if value is not None}
    async with connected(aim) as bus:
        try:
            answer = await bus.request(NOTIFIER_SUBJECT, json.dumps(asked).encode(), ANSWER_SECONDS)
        except NoResponder as error:
            raise Problem(
                "no_notifier",
                "no notifier runs, so nobody is told of anything",
                why=str(error),
                next_step="fleetcast run notifier",
            ) from error
        except BusTimeout as error:
            raise Problem(
                "no_answer", "the notifier does not answer", why=str(error), next_step="fleetcast doctor"
            ) from error
        except ServiceFailed as error:
            if error.code == 404:
                raise not_found(str(error), next_step="fleetcast notify status") from error
            raise Problem("notifier", str(error), next_step="fleetcast notify status") from error
    document: dict[str, Any] = json.loads(answer)
    return document
