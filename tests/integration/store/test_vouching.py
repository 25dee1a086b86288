"""What a revocation does to versions that are installed: none of them is turned to, and a node says so once."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.unit.signing.rings import NOW, entry, ring

from fleetcast.config.signing import SigningSettings
from fleetcast.daemons.distributor.board import Board
from fleetcast.daemons.distributor.keyring import Keyring
from fleetcast.daemons.distributor.shelf import Shelf
from fleetcast.daemons.distributor.vouching import Vouching
from fleetcast.events.content import Content, Kind
from fleetcast.events.payloads import Checks, ManifestEnvelope
from fleetcast.events.signing import MANIFEST_TYPE
from fleetcast.events.state import SlotEntry
from fleetcast.transport.manifest import Unsigned, signed_bytes, state, with_signature
from fleetcast.transport.signing.keys import SigningKey
from fleetcast.transport.signing.ring import seal_ring

Workplace = Any
ROOT, GONE, GOOD = SigningKey.new(), SigningKey.new(), SigningKey.new()
LINE = (Kind.MODEL, "hex8")
CHECKS = Checks(size="ok", sha256="ok", format="ok")


def signed(content: Content, version: str, key: SigningKey) -> ManifestEnvelope:
    envelope, at = state(content, "hex8", version), NOW.isoformat()
    return with_signature(envelope, key.seal(MANIFEST_TYPE, signed_bytes(envelope.statement, at)), at)


def keyring(data: Path, unsigned: Unsigned, number: int = 1) -> Keyring:
    """What a node believes after it was told that a key is revoked."""
    keys = (entry(GONE, revoked=True), entry(GOOD, "team-b"))
    (data / "trust").mkdir(exist_ok=True)
    (data / "trust/keyring.json").write_bytes(seal_ring(ring(*keys, number=number), ROOT))
    return Keyring.open(SigningSettings(root_keys=(ROOT.public,), unsigned=unsigned), data)


class Node:
    """Version 1 is of the key that was revoked, version 2 of one that counts; both are the same bytes."""

    def __init__(self, workplace: Workplace) -> None:
        self.data, self.store = workplace.data, workplace.store
        self.content: Content = workplace.promote("other", "1", b"weights")
        for version, key in (("1", GONE), ("2", GOOD)):
            envelope = signed(self.content, version, key)
            self.store.install(self.content, "hex8", version, CHECKS, "local", 0.1, envelope)

    async def vouching(self, unsigned: Unsigned = "refuse") -> Vouching:
        shelf = Shelf(self.store, Board())
        await shelf.refresh()
        return Vouching(await asyncio.to_thread(keyring, self.data, unsigned), self.store, shelf)

    def entry(self, version: str) -> SlotEntry:
        return SlotEntry(version=version, artifact=self.content.artifact)


@pytest.fixture
def node(workplace: Workplace) -> Node:
    return Node(workplace)


@pytest.mark.asyncio
@pytest.mark.parametrize("unsigned", ["allow", "refuse"])
async def test_a_later_offer_of_the_same_bytes_does_not_bring_a_revoked_version_back(
    node: Node, unsigned: Unsigned
) -> None:
    vouching = await node.vouching(unsigned)
    for later in (signed(node.content, "2", GOOD), state(node.content, "hex8", "1")):
        await asyncio.to_thread(node.store.write_record, node.content, b"metainfo", later)
        vouching.forget()
        assert await vouching.is_revoked(LINE, node.entry("1"))
        assert not await vouching.is_revoked(LINE, node.entry("2"))


@pytest.mark.asyncio
async def test_a_revoked_version_is_spoken_of_once_per_key_ring(node: Node) -> None:
    vouching = await node.vouching()
    with capture_logs() as logs:
        for _ in range(3):
            assert await vouching.is_revoked(LINE, node.entry("1"))
        # Also where nothing on the disk could be asked again.
        (node.data / "models/hex8/.installs/1.json").unlink()
        assert await vouching.is_revoked(LINE, node.entry("1"))
        vouching.forget()
        assert await vouching.is_revoked(LINE, node.entry("1"))
    assert [line["event"] for line in logs] == ["slot.revoked", "slot.unvouched"]


@pytest.mark.asyncio
@pytest.mark.parametrize(("unsigned", "held_back"), [("allow", False), ("refuse", True)])
async def test_a_version_whose_signature_cannot_be_read_is_not_turned_to_where_signatures_are_needed(
    node: Node, unsigned: Unsigned, held_back: bool
) -> None:
    vouching = await node.vouching(unsigned)
    record = node.data / "models/hex8/.installs/2.json"
    whole = record.read_bytes()
    record.chmod(0o644)
    record.write_bytes(whole[: len(whole) // 2])
    with capture_logs() as logs:
        assert [await vouching.is_revoked(LINE, node.entry("2")) for _ in range(3)] == [held_back] * 3
    assert [line["event"] for line in logs] == ["slot.unvouched"]
    record.write_bytes(whole)
    assert not await vouching.is_revoked(LINE, node.entry("2"))


@pytest.mark.asyncio
async def test_nodes_without_a_revocation_look_at_nothing(node: Node) -> None:
    vouching = await node.vouching()
    known = ring(entry(GONE), entry(GOOD, "team-b", until=timedelta(days=-1)), number=2)
    (node.data / "trust/keyring.json").write_bytes(seal_ring(known, ROOT))
    settings = SigningSettings(root_keys=(ROOT.public,), unsigned="refuse")
    quiet = Vouching(await asyncio.to_thread(Keyring.open, settings, node.data), node.store, vouching._shelf)
    (node.data / "models/hex8/.installs/1.json").unlink()
    assert not await quiet.is_revoked(LINE, node.entry("1"))
