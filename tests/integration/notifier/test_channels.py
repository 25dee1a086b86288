"""Every channel against a real server, in good and in bad health."""

import asyncio
import hashlib
import hmac
import shutil
import ssl
import subprocess
import threading
import time
from base64 import b64decode, b64encode
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from tests.integration.notifier.servers import (
    Behaviour,
    HttpServer,
    SmtpServer,
    dribble,
    endless,
    garbage,
    hang_up,
    redirect,
    running,
    too_many,
)
from tests.unit.notifier.builders import World, opened
from tests.unit.notifier.test_rules import said

from fleetcast.config.notifier import (
    AppriseChannel,
    MailChannel,
    PagerDutyChannel,
    SlackChannel,
    WebhookChannel,
)
from fleetcast.daemons.notifier.channels.mail import Mail, _Visit
from fleetcast.daemons.notifier.channels.other import Apprise
from fleetcast.daemons.notifier.channels.pagerduty import PagerDuty
from fleetcast.daemons.notifier.channels.slack import Slack
from fleetcast.daemons.notifier.channels.webhook import Webhook
from fleetcast.daemons.notifier.rules import Later, Outcome, Refused, Sent
from fleetcast.daemons.notifier.state import Message

pytestmark = pytest.mark.asyncio


def message(**changes: Any) -> Message:
    world = World()
    world.takes(opened(**changes))
    return said(world, "oncall" if changes.pop("pages", False) else "team", 10)


@pytest.fixture
def secret(tmp_path: Path) -> Any:
    def keep(text: str) -> str:
        path = tmp_path / f"secret-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        path.write_text(f"{text}\n")
        return str(path)

    return keep


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that nobody knows, and a server's context with it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return cert, context


async def slack_of(server: HttpServer, keep: Any) -> Slack:
    return Slack(SlackChannel(kind="slack", url=keep(server.url)))


async def test_slack_gets_blocks(secret: Any) -> None:
    server = HttpServer()
    async with running(server):
        outcome = await (await slack_of(server, secret)).send(message())

    assert outcome == Sent("127.0.0.1 answers 200")
    document = server.accepted[0].document
    assert document["blocks"][0]["text"]["text"].startswith("[HIGH] opened: fraud")
    assert "`fleetcast ack inc-1`" in document["blocks"][1]["text"]["text"]


async def test_pagerduty_gets_an_event_of_its_api(secret: Any) -> None:
    server = HttpServer()
    server.usually = 202
    async with running(server):
        channel = PagerDuty(PagerDutyChannel(kind="pagerduty", routing_key=secret("R" * 32), url=server.url))
        world = World()
        world.takes(opened(severity="critical"))
        outcome = await channel.send(said(world, "oncall", 10))

    assert isinstance(outcome, Sent)
    event = server.accepted[0].document
    assert (event["routing_key"], event["event_action"], event["dedup_key"]) == ("R" * 32, "trigger", "inc-1")
    assert event["payload"]["severity"] == "critical"
    assert event["payload"]["source"] == "fraud"


async def test_webhook_is_signed_so_that_whoever_knows_the_key_can_tell(secret: Any) -> None:
    server, key = HttpServer(), b64encode(b"k" * 24).decode()
    async with running(server):
        channel = Webhook(WebhookChannel(kind="webhook", url=server.url, secret=secret(f"whsec_{key}")))
        assert isinstance(await channel.send(message()), Sent)

    request = server.accepted[0]
    assert request.document["schema"] == "fleetcast.notification.v1"
    told = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    mac = b64encode(hmac.new(b64decode(key), told, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{mac}"
    assert request.headers["webhook-id"] == request.document["id"]


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (too_many("7"), Later("127.0.0.1 answers 429", after_seconds=7.0)),
        (too_many("soon"), Later("127.0.0.1 answers 429")),
        (500, Later("127.0.0.1 answers 500")),
        (503, Later("127.0.0.1 answers 503")),
        (404, Later("127.0.0.1 answers 404")),
        (400, Refused("127.0.0.1 answers 400")),
        (hang_up, Later("127.0.0.1: the connection ended before the answer", unsure=True)),
        (garbage, Later("127.0.0.1 answers with something that is not HTTP", unsure=True)),
        (endless, Sent("127.0.0.1 answers 200")),
    ],
)
async def test_server_in_bad_health_is_judged(behaviour: Behaviour | int, expected: Outcome, secret: Any) -> None:
    server = HttpServer()
    server.script = [behaviour]
    async with running(server):
        async with asyncio.timeout(30):
            assert await (await slack_of(server, secret)).send(message()) == expected


