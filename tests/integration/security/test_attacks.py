"""What a key must not reach by a detour: answers sent elsewhere, consumers that push, certificates of others."""

import asyncio
import json
import ssl
from datetime import timedelta
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from tests.integration.security.conftest import Secured

from fleetcast.bus import connect
from fleetcast.bus.credentials import auth_options
from fleetcast.bus.errors import AccessDenied, BusError, BusUnavailable, DeclarationRefused, NoTls, OperationRefused
from fleetcast.bus.streams import REGISTRY, StreamSpec, declare
from fleetcast.config.settings import BusSettings
from fleetcast.security import keys, roles, servers
from fleetcast.security.authority import issue, make_authority, utc_now
from fleetcast.security.roles import Account, Role
from fleetcast.security.testing import RoleServer, local_folder

pytestmark = pytest.mark.asyncio(loop_scope="module")

VICTIM = "fc.reg.state.slot.x"
ASKING = [role for role in Role if roles.account_of(role) is Account.ASKING]


async def opened(settings: BusSettings) -> Client:
    options = await asyncio.to_thread(auth_options, settings)

    async def ignore(_error: Exception) -> None:
        pass

    inbox = "_INBOX." + str((settings.cert or Path("x")).parent.name)
    return await nats.connect(settings.url, allow_reconnect=False, error_cb=ignore, inbox_prefix=inbox, **options)


async def records(fleet: Secured) -> int:
    """How many messages FC_REGISTRY ever had."""
    async with connect(fleet.settings("control"), node="c", daemon="test", wait=False) as bus:
        return await bus.last_sequence(REGISTRY)


async def bounce(fleet: Secured, role: Role) -> int:
    """Have every answer that a role may ask for sent to where truth is kept; how many were stored."""
    before = await records(fleet)
    client = await opened(fleet.settings(role.value))
    try:
        for subject in roles.permissions(role, role.value).publish:
            concrete = subject.replace("*", "x").replace(">", "x")
            await client.publish(concrete, b"{}", reply=VICTIM)
        await client._flush_pending(force_flush=True)
        await client.flush(30)
    finally:
        await client.close()
    return await records(fleet) - before


@pytest.mark.parametrize("role", ASKING, ids=lambda role: role.value)
async def test_no_answer_can_be_sent_to_where_truth_is_kept(fleet: Secured, role: Role) -> None:
    assert await bounce(fleet, role) == 0


