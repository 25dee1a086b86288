"""Keys are renewed, taken away and repaired while a server and its clients run."""

import asyncio
import contextlib
import itertools
import signal
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.security.conftest import WAIT_SECONDS, Secured, let_in, secured

from fleetcast.bus import Bus, BusState, connect
from fleetcast.bus.errors import AccessDenied, BusUnavailable
from fleetcast.bus.peer import server_certificate_end
from fleetcast.bus.streams import declare
from fleetcast.config.settings import BusSettings
from fleetcast.security import changing, keys, proving
from fleetcast.security.authority import issue, utc_now, validity
from fleetcast.security.changing import revoke, tell
from fleetcast.security.due import Secret, secrets_of
from fleetcast.security.errors import NameRefused, ProofFailed
from fleetcast.security.folder import Folder
from fleetcast.security.inventory import Inventory
from fleetcast.security.roles import Role
from fleetcast.security.testing import RoleServer, local_folder

pytestmark = pytest.mark.asyncio(loop_scope="module")

rotate = partial(changing.rotate, seconds=2 * WAIT_SECONDS)
rotate_server = partial(changing.rotate_server, seconds=2 * WAIT_SECONDS)


class Killed(BaseException):
    """The process ends here."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def own(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    """A fleet whose keys these tests change."""
    async for made in secured(tmp_path_factory.mktemp("rotated") / "fleet"):
        yield made


def _killed_after(moves: int) -> Callable[[Path, Path], Path]:
    """`Path.replace` of a process that ends after so many new files have taken their places."""
    real, left = Path.replace, itertools.count(moves, -1)

    def replace(path: Path, target: Path) -> Path:
        if path.suffix == ".new" and next(left) == 0:
            raise Killed
        return real(path, target)

    return replace


def _killed_at_the_end(folder: Folder, name: str, real: Callable[[Folder, str], None] = Folder.adopt_fresh) -> None:
    real(folder, name)
    raise Killed


async def until(fleet: Secured, name: str, *, works: bool) -> None:
    """Wait until the key of *name* is let in, or refused: while a server reads its configuration it may do either."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                async with connect(fleet.settings(name), node="x", daemon="test", wait=False) as bus:
                    found = await bus.rtt() > 0
            except AccessDenied:
                found = False
            except BusUnavailable:
                continue
            if found is works:
                return


async def until_shown(fleet: Secured, end: datetime) -> None:
    """Wait until the server shows new connections a certificate that ends at *end*."""
    settings = fleet.settings("control")
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            if await asyncio.to_thread(server_certificate_end, settings.url, settings) == end:
                return
            await asyncio.sleep(0.05)


async def until_refused(settings: BusSettings) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            with contextlib.suppress(BusUnavailable):
                try:
                    async with connect(settings, node="x", daemon="test", wait=False):
                        pass
                except AccessDenied:
                    return


async def until_answering(bus: Bus, generation: int) -> None:
    """Wait until the bus has made another connection than the one of *generation*, and it works."""
    async with asyncio.timeout(WAIT_SECONDS):
        while bus.wire.generation == generation or bus.state is not BusState.READY:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await bus.rtt() > 0


async def test_a_rotated_key_is_taken_by_daemons_that_go_on_and_the_old_one_is_let_in_no_more(
    own: Secured, tmp_path: Path
) -> None:
    old = tmp_path / "nkey"
    keys.write(old, (own.folder.credentials("node") / "nkey").read_text())
    async with let_in(own.settings("node"), node="node", daemon="distributor") as bus:
        generation = bus.wire.generation
        reload = await rotate(own.folder, "node", keep_old=False, reason="a test")

        assert reload.told == ("n1",)
        await until_answering(bus, generation)
        former = own.settings("node").model_copy(update={"nkey": old})
        await until_refused(former)


async def test_an_old_key_that_is_kept_works_until_it_is_taken_away(own: Secured, tmp_path: Path) -> None:
    old = tmp_path / "nkey"
    keys.write(old, (own.folder.credentials("trainer") / "nkey").read_text())
    before = own.settings("trainer").model_copy(update={"nkey": old})
    await rotate(own.folder, "trainer", keep_old=True, reason=None)

    async with let_in(before) as bus:
        assert [s.state for s in await _of(own, "trainer") if s.kind == "nkey"] == ["rotating"]
        lost = bus.wire.link.lost
        tell(revoke(own.folder, "trainer", only_former=True, reason=None))
        await asyncio.wait_for(lost, WAIT_SECONDS)
    await until(own, "trainer", works=True)
    with pytest.raises(NameRefused, match="no former key"):
        revoke(own.folder, "trainer", only_former=True, reason=None)


