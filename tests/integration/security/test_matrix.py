"""Every role against every subject, on a real server with TLS and the configuration that `fleetcast fleet` writes.

What is expected is `matrix.txt`, which a person can read; it says nothing by way of the code that it judges."""

import asyncio
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nats
import pytest
from tests.integration.security.conftest import Secured

from fleetcast.bus.credentials import auth_options
from fleetcast.bus.streams import STREAMS
from fleetcast.config.settings import BusSettings
from fleetcast.events.names import CATALOGUE
from fleetcast.registry.commands import VERBS
from fleetcast.security import roles, servers
from fleetcast.security.roles import Role

pytestmark = pytest.mark.asyncio(loop_scope="module")

TABLE = Path(__file__).with_name("matrix.txt")
LETTERS = {
    "D": Role.DEPLOY,
    "C": Role.CONTROL,
    "N": Role.NODE,
    "T": Role.TRAINER,
    "P": Role.PUBLISHER,
    "E": Role.EVALUATOR,
    "R": Role.PROMOTER,
    "O": Role.OPERATOR,
    "L": Role.ON_CALL,
}
VIOLATION = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]+)\"", re.IGNORECASE)
SOURCES = ("config", "events", "transport", "daemons")


@dataclass(frozen=True)
class Row:
    do: str
    subject: str
    allowed: frozenset[Role]

    def concrete(self, name: str) -> str:
        return self.subject.replace("OWN", name)


def table() -> list[Row]:
    rows = []
    for line in TABLE.read_text().splitlines():
        if line and not line.startswith("#"):
            do, subject, letters = line.split()
            assert len(letters) == len(LETTERS), line
            rows.append(Row(do, subject, frozenset(LETTERS[letter] for letter in letters if letter != ".")))
    assert len(rows) > 300
    return rows


async def refused(settings: BusSettings, rows: Iterable[Row], name: str) -> set[tuple[str, str]]:
    """What the server refuses of *rows* to the key of *settings*."""
    found: set[tuple[str, str]] = set()

    async def note(error: Exception) -> None:
        match = VIOLATION.search(str(error))
        if match is None:
            # What an encrypted connection says when it is closed is no answer.
            assert isinstance(error, ssl.SSLError), error
            return
        found.add(("publish" if match[1].lower() == "publish" else "hear", match[2].lower()))

    options = await asyncio.to_thread(auth_options, settings)
    client = await nats.connect(
        settings.url, error_cb=note, allow_reconnect=False, inbox_prefix=f"_INBOX.{name}", **options
    )
    try:
        for row in rows:
            if row.do == "hear":
                await client.subscribe(row.concrete(name), cb=_ignore)
            else:
                await client.publish(row.concrete(name), b"")
        # Its own flush sends a PING past the messages that wait to be written.
        await client._flush_pending(force_flush=True)
        await client.flush(30)
    finally:
        await client.close()
    return found


async def _ignore(_message: object) -> None:
    pass


async def differences(fleet: Secured, role: Role) -> list[str]:
    """Where the server does otherwise than the table says, for one role."""
    rows, name = table(), role.value
    said_no = await refused(fleet.settings(name), rows, name)
    wrong = []
    for row in rows:
        denied = (row.do, row.concrete(name).lower()) in said_no
        if denied is (role in row.allowed):
            wrong.append(f"{name} {'may not' if denied else 'may'} {row.do} {row.concrete(name)}")
    return wrong


@pytest.mark.parametrize("role", list(LETTERS.values()), ids=lambda role: role.value)
async def test_a_role_may_do_what_the_table_says_and_nothing_else(fleet: Secured, role: Role) -> None:
    assert await differences(fleet, role) == []