async def test_redirect_is_not_followed_because_the_message_would_go_where_nobody_sent_it(secret: Any) -> None:
    server, thief = HttpServer(), HttpServer()
    async with running(server), running(thief):
        server.script = [redirect(thief.url)]
        outcome = await (await slack_of(server, secret)).send(message())

    assert outcome == Later("127.0.0.1 answers 307, a redirect, which is not followed")
    assert thief.connections == 0


async def test_server_that_dribbles_is_cut_off_by_whoever_limits_the_attempt(secret: Any) -> None:
    server = HttpServer()
    server.script = [dribble]
    async with running(server):
        channel = await slack_of(server, secret)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await channel.send(message())
        assert time.monotonic() - began < 20


async def test_server_that_is_down_is_tried_again_later(secret: Any) -> None:
    server = HttpServer()
    async with running(server):
        channel = await slack_of(server, secret)

    outcome = await channel.send(message())

    assert isinstance(outcome, Later)
    assert not outcome.unsure


async def test_address_in_the_clear_is_refused_except_on_this_machine(secret: Any) -> None:
    channel = Slack(SlackChannel(kind="slack", url=secret("http://hooks.slack.com/services/T0/B0/very-secret")))

    outcome = await channel.send(message())

    assert isinstance(outcome, Later)
    assert "https is needed" in outcome.reason
    assert "very-secret" not in outcome.reason


@pytest.mark.parametrize("url", ["https://u:p@h/", "ftp://h/x", "https:///x", "http://[::1", "https://h/ x", "x"])
async def test_address_that_is_none_is_refused_without_being_shown(url: str, secret: Any) -> None:
    outcome = await Slack(SlackChannel(kind="slack", url=secret(url))).send(message())

    assert isinstance(outcome, Later)
    assert url not in outcome.reason


async def test_secret_that_is_missing_is_named_by_its_place(tmp_path: Path) -> None:
    outcome = await Slack(SlackChannel(kind="slack", url=str(tmp_path / "none"))).send(message())

    assert outcome == Later(f"{tmp_path / 'none'} cannot be read: No such file or directory")


