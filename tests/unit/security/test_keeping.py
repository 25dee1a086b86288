"""A fleet's folder: made whole or not at all, private, and honest about what is due."""

import json
import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from fleetcast.config.loader import load
from fleetcast.security import keys
from fleetcast.security.authority import issue, make_authority, utc_now, validity
from fleetcast.security.changing import add, create, instruction, places, revoke
from fleetcast.security.due import Secret, own_certificate, secrets_of, state_of
from fleetcast.security.errors import FolderRefused, NameRefused, SecretDamaged
from fleetcast.security.folder import Folder
from fleetcast.security.inventory import FIRST, KEY_DAYS, Inventory
from fleetcast.security.roles import Role
from fleetcast.security.servers import accounts_text, server_text


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """One fleet for the tests that only look."""
    folder = Folder(tmp_path_factory.mktemp("fleet") / "keys")
    create(folder, "test", places(["nats.example.net"], folder=folder.path), reason="a test")
    return folder


@pytest.fixture
def own(made: Folder, tmp_path: Path) -> Folder:
    """A copy of it for a test that changes it."""
    return Folder(Path(shutil.copytree(made.path, tmp_path / "keys")))


def found(folder: Folder, owner: str, kind: str, days: float = 0) -> Secret:
    now = utc_now() + timedelta(days=days)
    return next(s for s in secrets_of(folder, folder.load(), now) if (s.owner, s.kind) == (owner, kind))


def test_a_new_fleet_has_a_key_for_every_first_role_and_nothing_that_others_may_read(made: Folder) -> None:
    inventory = made.load()

    assert {i.name for i in inventory.identities} == set(FIRST)
    for path in made.path.rglob("*"):
        mode = path.stat().st_mode & 0o777
        assert not path.is_dir() or mode == 0o700, path
        if path.is_file() and ("PRIVATE" in path.read_text() or path.name in {"nkey", "fleet.json"}):
            assert mode == 0o600, path


def test_what_goes_to_a_server_has_no_seed_and_not_the_authoritys_key(made: Folder) -> None:
    for path in made.server("n1").rglob("*"):
        if path.is_file():
            assert path.name in {"nats-server.conf", "accounts.conf", "tls.pem", "ca.pem"}
            assert "\nSU" not in path.read_text()
            assert (made.ca / "ca.key").read_text() not in path.read_text()


def test_the_settings_beside_a_key_can_be_used_as_they_are(made: Folder) -> None:
    place = made.credentials("control") / "fleetcast.toml"
    settings = load(place, env={}).settings

    assert settings.bus.nkey == place.parent / "nkey"
    assert settings.bus.cert == settings.bus.key == place.parent / "tls.pem"
    assert settings.bus.url == "tls://nats.example.net:4222"


def test_a_folder_that_has_something_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("1")
    before = sorted(tmp_path.iterdir())

    with pytest.raises(FolderRefused, match="not empty"):
        create(Folder(tmp_path), "test", places(["a"], folder=tmp_path), reason=None)

    assert sorted(tmp_path.iterdir()) == before


def test_an_init_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Folder, "write_credentials", full)

    with pytest.raises(OSError, match="No space"):
        create(Folder(tmp_path / "keys"), "test", places(["a"], folder=tmp_path / "keys"), reason=None)

    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "nkey"
    keys.write(place, "old\n")

    def cut(_handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", cut)
    with pytest.raises(OSError, match="Input"):
        keys.write(place, "new\n")

    assert place.read_text() == "old\n"
    assert [p.name for p in tmp_path.iterdir()] == ["nkey"]


def test_what_is_due_is_told_three_weeks_before(made: Folder) -> None:
    assert found(made, "operator", "nkey").state == "ok"
    assert found(made, "operator", "nkey", KEY_DAYS - 22).state == "ok"
    assert found(made, "operator", "nkey", KEY_DAYS - 21).state == "due"
    overdue = found(made, "operator", "nkey", KEY_DAYS + 1)
    assert (overdue.state, overdue.fix) == ("overdue", "fleetcast fleet rotate operator")
    assert found(made, "n1", "certificate", 350).state == "due"
    assert found(made, "ca", "authority", 350).state == "ok"
    assert found(made, "ca", "authority", 3640).state == "due"


@pytest.mark.parametrize("spoil", ["half", "mode", "gone", "other"])
def test_a_spoiled_key_is_named_with_what_to_do(own: Folder, spoil: str) -> None:
    folder = own
    place = folder.credentials("operator") / "nkey"
    if spoil == "half":
        place.write_text(place.read_text()[:30])
    elif spoil == "mode":
        place.chmod(0o640)
    elif spoil == "gone":
        place.unlink()
    else:
        keys.write(place, keys.new_seed() + "\n")

    secret = found(folder, "operator", "nkey")

    assert secret.state == "damaged"
    assert str(place) in secret.detail
    assert secret.fix == (f"chmod 600 {place}" if spoil == "mode" else "fleetcast fleet rotate operator")


def test_names_are_checked_before_anything_is_made(made: Folder) -> None:
    for name, why in (("Bad Name", "no name"), ("control", "there already"), ("n1", "is a server")):
        with pytest.raises(NameRefused, match=why):
            add(made, name, Role.NODE, used_by="", reason=None)
    assert {i.name for i in made.load().identities} == set(FIRST)


def test_a_list_that_others_may_read_or_that_is_damaged_is_not_used(own: Folder) -> None:
    folder = own
    place = folder.path / "fleet.json"
    place.chmod(0o644)
    with pytest.raises(FolderRefused, match="others may read"):
        folder.load()
    place.chmod(0o600)
    place.write_text(place.read_text()[:200])
    with pytest.raises(FolderRefused, match="damaged"):
        folder.load()


def test_two_commands_do_not_change_one_folder_at_the_same_time(made: Folder) -> None:
    with made.held(), pytest.raises(FolderRefused, match="another command"), made.held():
        pass


def test_an_authority_whose_key_is_not_its_own_signs_nothing(own: Folder) -> None:
    keys.write(own.ca / "ca.key", make_authority("other", now=utc_now()).key)

    with pytest.raises(SecretDamaged, match="does not belong"):
        add(own, "gpu-1", Role.NODE, used_by="", reason=None)
    assert "gpu-1" not in {i.name for i in own.load().identities}


def test_a_certificate_for_a_client_cannot_be_a_servers(made: Folder) -> None:
    now = utc_now()
    client = x509.load_pem_x509_certificate(issue(made.authority(), "a", fleet="f", now=now).certificate.encode())
    server = x509.load_pem_x509_certificate(
        issue(made.authority(), "n1", fleet="f", now=now, hosts=["nats.example.net", "10.0.0.1"]).certificate.encode()
    )

    usage = [c.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value for c in (client, server)]
    assert [len(list(u)) for u in usage] == [1, 2]
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(n.value) for n in names] == ["nats.example.net", "10.0.0.1"]