async def test_the_key_for_the_servers_reaches_nothing_of_the_fleet(fleet: Secured) -> None:
    options = await asyncio.to_thread(auth_options, fleet.settings("system"))
    client = await nats.connect(fleet.settings("system").url, allow_reconnect=False, **options)
    try:
        answer = await client.request("$JS.API.STREAM.INFO.FC_REGISTRY", b"", timeout=10)
        assert b"JetStream not enabled for account" in answer.data
        assert b"fc" in (await client.request("$SYS.REQ.SERVER.PING.VARZ", b"", timeout=10)).data
    finally:
        await client.close()


async def test_a_publisher_can_ask_and_not_approve() -> None:
    allowed = {row.subject: row.allowed for row in table() if row.do == "publish"}

    assert Role.PUBLISHER in allowed["fc.ev.model.promoted.x"]
    for subject in ("transition", "transition.approve", "transition.promote", "transition.rollback"):
        assert Role.PUBLISHER not in allowed[f"fc.svc.registry.{subject}"]
    assert allowed["fc.reg.state.slot.x"] == {Role.CONTROL}


async def test_nobody_may_delete_or_purge_a_stream_and_only_deploy_declares_one() -> None:
    for row in table():
        if row.subject.startswith(("$JS.API.STREAM.DELETE.", "$JS.API.STREAM.PURGE.")):
            assert not row.allowed, row
        if row.subject.startswith(("$JS.API.STREAM.CREATE.", "$JS.API.STREAM.UPDATE.")):
            assert row.allowed <= {Role.DEPLOY}, row


async def test_every_event_command_and_stream_has_a_row() -> None:
    there = {row.subject for row in table() if row.do == "publish"}
    wanted = {entry.subject("x") for entry in CATALOGUE}
    wanted |= {f"fc.svc.registry.transition.{verb}" for verb in VERBS}
    wanted |= {f"$JS.API.STREAM.{verb}.{spec.name}" for spec in STREAMS for verb in ("CREATE", "DELETE", "MSG.GET")}
    wanted |= {f"$JS.API.CONSUMER.CREATE.{spec.name}.reader-x" for spec in STREAMS}

    assert wanted - there == set()
    assert set(roles.EVENT_ROLES) == {entry.name for entry in CATALOGUE}
    assert set(roles.COMMAND_ROLES) == set(VERBS)


LITERAL = re.compile(r"f?[\"'](fc\.(?!ev\.)[a-z_]+\.[^\"'\s]*)[\"']")


async def test_every_subject_in_the_sources_belongs_to_a_family_of_the_table() -> None:
    root = Path(__file__).parents[3]
    families = {tuple(row.subject.split(".")[:3]) for row in table()}
    strangers = {}
    for source in SOURCES:
        for path in (root / source).rglob("*.py"):
            if "testing" in path.name or "security" in path.parts:
                continue
            for subject in LITERAL.findall(path.read_text()):
                tokens = re.sub(r"\{[^}]*\}", "x", subject).rstrip(".").split(".")
                if not any(_alike(tokens, family) for family in families):
                    strangers[subject] = str(path.relative_to(root))

    assert strangers == {}


def _alike(tokens: list[str], family: tuple[str, ...]) -> bool:
    wild = {"x", "*", ">", "OWN", "other"}
    pairs = zip(tokens, family, strict=False)
    return all(a == b or a in wild or b in wild or (i == 2 and family[1] != "svc") for i, (a, b) in enumerate(pairs))


@pytest.mark.soak
async def test_a_permission_that_is_too_wide_is_found(fleet: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    generous = {**roles.COMMAND_ROLES, "approve": frozenset({Role.PUBLISHER, Role.OPERATOR, Role.PROMOTER})}
    monkeypatch.setattr(roles, "COMMAND_ROLES", generous)
    inventory = fleet.inventory
    text = servers.accounts_text(inventory)
    place = fleet.folder.server("n1") / "accounts.conf"
    before = place.read_text()
    assert text != before
    place.write_text(text)
    try:
        await fleet.server.restart_async()
        assert await differences(fleet, Role.PUBLISHER) == ["publisher may publish fc.svc.registry.transition.approve"]
    finally:
        place.write_text(before)
        await fleet.server.restart_async()