async def test_secret_may_come_from_the_service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Slack(SlackChannel(kind="slack", url="credential:slack"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert isinstance(await channel.send(message()), Later)
    server = HttpServer()
    async with running(server):
        (tmp_path / "slack").write_text(server.url)
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

        assert isinstance(await channel.send(message()), Sent)


async def test_unknown_certificate_is_refused_and_a_known_one_is_not(
    certificate: tuple[Path, ssl.SSLContext],
) -> None:
    cert, context = certificate
    server = HttpServer()
    server.context = context
    async with running(server):
        url = server.url.replace("http:", "https:")
        strange = await Webhook(WebhookChannel(kind="webhook", url=url)).send(message())
        known = await Webhook(WebhookChannel(kind="webhook", url=url, ca=str(cert))).send(message())

    assert isinstance(strange, Later)
    assert "cannot be trusted" in strange.reason
    assert isinstance(known, Sent)


# -- mail


def mail(server: SmtpServer, **changes: Any) -> Mail:
    fields = {"host": "127.0.0.1", "port": server.port, "security": "plain", "sender": "fleet@example.org"}
    chosen = MailChannel.model_validate({"kind": "mail", **fields, "to": ["ana@example.org"], **changes})
    return Mail(chosen, attempt_seconds=5.0)


async def test_mail_is_delivered_with_all_that_a_person_needs() -> None:
    server = SmtpServer()
    async with running(server):
        assert await mail(server, to=["a@example.org", "b@example.org"]).send(message()) == Sent("127.0.0.1 has it")

    (letter,) = server.letters
    assert (letter.sender, letter.to) == ("fleet@example.org", ["a@example.org", "b@example.org"])
    assert letter.mail["Subject"] == "[HIGH] opened: fraud@3.2.1: error rate above its limit"
    assert letter.mail["References"] == "<inc-1@example.org>"
    assert letter.mail["Auto-Submitted"] == "auto-generated"
    text = letter.mail.get_content()
    for words in ("error rate 8.50 %, limit 5 %", "fleetcast rollback fraud", "fleetcast ack inc-1", "error-rate.md"):
        assert words in text


async def test_title_that_attacks_the_headers_is_one_line_of_the_subject() -> None:
    world = World()
    evil = opened(title="x: y").model_copy(update={"title": "x\r\nBcc: thief@evil.example\r\n\r\nbody\x00"})
    world.takes(evil)
    server = SmtpServer()
    async with running(server):
        await mail(server).send(said(world, "team", 10))

    (letter,) = server.letters
    assert letter.mail["Bcc"] is None
    assert letter.to == ["ana@example.org"]
    assert "Bcc: thief@evil.example" in letter.mail["Subject"]


async def test_line_that_is_a_dot_does_not_end_the_mail() -> None:
    world = World()
    world.takes(opened(description=".\r\nQUIT"))
    server = SmtpServer()
    async with running(server):
        await mail(server).send(said(world, "team", 10))

    assert "runbook" in server.letters[0].mail.get_content()


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_password_is_sent_only_to_a_server_that_is_known(
    security: str, certificate: tuple[Path, ssl.SSLContext], secret: Any
) -> None:
    cert, context = certificate
    server = SmtpServer(tls=context, password="hunter2")
    server.context = context if security == "tls" else None
    login = {"security": security, "user": "fleet", "password": secret("hunter2")}
    async with running(server):
        strange = await mail(server, **login).send(message())
        wrong = await mail(server, **{**login, "password": secret("nope")}, ca=str(cert)).send(message())
        known = await mail(server, **login, ca=str(cert)).send(message())

    assert isinstance(strange, Later)
    assert "cannot be trusted" in strange.reason
    assert wrong == Later("127.0.0.1 refuses the login (535)")
    assert isinstance(known, Sent)
    assert [(each.secure, each.user) for each in server.letters] == [(True, "fleet")]


async def test_server_without_encryption_gets_nothing_when_it_was_asked_for() -> None:
    server = SmtpServer()
    async with running(server):
        outcome = await mail(server, security="starttls").send(message())

    assert isinstance(outcome, Later)
    assert not server.letters


@pytest.mark.parametrize(
    ("verb", "said_instead", "kind"),
    [
        ("connect", "421 busy", Later),
        ("RCPT", "450 later", Later),
        ("RCPT", "550 nobody", Refused),
        ("DATA", "451 later", Later),
        ("data_end", "554 spam", Refused),
        ("data_end", "452 full", Later),
        ("MAIL", "\x00\xffgarbage", Later),
        ("QUIT", "500 what", Sent),
    ],
)
async def test_mail_server_in_bad_health_is_judged(verb: str, said_instead: str, kind: type) -> None:
    server = SmtpServer()
    server.faults = {verb: said_instead}
    async with running(server):
        assert isinstance(await mail(server).send(message()), kind)


async def came_back(monkeypatch: pytest.MonkeyPatch, seconds: float) -> bool:
    """Whether the thread of an attempt at a server that says nothing comes back within *seconds* of its end."""
    returned, deliver = threading.Event(), _Visit.deliver

    def noted(visit: _Visit, letter: EmailMessage) -> Outcome:
        try:
            return deliver(visit, letter)
        finally:
            returned.set()

    monkeypatch.setattr(_Visit, "deliver", noted)
    server = SmtpServer()
    server.mute = True
    async with running(server):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await Mail(mail(server)._settings, attempt_seconds=3600).send(message())
        return await asyncio.to_thread(returned.wait, seconds)


async def test_mail_server_that_says_nothing_is_left_in_time_and_its_thread_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await came_back(monkeypatch, 30)


async def test_thread_that_is_not_cut_off_would_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Visit, "end", lambda _: None)

    assert not await came_back(monkeypatch, 0.5)


# -- apprise


async def test_apprise_that_is_not_installed_says_what_to_install(secret: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)

    outcome = await Apprise(AppriseChannel(kind="apprise", url=secret("json://127.0.0.1"))).send(message())

    assert outcome == Later("apprise is not installed: pip install 'fleetcast[apprise]'")