async def _of(fleet: Secured, name: str) -> list[Secret]:
    secrets = await asyncio.to_thread(secrets_of, fleet.folder, fleet.inventory, utc_now())
    return [s for s in secrets if s.owner == name]


async def test_a_new_key_that_does_not_work_is_dropped_and_the_old_one_holds(own: Secured) -> None:
    place = own.folder.server("n1") / "tls.pem"
    whole, key = place.read_text(), own.inventory.find("operator").key
    # A server that cannot read all of its files keeps what it had, and never hears of the new key.
    keys.write(place, whole[:100])
    try:
        with pytest.raises(ProofFailed, match="the old one holds") as refusal:
            await rotate(own.folder, "operator", keep_old=False, reason=None, seconds=1.0)
    finally:
        keys.write(place, whole)
        tell(own.inventory)

    assert "refuses these credentials" in refusal.value.why
    after = own.inventory.find("operator")
    assert (after.key, after.pending) == (key, None)
    assert not list(own.folder.credentials("operator").glob("*.new"))
    await until(own, "operator", works=True)


async def test_a_rotation_that_was_interrupted_goes_on(own: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    async def killed(*_: object, **__: object) -> str:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(proving, "trouble_with", killed)
        with pytest.raises(Killed):
            await rotate(own.folder, "promoter", keep_old=False, reason=None)
    pending = own.inventory.find("promoter").pending
    assert pending
    await until(own, "promoter", works=True)

    await rotate(own.folder, "promoter", keep_old=False, reason=None)

    assert own.inventory.find("promoter").key == pending
    await until(own, "promoter", works=True)


@pytest.mark.parametrize("moved", [0, 1, 2])
async def test_a_rotation_that_was_interrupted_while_it_moved_files_keeps_the_key_that_they_hold(
    own: Secured, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    before = own.inventory.find("promoter").key
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", _killed_after(moved))
        patch.setattr(Folder, "adopt_fresh", _killed_at_the_end)
        with pytest.raises(Killed):
            await rotate(own.folder, "promoter", keep_old=False, reason=None)
    assert own.inventory.find("promoter").key == before
    pending = own.inventory.find("promoter").pending

    await rotate(own.folder, "promoter", keep_old=False, reason=None)

    assert own.inventory.find("promoter").key == pending
    await until(own, "promoter", works=True)


async def test_a_half_written_new_key_is_made_anew(own: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    async def killed(*_: object, **__: object) -> str:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(proving, "trouble_with", killed)
        with pytest.raises(Killed):
            await rotate(own.folder, "evaluator", keep_old=False, reason=None)
    fresh = own.folder.credentials("evaluator") / "nkey.new"
    fresh.write_text(fresh.read_text()[:20])

    await rotate(own.folder, "evaluator", keep_old=False, reason=None)

    await until(own, "evaluator", works=True)


async def test_a_revoked_key_is_cut_off_and_let_in_no_more(own: Secured) -> None:
    changing.add(own.folder, "guest", Role.ON_CALL, used_by="a guest", reason=None)
    tell(own.inventory)
    settings = own.settings("guest")
    kept = {file: file.read_text() for file in own.folder.credentials("guest").iterdir()}
    await until(own, "guest", works=True)
    async with let_in(settings) as bus:
        lost = bus.wire.link.lost
        tell(revoke(own.folder, "guest", only_former=False, reason="left"))
        await asyncio.wait_for(lost, WAIT_SECONDS)

    assert not own.folder.credentials("guest").exists()
    own.folder.credentials("guest").mkdir()
    for file, text in kept.items():
        keys.write(file, text)
    await until_refused(settings)
    assert own.inventory.revoked[-1].reason == "left"


async def test_a_server_gets_a_new_certificate_without_a_restart_and_the_old_one_when_it_does_not_work(
    own: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, pid = own.folder.server("n1") / "tls.pem", own.server.pid
    before = place.read_text()
    await rotate_server(own.folder, "n1", reason=None)
    renewed = place.read_text()
    assert renewed != before
    await until_shown(own, validity(place).ends)
    await until(own, "operator", works=True)

    async def trouble(*_: object, **__: object) -> str:
        return "it does not answer"

    monkeypatch.setattr(proving, "trouble_with", trouble)
    with pytest.raises(ProofFailed, match="the old one is back"):
        await rotate_server(own.folder, "n1", reason=None)
    assert place.read_text() == renewed
    assert own.server.pid == pid
    await until(own, "operator", works=True)


async def test_a_renewed_certificate_is_used_by_the_next_connection_of_a_daemon_that_goes_on(own: Secured) -> None:
    settings = own.settings("control")
    async with let_in(settings, node="c", daemon="registry") as bus:
        now = utc_now()
        place = own.folder.credentials("control") / "tls.pem"
        whole = place.read_text()
        worn = issue(own.folder.authority(), "control", fleet="test", now=now - timedelta(days=3), days=1)
        keys.write(place, worn.together)
        generation = bus.wire.generation
        bus.wire.replace("a test")
        async with asyncio.timeout(WAIT_SECONDS):
            while "expired on" not in bus.wire.lost_because:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

        keys.write(place, whole)

        await until_answering(bus, generation)


async def test_servers_elsewhere_are_named_with_what_to_do_and_the_new_key_waits_for_them(
    own: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changing, "_signal", lambda _server: False)
    moved = own.inventory
    elsewhere = moved.servers[0].model_copy(update={"place": "/etc/nats"})
    assert "copy servers/n1/" in changing.instruction(elsewhere)
    assert "--signal reload=" in changing.instruction(elsewhere)

    first = await rotate(own.folder, "publisher", keep_old=True, reason=None)
    assert first.by_hand
    assert own.inventory.find("publisher").pending
    own.server.send_signal(signal.SIGHUP)
    await rotate(own.folder, "publisher", keep_old=True, reason=None)

    after = own.inventory.find("publisher")
    assert after.pending is None
    assert after.former
    await until(own, "publisher", works=True)


@pytest.mark.soak
async def test_without_its_proof_a_rotation_would_lock_everybody_out(
    own: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_trouble(*_: object, **__: object) -> str:
        return ""

    monkeypatch.setattr(proving, "trouble_with", no_trouble)
    place = own.folder.server("n1") / "tls.pem"
    whole = place.read_text()
    keys.write(place, whole[:100])
    try:
        await rotate(own.folder, "on-call", keep_old=False, reason=None)
        await until(own, "on-call", works=False)
    finally:
        keys.write(place, whole)
        tell(own.inventory)


@pytest.mark.soak
async def test_three_servers_form_a_cluster_that_trusts_nobody_else(tmp_path: Path) -> None:
    folder, inventory = local_folder(tmp_path / "fleet", servers=3)
    running = [RoleServer(folder, server) for server in inventory.servers]
    try:
        for server in running:
            await asyncio.to_thread(server.launch)
        await _until_leading(running)
        async with connect(folder.settings(inventory, "deploy"), node="d", daemon="deploy", wait=False) as bus:
            assert len(await declare(bus, 3)) > 10
        for place in inventory.servers:
            one = folder.settings(inventory, "publisher").model_copy(update={"url": place.url})
            async with connect(one, node="x", daemon="test", wait=False) as bus:
                assert (await bus.publish_raw("fc.perf.x", b"{}")).stream == "FC_PERF"
            two = folder.settings(inventory, "on-call").model_copy(update={"url": place.url})
            async with connect(two, node="x", daemon="test", wait=False) as bus:
                assert [e.data async for e in bus.tail("FC_PERF", ())][:1] == [b"{}"]
        assert (await rotate(folder, "operator", keep_old=False, reason=None)).told == ("n1", "n2", "n3")
    finally:
        for server in running:
            await server.kill_async()


def _leads(server: RoleServer) -> bool:
    return server.health() is None and bool(server.monitor("/jsz").get("meta_cluster", {}).get("leader"))


async def _until_leading(running: list[RoleServer]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            if all(await asyncio.gather(*(asyncio.to_thread(_leads, server) for server in running))):
                return
            await asyncio.sleep(0.1)


async def test_the_inventory_has_no_secret(own: Secured) -> None:
    inventory: Inventory = own.inventory
    text = inventory.model_dump_json()
    for file in own.folder.path.rglob("nkey"):
        assert file.read_text().strip() not in text
    assert "PRIVATE KEY" not in text
