"""What each channel is sent: text, sizes, and what cannot be done with text from elsewhere."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.unit.notifier.builders import PAGES, SLACK, World, changed, opened, settings
from tests.unit.notifier.test_rules import said

from fleetcast.config.notifier import MailChannel, NotifierSettings
from fleetcast.daemons.notifier import compose
from fleetcast.daemons.notifier.channels import mail, pagerduty, slack, webhook
from fleetcast.daemons.notifier.state import Message

BOX = MailChannel(kind="mail", host="h", sender="fleet@example.org", to=("ana@example.org",))


def one(**changes: Any) -> Message:
    world = World(settings(runbooks="https://wiki.example.org/run/"))
    world.takes(opened(**changes))
    world.takes(changed("mitigated", "mitigated", detail="model_rollback: 3 of 3 nodes serve 3.1.5", **changes))
    return said(world, "team", 10)


def test_mail_says_what_since_when_the_numbers_what_was_done_what_to_type_and_where_to_read() -> None:
    assert compose.text(one()) == (
        "[HIGH] opened, mitigated: fraud@3.2.1: error rate above its limit\n"
        "  what     fraud@3.2.1 (ml model): error_rate, noticed by monitor\n"
        "  since    2026-11-21 09:30:00 UTC\n"
        "  numbers  error rate 8.50 %, limit 5 %\n"
        "  state    mitigated by monitor\n"
        "  done     model_rollback: 3 of 3 nodes serve 3.1.5\n"
        "  undo     fleetcast release fraud@3.2.1 --reason inc-1\n"
        "  look     fleetcast incident inc-1\n"
        "  runbook  https://wiki.example.org/run/error-rate.md\n"
    )


def test_storm_is_told_by_its_ten_worst_and_a_count() -> None:
    world = World()
    for number in range(40):
        severity = "critical" if number == 33 else "high"
        world.takes(opened(f"inc-{number}", resource_id=f"m{number}", title=f"m{number} fails", severity=severity))

    message = said(world, "team", 10)

    text = compose.text(message)
    assert text.startswith("[CRITICAL] opened: m33 fails\n")
    assert text.endswith("And 30 more: fleetcast incidents\n")
    assert message.title == "[CRITICAL] 40 at once: 40 opened"


def test_slack_cannot_be_made_to_mention_link_or_format() -> None:
    evil = "<!channel> <https://evil.example|click> & *bold* `code` <@U1>"
    world = World()
    world.takes(opened(title=evil, description=evil))

    document = json.dumps(slack.payload(said(world, "team", 10)), ensure_ascii=False)

    assert "<!" not in document
    assert "<@" not in document
    assert "<https" not in document
    assert "&lt;!channel&gt;" in document


def test_pagerduty_gets_nothing_but_the_key_to_resolve_an_alert() -> None:
    world = World()
    world.takes(opened())
    said(world, "oncall", 10)
    world.takes(changed("resolved", "resolved"), seconds=20)

    event = pagerduty.payload(said(world, "oncall", 20), "R")

    assert event == {"routing_key": "R", "event_action": "resolve", "dedup_key": "inc-1"}


@pytest.mark.parametrize(
    ("ours", "theirs"), [("critical", "critical"), ("high", "error"), ("medium", "warning"), ("low", "info")]
)
def test_severity_is_one_of_pagerdutys(ours: str, theirs: str) -> None:
    assert pagerduty.payload(one(severity=ours) if ours != "low" else _low(), "R")["payload"]["severity"] == theirs


def _low() -> Message:
    world = World(settings(routes=[{"channels": ["team"], "severity": "low"}]))
    world.takes(opened(severity="low"))
    return said(world, "team", 10)


def test_webhook_has_everything_by_name() -> None:
    document = webhook.payload(one())

    (topic,) = document["topics"]
    assert (document["about"], document["action"], document["counts"]) == (["inc-1"], "tell", {"opened, mitigated": 1})
    assert (topic["topic"], topic["subject"], topic["version"], topic["phase"]) == (
        "inc-1",
        "fraud",
        "3.2.1",
        "mitigated",
    )
    assert topic["commands"]["undo"] == "fleetcast release fraud@3.2.1 --reason inc-1"
    assert "wishes" not in topic
    assert "told" not in topic


def test_signature_is_the_one_of_the_standards_own_example() -> None:
    headers = webhook.signed(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        1614265330,
    )

    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.text(max_size=400), st.text(max_size=2000), st.lists(st.text(max_size=500), max_size=8))
def test_whatever_an_incident_says_every_channel_takes_it(title: str, words: str, reasons: list[str]) -> None:
    world = World()
    odd = opened().model_copy(update={"title": title, "description": words, "context": {"reasons": reasons}})
    world.takes(odd)
    message = said(world, "team", 10)

    letter = mail.letter(message, BOX)
    blocks = slack.payload(message)
    alert = pagerduty.payload(message, "R")

    assert letter.as_bytes()
    assert letter["To"] == "ana@example.org"
    assert letter["Bcc"] is None
    assert len(blocks["blocks"]) <= slack.BLOCKS
    assert all(len(each["text"]["text"]) <= slack.TEXT for each in blocks["blocks"])
    assert len(alert["payload"]["summary"]) <= pagerduty.SUMMARY
    assert json.dumps(webhook.payload(message))


def test_largest_message_stays_within_the_limits_of_every_channel() -> None:
    world = World()
    for number in range(300):
        odd = opened(f"inc-{number}", resource_id=f"m{number}", version="v" * 64).model_copy(
            update={"title": "&" * 200, "description": "<" * 2000, "context": {"reasons": ["*" * 2000] * 50}}
        )
        world.takes(odd)

    message = said(world, "team", 10)

    assert len(message.model_dump_json().encode()) < 100_000
    assert all(len(each["text"]["text"]) <= slack.TEXT for each in slack.payload(message)["blocks"])
    assert len(json.dumps(pagerduty.payload(message, "R"))) < 100_000


@pytest.mark.parametrize(
    "channel",
    [
        {"kind": "slack", "url": "https://hooks.slack.com/services/T/B/secret"},
        {"kind": "slack", "url": "relative/path"},
        {"kind": "pagerduty", "routing_key": "R0123456789"},
        {"kind": "mail", "host": "h", "sender": "a@b\nBcc: c", "to": ["a@b"]},
        {"kind": "mail", "host": "h", "sender": "a@b", "to": ["a@b, c@d"]},
        {"kind": "mail", "host": "h", "sender": "a@b", "to": ["a@b"], "user": "u"},
        {
            "kind": "mail",
            "host": "h",
            "sender": "a@b",
            "to": ["a@b"],
            "user": "u",
            "password": "/p",
            "security": "plain",
        },
        {"kind": "webhook", "url": "file:///etc/passwd"},
        {"kind": "pigeon"},
    ],
)
def test_channel_with_a_secret_or_an_attack_in_its_settings_is_refused(channel: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        NotifierSettings.model_validate({"channels": {"x": channel}})


def test_route_to_a_channel_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"no \[notifier.channels.nobody\]"):
        NotifierSettings.model_validate({"channels": {"a": SLACK, "b": PAGES}, "routes": [{"channels": ["nobody"]}]})