@pytest.mark.soak
async def test_inside_the_account_of_the_fleet_an_answer_would_be_stored_as_truth(
    fleet: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = fleet.folder.server("n1") / "accounts.conf"
    before = place.read_text()
    real = roles.account_of
    one = lambda role: Account.FLEET if role is Role.ON_CALL else real(role)  # noqa: E731
    monkeypatch.setattr(servers, "account_of", one)
    place.write_text(servers.accounts_text(fleet.inventory))
    try:
        await fleet.server.restart_async()
        assert await bounce(fleet, Role.ON_CALL) > 0
    finally:
        place.write_text(before)
        await fleet.server.restart_async()


async def test_a_consumer_that_pushes_cannot_write_truth_either(fleet: Secured) -> None:
    before = await records(fleet)
    publisher, looker = await opened(fleet.settings("publisher")), await opened(fleet.settings("on-call"))
    try:
        await publisher.request("fc.perf.x", b"evil", timeout=10)
        config = {"name": "p", "deliver_subject": VICTIM, "deliver_policy": "all", "ack_policy": "none"}
        body = {"stream_name": "FC_PERF", "config": {**config, "mem_storage": True}, "action": ""}
        await looker.request("$JS.API.CONSUMER.CREATE.FC_PERF.p", json.dumps(body).encode(), timeout=10)
        # What the consumer pushes is on its way before the server answers this: it does one thing after the other.
        for _ in range(20):
            await looker.request("$JS.API.CONSUMER.INFO.FC_PERF.p", b"", timeout=10)
    finally:
        await publisher.close()
        await looker.close()
    assert await records(fleet) == before


async def test_a_role_that_oversteps_is_told_so_and_changes_nothing(fleet: Secured) -> None:
    async with connect(fleet.settings("on-call"), node="x", daemon="test", wait=False) as bus:
        with pytest.raises(AccessDenied, match=r"may not publish to fc\.svc\.registry\.transition\.approve") as refusal:
            await bus.request("fc.svc.registry.transition.approve", b"{}", 60)
        assert "role" in (refusal.value.next_step or "")
        assert await bus.rtt() > 0


async def test_streams_that_are_missing_are_declared_by_the_deploy_role_alone(fleet: Secured) -> None:
    unknown = StreamSpec("FC_UNKNOWN", "a test", subjects=("fc.unknown.>",))
    async with connect(fleet.settings("control"), node="x", daemon="test", wait=False) as bus:
        assert await declare(bus, 1) == []
        with pytest.raises(AccessDenied):
            await declare(bus, 1, [unknown])


async def refused_dial(settings: BusSettings) -> BusError:
    with pytest.raises((OperationRefused, BusUnavailable)) as refusal:
        async with connect(settings, node="x", daemon="test", wait=False):
            pass
    return refusal.value


async def test_a_key_that_nobody_let_in_is_refused(fleet: Secured, tmp_path: Path) -> None:
    stranger = tmp_path / "nkey"
    keys.write(stranger, keys.new_seed() + "\n")

    error = await refused_dial(fleet.settings("operator").model_copy(update={"nkey": stranger}))

    assert isinstance(error, AccessDenied)
    assert "refuses these credentials" in str(error)


async def test_without_tls_or_a_certificate_of_the_fleet_there_is_no_connection(fleet: Secured, tmp_path: Path) -> None:
    own = fleet.settings("operator")
    foreign = make_authority("foreign", now=utc_now())
    other = tmp_path / "tls.pem"
    keys.write(other, issue(foreign, "operator", fleet="foreign", now=utc_now()).together)

    for lacking in (
        {"cert": None, "key": None},
        {"cert": other, "key": other},
        {"ca": None, "cert": None, "key": None},
    ):
        error = await refused_dial(own.model_copy(update=lacking))
        assert isinstance(error, NoTls), (lacking, error)


@pytest.mark.parametrize(("since_days", "says"), [(-3, "expired on"), (2, "is valid from")])
async def test_a_certificate_out_of_its_time_is_named(
    fleet: Secured, tmp_path: Path, since_days: int, says: str
) -> None:
    worn = tmp_path / "tls.pem"
    then = utc_now() + timedelta(days=since_days)
    keys.write(worn, issue(fleet.folder.authority(), "operator", fleet="test", now=then, days=1).together)

    error = await refused_dial(fleet.settings("operator").model_copy(update={"cert": worn, "key": worn}))

    assert says in str(error)
    assert "fleet rotate" in (error.next_step or "")


async def test_a_server_whose_certificate_expired_is_not_trusted(tmp_path: Path) -> None:
    authority = make_authority("test", now=utc_now())
    worn = tmp_path / "server.pem"
    then = utc_now() - timedelta(days=3)
    keys.write(worn, issue(authority, "n1", fleet="test", hosts=["127.0.0.1"], now=then, days=1).together)
    keys.write(tmp_path / "ca.pem", authority.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(worn)

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"tls_required":true,"version":"2.15.1","max_payload":1048576}\r\n')
        try:
            await writer.start_tls(context)
        except (ssl.SSLError, OSError):
            return
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        error = await refused_dial(BusSettings(url=f"tls://127.0.0.1:{port}", ca=tmp_path / "ca.pem"))

    assert isinstance(error, NoTls)
    assert "expired" in str(error)


@pytest.mark.parametrize("spoiled", ["half", "empty", "text", "shared", "absent"])
async def test_a_key_file_that_is_not_whole_or_not_private_is_refused_by_name(
    fleet: Secured, tmp_path: Path, spoiled: str
) -> None:
    seed = keys.new_seed()
    place = tmp_path / "nkey"
    if spoiled != "absent":
        keys.write(
            place,
            {"half": seed[:30], "empty": "", "text": "hello\n", "shared": seed}[spoiled],
            mode=0o640 if spoiled == "shared" else 0o600,
        )

    error = await refused_dial(fleet.settings("operator").model_copy(update={"nkey": place}))

    assert isinstance(error, OperationRefused)
    assert str(place) in str(error)
    assert seed not in str(error)


async def test_a_key_that_systemd_passes_may_be_shown_to_its_group(
    fleet: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "nkey"
    keys.write(place, fleet.settings("operator").nkey.read_text(), mode=0o440)  # type: ignore[union-attr]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    async with connect(
        fleet.settings("operator").model_copy(update={"nkey": place}), node="x", daemon="test", wait=False
    ) as bus:
        assert await bus.rtt() > 0


async def test_a_node_whose_streams_are_not_there_is_told_who_makes_them(fleet: Secured, tmp_path: Path) -> None:
    folder, inventory = local_folder(tmp_path / "other")
    async with (
        RoleServer(folder, inventory.servers[0]),
        connect(folder.settings(inventory, "control"), node="x", daemon="test", wait=False) as bus,
    ):
        with pytest.raises(DeclarationRefused, match="may not declare it") as refusal:
            await declare(bus, 1)
    assert "fleet setup" in (refusal.value.next_step or "")