def test_no_certificate_outlives_its_authority(made: Folder) -> None:
    ends = validity(made.ca / "ca.pem").ends

    with pytest.raises(SecretDamaged, match="before what it would sign"):
        issue(made.authority(), "a", fleet="f", now=ends - timedelta(days=10))


def test_a_node_is_told_of_its_certificate_in_time(made: Folder) -> None:
    settings = load(made.credentials("on-call") / "fleetcast.toml", env={}).settings.bus
    now = utc_now()

    states = [(own_certificate(settings, now + timedelta(days=days)) or ("", ""))[0] for days in (0, 350, 400)]

    assert states == ["ok", "due", "overdue"]
    early = own_certificate(settings, now - timedelta(days=2))
    assert early is not None
    assert "one of the clocks is wrong" in early[1]


def test_state_of_is_told_by_days() -> None:
    now = utc_now()

    assert [state_of(now + timedelta(days=d), now) for d in (22, 21, 0, -1)] == ["ok", "due", "overdue", "overdue"]


def test_three_servers_name_each_other_and_check_each_other(made: Folder) -> None:
    servers = places(["a", "b", "10.0.0.3:4333"], folder=Path("/keys"), place="/etc/nats", store="/var/lib/nats")
    inventory = Inventory(fleet="f", created=utc_now(), servers=servers)

    text = server_text(inventory, servers[1])

    assert 'routes: ["nats://a:6222", "nats://10.0.0.3:6333"]' in text
    assert text.count("verify: true") == 2
    assert 'listen: "10.0.0.3:4333"' in server_text(inventory, servers[2])
    assert 'http: "127.0.0.1:8222"' in text
    assert "no_auth_user" not in text
    assert "allow_responses" not in accounts_text(inventory)


@pytest.mark.parametrize("host", ["", ":4222", "a:b", "a:70000", "a:0"])
def test_an_address_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(NameRefused):
        places([host], folder=Path("/keys"))


def test_a_server_elsewhere_is_told_by_an_exact_instruction() -> None:
    server = places(["nats-1"], folder=Path("/keys"), place="/etc/nats", store="/var/lib/nats")[0]

    said = instruction(server)

    assert "copy servers/n1/ to nats-1:/etc/nats/" in said
    assert "nats-server --signal reload=/var/lib/nats/nats-server.pid" in said
    handed = server.model_copy(update={"tls": "/run/credentials/nats-server.service/nats_tls.pem"})
    assert "copy servers/n1/*.conf to nats-1:/etc/nats/" in instruction(handed)
    renewed = instruction(handed, certificate=True)
    assert "copy servers/n1/tls.pem to nats-1" in renewed
    assert renewed.endswith("systemctl restart nats-server")


def test_what_was_done_is_written_down_with_its_reason(own: Folder) -> None:
    folder = own
    add(folder, "gpu-1", Role.TRAINER, used_by="rack 3", reason="bought")
    after = revoke(folder, "gpu-1", only_former=False, reason="sold")

    lines = [json.loads(line) for line in (folder.path / "history.jsonl").read_text().splitlines()]

    assert [(e["did"], e["what"], e["reason"]) for e in lines] == [
        ("init", "test", "a test"),
        ("add", "gpu-1", "bought"),
        ("revoke", "gpu-1", "sold"),
    ]
    assert after.revoked[0].reason == "sold"
    assert not folder.credentials("gpu-1").exists()


def test_a_key_whose_rotation_waits_is_revoked_with_all_of_its_files(own: Folder) -> None:
    place = own.credentials("operator")
    for file in (".waiting", "nkey.new", "tls.pem.new"):
        keys.write(place / file, "x\n")

    revoke(own, "operator", only_former=False, reason="left")

    assert not place.exists()
    assert json.loads((own.path / "history.jsonl").read_text().splitlines()[-1])["did"] == "revoke"


def test_the_examples_are_what_init_writes() -> None:
    from fleetcast.security.examples import rendered

    folder = Path(__file__).parents[3] / "deploy" / "nats"

    for name, text in rendered(folder).items():
        assert (folder / name).read_text() == text, "python -m fleetcast.security.examples deploy/nats"
