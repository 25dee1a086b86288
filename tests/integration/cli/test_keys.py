"""`fleetcast keys` against a real server: what an operator does with publishers' keys in a year."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.cli.stand import Ended, Stand, called_here, standing
from tests.unit.cli.builders import node

from fleetcast.events.signing import RING_SUBJECT
from fleetcast.transport.signing.ring import open_ring

Keys = Callable[..., Ended]


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with standing(tmp_path) as found:
        yield found


@pytest.fixture
def keys(stand: Stand, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Keys:
    def call(*words: str, url: str | None = None, form: str = "--json") -> Ended:
        given = ["keys", *words, *filter(None, [form])]
        return called_here(stand.home, url or stand.url, given, monkeypatch, capsys)

    return call


@pytest.fixture
def root(stand: Stand, keys: Keys) -> str:
    """A folder with a root key that the settings name, and a publisher's key."""
    made = str(keys("init").document["root_key"])
    (stand.home / "fleetcast.toml").write_text(f'[signing]\nroot_keys = ["{made}"]\n')
    assert keys("add", "team-a", "--models", "hex8*").document["published"]
    return made


def told(stand: Stand, root: str) -> list[tuple[str, bool]]:
    """The owners in the ring on the bus, and whether each key was revoked."""
    entry = stand.do(stand.bus.last("FC_REGISTRY", RING_SUBJECT))
    assert entry is not None
    return [(k.owner, k.revoked is not None) for k in open_ring(entry.data, (root,)).keys]


def test_keys_are_made_replaced_and_revoked_and_the_fleet_hears_of_each(stand: Stand, keys: Keys, root: str) -> None:
    assert keys("init").document["error"]["code"] == "exists"
    assert keys("add", "team-b", "--dry-run").document["dry_run"]
    assert not (stand.home / "fleet-keys/team-b.key").exists()
    first = keys("list").document["keys"][0]["id"]
    assert (stand.home / "fleet-keys/team-a.key").stat().st_mode & 0o777 == 0o600

    assert keys("rotate", "team-a", "--reason", "a year is over").document["key"] != first
    assert told(stand, root) == [("team-a", False), ("team-a", False)]
    kept = [p.name for p in (stand.home / "fleet-keys").glob("team-a*.key")]
    assert sorted(kept) == [f"team-a.{first}.key", "team-a.key"]

    assert keys("revoke", "team-a").code == 2  # without a reason
    assert keys("revoke", "team-a", "--reason", "laptop lost").code == 0
    assert told(stand, root) == [("team-a", True), ("team-a", True)]
    assert "laptop lost" in keys("list", form="").out


def test_no_publisher_takes_the_place_of_the_root_key(stand: Stand, keys: Keys, root: str) -> None:
    folder = stand.home / "fleet-keys"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    refused = keys("add", "root")
    assert (refused.code, refused.document["error"]["code"]) == (2, "usage")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert keys("list", "--folder", "fleet-keys").code == 0


def test_the_list_says_which_nodes_go_by_it(stand: Stand, keys: Keys, root: str) -> None:
    assert root in (stand.home / "fleetcast.toml").read_text()
    number = keys("list", "--folder", "fleet-keys").document["number"]
    stand.do(stand.heartbeat(node("node-1").model_copy(update={"keyring": number})))
    everybody = keys("list")
    stand.do(stand.heartbeat(node("node-2").model_copy(update={"keyring": number - 1})))
    behind = keys("list", form="")

    assert (everybody.code, everybody.document["nodes"]) == (0, {"node-1": number})
    assert (behind.code, f"1 of 2 nodes go by it; node-2 by {number - 1}" in behind.out) == (1, True), behind.out


def test_a_fleet_that_is_away_is_told_later(stand: Stand, keys: Keys, root: str) -> None:
    away = keys("add", "team-b", url="nats://127.0.0.1:9")
    assert (away.code, away.document["published"]) == (6, False)
    assert "fleetcast keys publish --folder fleet-keys" in away.err
    assert [keys("publish").document["published"] for _ in range(2)] == [True, False]


def test_two_copies_of_the_folder_do_not_undo_each_other(stand: Stand, keys: Keys, root: str) -> None:
    shutil.copytree(stand.home / "fleet-keys", stand.home / "old")
    assert keys("add", "team-b").code == 0
    before = sorted(p.name for p in (stand.home / "old").iterdir())
    for words in (("add", "team-d"), ("revoke", "team-a", "--reason", "test")):
        late = keys(*words, "--folder", "old")
        assert (late.code, late.document["error"]["code"]) == (1, "conflict")
    assert keys("publish", "--folder", "old").document["error"]["code"] == "conflict"
    assert sorted(p.name for p in (stand.home / "old").iterdir()) == before


def test_a_folder_whose_ring_was_changed_by_hand_is_not_used(stand: Stand, keys: Keys, root: str) -> None:
    forged = stand.home / "forged"
    shutil.copytree(stand.home / "fleet-keys", forged)
    ring = json.loads((forged / "ring.json").read_text())
    (forged / "ring.json").write_text(json.dumps({**ring, "payload": ring["payload"][:-8] + "AAAAAAA="}))
    refused = keys("add", "team-e", "--folder", "forged")
    assert (refused.code, refused.document["error"]["code"]) == (1, "key_folder")
    assert keys("list", "--folder", "nowhere").code == 3


def test_a_root_key_that_was_lost_is_replaced(stand: Stand, keys: Keys, root: str) -> None:
    number = keys("list", "--folder", "fleet-keys").document["number"]
    other = str(keys("init", "--folder", "next", "--edition", str(number + 1)).document["root_key"])
    refused = keys("publish", "--folder", "next")
    assert (refused.code, refused.document["error"]["code"]) == (1, "foreign_ring")
    assert keys("publish", "--folder", "next", "--replace").code == 0
    assert keys("add", "team-a", "--folder", "next").code == 0
    assert other != root
    assert told(stand, other) == [("team-a", False)]
