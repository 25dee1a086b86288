"""A new fleet takes nothing that nobody signed: what its folder holds for that, and what nodes get of it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleetcast.config.loader import load
from fleetcast.config.signing import SigningSettings
from fleetcast.events.signing import RingKey
from fleetcast.security import keys
from fleetcast.security.changing import add, create, places
from fleetcast.security.due import secrets_of
from fleetcast.security.errors import NameRefused, SecurityError
from fleetcast.security.folder import Folder
from fleetcast.security.publishers import changes
from fleetcast.security.publishers import folder as publishers
from fleetcast.security.roles import Role
from fleetcast.transport.signing.keys import read_key

NOW = datetime.now(UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "keys")
    create(made, "test", places(["127.0.0.1"], folder=made.path), reason=None)
    return made


def publisher(folder: Folder, name: str, days: int = 365) -> None:
    """What `fleetcast keys add` does, without the bus."""
    with publishers.opened(folder.signing) as signing:
        key = publishers.made(signing, name)
        until = changes.text(NOW + timedelta(days=days))
        since = changes.text(NOW - timedelta(days=400))
        entry = RingKey(owner=name, public=key.public, added_at=since, not_after=until)
        signing.keep(signing.seal(changes.add(signing.ring, entry, NOW)))


def signing(folder: Folder, name: str) -> SigningSettings:
    """What a user's settings say, read as a daemon reads them."""
    return load(folder.credentials(name) / "fleetcast.toml", env={}).settings.signing


def test_every_node_of_a_new_fleet_refuses_what_nobody_signed(folder: Folder) -> None:
    add(folder, "gpu-1", Role.NODE, used_by="", reason=None)
    root = read_key(folder.signing / "root.key")
    assert signing(folder, "gpu-1") == SigningSettings(root_keys=(root.public,), unsigned="refuse")
    assert signing(folder, "deploy").root_keys == (root.public,)
    assert (folder.signing.stat().st_mode & 0o777, (folder.signing / "root.key").stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )


def test_a_node_that_publishes_gets_the_key_of_its_publisher(folder: Folder) -> None:
    publisher(folder, "team-a")
    add(folder, "gpu-1", Role.NODE, used_by="", reason=None, publisher="team-a")

    path = signing(folder, "gpu-1").publisher_key
    assert path == folder.credentials("gpu-1") / "publisher.key"
    assert read_key(path).id == read_key(folder.signing / "team-a.key").id
    assert not list(folder.credentials("deploy").glob("*.key"))


@pytest.mark.parametrize("name", ["team-z", "ended", "root", "../ca/ca"])
def test_a_node_cannot_sign_as_somebody_who_has_no_key_that_signs(folder: Folder, name: str) -> None:
    publisher(folder, "ended", days=-1)
    before = (folder.path / "fleet.json").read_bytes()
    with pytest.raises(NameRefused, match="has a key that signs") as refused:
        add(folder, "gpu-1", Role.NODE, used_by="", reason=None, publisher=name)
    assert f"fleetcast keys add {name} --folder {folder.signing}" in refused.value.next_step
    assert (folder.path / "fleet.json").read_bytes() == before
    assert not folder.credentials("gpu-1").exists()


def test_a_folder_from_before_there_were_signatures_still_makes_nodes(folder: Folder) -> None:
    older = folder.load().model_copy(update={"root_key": None})
    folder.save(older)
    for file in folder.signing.iterdir():
        file.unlink()
    add(folder, "gpu-1", Role.NODE, used_by="", reason=None)
    assert signing(folder, "gpu-1") == SigningSettings()
    with pytest.raises(SecurityError, match="holds no root"):
        add(folder, "gpu-2", Role.NODE, used_by="", reason=None, publisher="team-a")


def test_the_list_of_secrets_has_the_keys_that_sign(folder: Folder) -> None:
    def listed() -> dict[tuple[str, str], str]:
        return {(s.kind, s.owner): s.state for s in secrets_of(folder, folder.load(), NOW) if s.role == "signs"}

    publisher(folder, "team-a")
    publisher(folder, "team-b", days=10)
    publisher(folder, "team-c", days=-1)
    assert listed() == {
        ("authority", "ca"): "ok",
        ("root key", "signing"): "ok",
        ("publisher key", "team-a"): "ok",
        ("publisher key", "team-b"): "due",
        ("publisher key", "team-c"): "overdue",
    }
    (folder.signing / "team-a.key").chmod(0o644)
    assert listed()["publisher key", "team-a"] == "damaged"
    keys.write(folder.signing / "root.key", "half of it")
    assert listed() == {("authority", "ca"): "ok", ("root key", "signing"): "damaged"}
