"""The archive of a node: its folders, its manifest, and bytes that leave the store for it."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.store.conftest import Workplace

from fleetcast.events.content import Content, Kind
from fleetcast.events.lifecycle import ArchiveRule, StageName
from fleetcast.transport.errors import NotKept, PathRefused, StoreError, VersionHeld
from fleetcast.transport.store import ArchivedItem, Line, Pins

Bytes = Callable[[int, int], bytes]
ROOM = Pins(archived=frozenset({(Line(Kind.MODEL, "m"), "1")}))


def item(content: Content, version: str = "1", folder: str = "202611/low_elo/m/1", model: str = "m") -> ArchivedItem:
    return ArchivedItem(
        model=model,
        version=version,
        artifact=content.artifact,
        content=content,
        folder=folder,
        stage=StageName.DEVELOPMENT,
        rule=ArchiveRule.LOW_ELO,
        reason="too weak",
        by="/fleet/n1/cli",
        at="2026-11-21T10:00:00Z",
        n=7,
        facts={"owner": "ann"},
    )


def manifest(workplace: Workplace, month: str = "202611") -> Any:
    return json.loads((workplace.data / "archive" / month / "archived_manifest.json").read_text())


def test_an_archived_version_lies_in_its_folder_with_all_that_is_known_beside_it(
    workplace: Workplace, random_bytes: Bytes
) -> None:
    data = random_bytes(5000, 1)
    content = workplace.promote("m", "1", data)
    workplace.store.archive.keep(item(content))
    collected = workplace.store.retire("202611/low_elo/m/1", ROOM)

    assert (workplace.data / "archive/202611/low_elo/m/1/model.bin").read_bytes() == data
    told = manifest(workplace)
    (listed,) = told["archived"]
    assert (told["schema"], told["month"]) == (1, "202611")
    assert (listed["model"], listed["version"], listed["artifact"]) == ("m", "1", content.artifact)
    assert (listed["stage"], listed["reason"], listed["rule"]) == ("development", "too weak", "low_elo")
    assert (listed["by"], listed["n"], listed["facts"]) == ("/fleet/n1/cli", 7, {"owner": "ann"})
    (file,) = listed["content"]["files"]
    assert (file["path"], file["size"], file["sha256"]) == ("model.bin", 5000, hashlib.sha256(data).hexdigest())

    assert collected.versions == ((Line(Kind.MODEL, "m"), "1"),)
    assert workplace.store.installed("m") == []
    assert workplace.store.find(file["sha256"]) is None
    assert not workplace.store.swarm_folder(content.artifact).exists()
    assert (workplace.data / "archive/202611/low_elo/m/1/model.bin").stat().st_nlink == 1


def test_a_blob_that_another_version_needs_stays_in_the_store(workplace: Workplace, random_bytes: Bytes) -> None:
    shared, own = random_bytes(3000, 2), random_bytes(3000, 3)
    content = workplace.receive("m", "1", {"a.bin": shared, "deep/b.bin": own}, Kind.BUNDLE)
    workplace.receive("m", "2", {"c.bin": shared}, Kind.BUNDLE)
    workplace.store.archive.keep(item(content))
    workplace.store.retire("202611/low_elo/m/1", ROOM)
    assert workplace.store.find(hashlib.sha256(shared).hexdigest()) is not None
    assert workplace.store.find(hashlib.sha256(own).hexdigest()) is None
    assert [v.version for v in workplace.store.installed("m")] == ["2"]
    workplace.store.archive.give_back(item(content))
    workplace.keep(content, "m", "1")
    assert workplace.store.verify(content, workplace.data / "models/m/1") == []


def test_a_version_that_two_archived_ones_share_their_bytes_with_leaves_nothing_behind(
    workplace: Workplace, random_bytes: Bytes
) -> None:
    data = random_bytes(3000, 4)
    content = workplace.promote("m", "1", data)
    workplace.keep(content, "m", "2")
    second = item(content, "2", "202612/manual/m/2")
    for each in (item(content), second):
        workplace.store.archive.keep(each)
    both = Pins(archived=frozenset((Line(Kind.MODEL, "m"), v) for v in "12"))
    workplace.store.retire("202611/low_elo/m/1", both)
    assert workplace.store.find(content.files[0].sha256) is not None
    workplace.store.retire(second.folder, both)
    assert workplace.store.find(content.files[0].sha256) is None


def test_nothing_is_retired_that_the_archive_does_not_list(workplace: Workplace, random_bytes: Bytes) -> None:
    workplace.promote("m", "1", random_bytes(1000, 5))
    with pytest.raises(NotKept):
        workplace.store.retire("202611/low_elo/m/1", ROOM)
    assert len(workplace.store.installed("m")) == 1


def test_what_a_slot_names_is_not_retired(workplace: Workplace, random_bytes: Bytes) -> None:
    content = workplace.promote("m", "1", random_bytes(1000, 6))
    workplace.store.activate(workplace.order("m", 1, "1", content))
    workplace.store.archive.keep(item(content))
    with pytest.raises(VersionHeld, match="production"):
        workplace.store.retire("202611/low_elo/m/1", ROOM)
    assert len(workplace.store.installed("m")) == 1


def test_one_flipped_bit_in_the_archive_is_named(workplace: Workplace, random_bytes: Bytes) -> None:
    files = {"a.bin": random_bytes(4000, 7), "deep/b.bin": random_bytes(4000, 8)}
    content = workplace.receive("m", "1", files, Kind.BUNDLE)
    workplace.store.archive.keep(item(content))
    assert workplace.store.archive.prove(item(content)) == []
    workplace.store.retire("202611/low_elo/m/1", ROOM)
    path = workplace.data / "archive/202611/low_elo/m/1/deep/b.bin"
    spoiled = bytearray(path.read_bytes())
    spoiled[100] ^= 1
    path.chmod(0o644)
    path.write_bytes(spoiled)
    (wrong,) = workplace.store.archive.prove(item(content))
    assert (wrong.path, wrong.actual) == ("deep/b.bin", hashlib.sha256(spoiled).hexdigest())
    path.unlink()
    (wrong,) = workplace.store.archive.prove(item(content))
    assert wrong.actual == "missing"


def test_a_damaged_manifest_is_never_replaced_and_hides_no_other_month(
    workplace: Workplace, random_bytes: Bytes
) -> None:
    content = workplace.promote("m", "1", random_bytes(1000, 9))
    other = workplace.promote("m", "2", random_bytes(1000, 10), name="other.bin")
    workplace.store.archive.keep(item(content))
    workplace.store.archive.keep(item(other, "2", "202612/manual/m/2"))
    path = workplace.data / "archive/202611/archived_manifest.json"
    path.write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        workplace.store.archive.keep(item(content))
    with pytest.raises(StoreError, match="is damaged"):
        workplace.store.retire("202611/low_elo/m/1", ROOM)
    assert path.read_text() == "{"
    assert [i.version for i in workplace.store.archive.items()] == ["2"]


@pytest.mark.parametrize(
    "folder", ["../../etc/m/1", "202611/../m/1", "202611/low_elo/m/../1", "202611/low_elo/other/1", "/202611/a/m/1", ""]
)
def test_an_archive_folder_that_leads_elsewhere_is_refused(
    workplace: Workplace, random_bytes: Bytes, folder: str
) -> None:
    content = workplace.promote("m", "1", random_bytes(1000, 11))
    with pytest.raises(PathRefused):
        workplace.store.archive.keep(item(content, folder=folder))


def test_collecting_takes_nothing_from_the_archive(workplace: Workplace, random_bytes: Bytes) -> None:
    data = random_bytes(2000, 12)
    content = workplace.promote("m", "1", data)
    workplace.store.archive.keep(item(content))
    store = workplace.again(orphan_seconds=0)
    store.retire("202611/low_elo/m/1", ROOM)
    store.collect(ROOM)
    assert (workplace.data / "archive/202611/low_elo/m/1/model.bin").read_bytes() == data


def test_forgetting_leaves_the_version_in_the_store(workplace: Workplace, random_bytes: Bytes) -> None:
    content = workplace.promote("m", "1", random_bytes(2000, 13))
    workplace.store.archive.keep(item(content))
    workplace.store.archive.forget("202611/low_elo/m/1")
    workplace.store.archive.forget("202611/low_elo/m/1")
    assert manifest(workplace)["archived"] == []
    assert not (workplace.data / "archive/202611/low_elo/m/1").exists()
    assert workplace.store.verify(content) == []


def test_a_version_that_is_archived_again_is_listed_once_with_what_was_said_last(
    workplace: Workplace, random_bytes: Bytes
) -> None:
    content = workplace.promote("m", "1", random_bytes(2000, 14))
    workplace.store.archive.keep(item(content))
    workplace.store.archive.keep(item(content).model_copy(update={"n": 9, "reason": "once more"}))
    (listed,) = manifest(workplace)["archived"]
    assert (listed["n"], listed["reason"]) == (9, "once more")
    assert workplace.store.archive.prove(item(content)) == []
