"""Signed manifests on fleets of real distributors: node-1 and node-2 take only what is signed, node-3 anything."""

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from tests.system.test_promotion import model

from fleetcast.bus.publish import BatchMessage
from fleetcast.config.settings import Settings
from fleetcast.config.signing import SigningSettings
from fleetcast.daemons.testing import Fleet, NodeProcess, fleet
from fleetcast.events.content import Content, Kind
from fleetcast.events.envelope import new_event
from fleetcast.events.payloads import ArtifactAvailable, EventRejected, ManifestEnvelope
from fleetcast.events.signing import MANIFEST_TYPE, RING_SUBJECT, KeyRing, Revocation, RingKey
from fleetcast.events.state import Cause, SlotEntry
from fleetcast.registry import OriginRegistry
from fleetcast.security import keys
from fleetcast.transport.manifest import signed_bytes, state, with_signature
from fleetcast.transport.signing.keys import SigningKey
from fleetcast.transport.signing.ring import seal_ring

ROOT, TEAM = SigningKey.new(), SigningKey.new()
STRICT = ("node-1", "node-2")


def edition(number: int, *, revoked: str | None = None) -> bytes:
    now = datetime.now(UTC)
    key = RingKey(
        owner="team-a",
        public=TEAM.public,
        added_at=(now - timedelta(hours=1)).isoformat(),
        not_after=(now + timedelta(hours=1)).isoformat(),
        revoked=Revocation(at=now.isoformat(), reason=revoked) if revoked else None,
    )
    return seal_ring(KeyRing(schema=1, number=number, issued_at=now.isoformat(), keys=(key,)), ROOT)


@contextlib.asynccontextmanager
async def signing_fleet(folder: Path, nodes: int) -> AsyncIterator[Fleet]:
    """Nodes that know the root key, and node-1 signs what is published there."""
    await asyncio.to_thread(keys.write_new, folder / "team-a.key", TEAM.pem)

    def change(name: str, settings: Settings) -> Settings:
        chosen = SigningSettings(
            root_keys=(ROOT.public,),
            unsigned="refuse" if name in STRICT else "allow",
            publisher_key=folder / "team-a.key" if name == "node-1" else None,
        )
        return settings.model_copy(update={"signing": chosen})

    async with fleet(folder, nodes=nodes, settings=change) as f:
        yield f


@pytest_asyncio.fixture
async def three(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with signing_fleet(tmp_path, nodes=3) as f:
        yield f


@pytest_asyncio.fixture
async def one(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with signing_fleet(tmp_path, nodes=1) as f:
        yield f


async def tell(f: Fleet, data: bytes) -> None:
    await f.bus.batch([BatchMessage(RING_SUBJECT, data)])


async def knows(f: Fleet, number: int) -> None:
    """Wait until every node goes by an edition."""

    def all_know() -> bool:
        said = [[line["number"] for line in n.logged("keyring.taken")] for n in f.nodes.values()]
        return all(numbers and numbers[-1] == number for numbers in said)

    await f.until(f"key ring {number} in force", all_know)


async def rejection(f: Fleet, name: str) -> EventRejected:
    async with asyncio.timeout(30):
        while True:
            for event in await f.events("fc.ev.event.rejected.*"):
                if isinstance(event.payload, EventRejected) and event.payload.subject.endswith(f".{name}"):
                    return event.payload
            await asyncio.sleep(0.05)


def current(f: Fleet, name: str) -> list[str | None]:
    return [f.current(name)[node] for node in f.nodes]


@pytest.mark.asyncio
async def test_nodes_take_what_is_signed_and_nothing_else_and_keep_what_they_serve(three: Fleet) -> None:
    await three.promote("early", "1", three.publish("early.safetensors", model(1)))
    assert "no key ring has reached this node" in (await rejection(three, "early")).reason

    await tell(three, edition(2))
    await knows(three, 2)
    for version in ("1", "2"):
        await three.promote("good", version, three.publish(f"good-{version}.safetensors", model(int(version))))
        await three.until_served("good", version)
    offers = [e.payload for e in await three.events("fc.ev.artifact.available.good")]
    assert {s.keyid for o in offers if isinstance(o, ArtifactAvailable) for s in o.envelope.signatures} == {TEAM.id}

    await three.promote("keyless", "1", three.publish("keyless.safetensors", model(3)), "node-2")
    refused = await rejection(three, "keyless")
    assert "is not signed; this node has no publisher key" in refused.reason
    assert "fleetcast keys list" in refused.next_step

    # node-3 offers without a signature, as whoever can write to the bus might.
    await three.promote("good", "3", three.publish("good-3.safetensors", model(4)), "node-3")
    await three.until_served("good", "3", nodes=("node-3",))
    await three.until("the others refuse", lambda: all(refusals(three, node, "3") for node in STRICT))
    assert current(three, "good") == ["2", "2", "3"]

    await tell(three, edition(1))
    await three.until("an older ring is refused", lambda: all(older(three, node, 1, 2) for node in three.nodes))
    await revoke_and_look(three)


def refusals(f: Fleet, node: str, version: str) -> list[str]:
    lines = f.nodes[node].logged("transfer.refused")
    return [
        str(line["reason"]) for line in lines if line["version"] == version and "is not signed" in str(line["reason"])
    ]


def older(f: Fleet, node: str, found: int, known: int) -> bool:
    words = f"key ring {found} is older than {known}"
    return any(words in str(line["reason"]) for line in f.nodes[node].logged("keyring.refused"))


async def revoke_and_look(f: Fleet) -> None:
    """What a revoked key signed is neither installed nor turned to, and what is served stays served."""
    await tell(f, edition(3, revoked="laptop lost"))
    await knows(f, 3)
    await f.promote("late", "1", f.publish("late.safetensors", model(5)))
    assert "was revoked at" in (await rejection(f, "late")).reason
    await order(f, "1", await artifact_of(f, "1"), sequence=10_000)
    await f.until("nobody turns to it", lambda: all(f.nodes[n].logged("slot.revoked") for n in STRICT))
    assert current(f, "good")[:2] == ["2", "2"]


def kept_ring(node: NodeProcess) -> object:
    return json.loads((node.data / "trust" / "keyring.json").read_bytes())


@pytest.mark.asyncio
async def test_a_node_that_starts_without_news_knows_the_ring_that_it_saw(one: Fleet) -> None:
    await tell(one, edition(7))
    await knows(one, 7)
    node = one.nodes["node-1"]
    await one.until("the ring is kept", (node.data / "trust" / "keyring.json").exists)
    kept = kept_ring(node)
    assert node.stop() == 0

    await tell(one, edition(6))
    node.start()
    await one.until_ready("node-1")

    assert [line["number"] for line in node.logged("keyring.taken")] == [7, 7]
    await one.until("the older ring is refused", lambda: older(one, "node-1", 6, 7))
    assert kept_ring(node) == kept


def sealed(envelope: ManifestEnvelope, key: SigningKey = TEAM) -> ManifestEnvelope:
    at = datetime.now(UTC).isoformat()
    return with_signature(envelope, key.seal(MANIFEST_TYPE, signed_bytes(envelope.statement, at)), at)


def forgeries(genuine: ArtifactAvailable) -> list[tuple[str, ArtifactAvailable]]:
    """What somebody offers who can write to the bus, each of other bytes, and why a node refuses it."""
    assert genuine.content is not None
    known, over = genuine.content, datetime.now(UTC) - timedelta(seconds=1)

    def content(digit: int) -> Content:
        files = tuple(f.model_copy(update={"sha256": f"{digit}" * 64}) for f in known.files)
        return known.model_copy(update={"files": files})

    mixed = state(content(3), "good", "mixed").model_copy(update={"signatures": genuine.envelope.signatures})
    offered = [
        ("is not signed", state(content(1), "good", "unsigned"), content(1)),
        ("which key ring 2 lacks", sealed(state(content(2), "good", "wrong"), SigningKey.new()), content(2)),
        ("did not make for it", mixed, content(3)),
        ("was valid until", sealed(state(content(4), "good", "expired", not_after=over)), content(4)),
        # Of a version that is here already, with other bytes under it: no repair, so that its time limit holds.
        ("was valid until", sealed(state(content(5), "good", "2", not_after=over)), content(5)),
    ]
    return [
        (why, genuine.model_copy(update={"artifact": c.artifact, "content": c, "envelope": envelope}))
        for why, envelope, c in offered
    ]


@pytest.mark.asyncio
async def test_forged_mixed_expired_and_replayed_manifests_are_refused_and_the_node_serves_on(one: Fleet) -> None:
    await tell(one, edition(2))
    await knows(one, 2)
    for version in ("1", "2"):
        await one.promote("good", version, one.publish(f"good-{version}.safetensors", model(int(version))))
        await one.until_served("good", version)
    offers = await one.events("fc.ev.artifact.available.good")
    first, second = (e.payload for e in offers)
    assert isinstance(first, ArtifactAvailable)
    assert isinstance(second, ArtifactAvailable)

    for number, (why, forged) in enumerate(forgeries(second), 1):
        await one.bus.publish(new_event(forged, source="/attacker"))
        await order(one, forged.envelope.statement.version, forged.artifact, sequence=10_000 + number)
        reason = functools.partial(refused_for, one, forged.envelope.statement.version, why)
        await one.until(f"{forged.envelope.statement.version}: {why}", reason)
        assert one.current("good") == {"node-1": "2"}

    await one.bus.publish(new_event(first, source="/attacker"))
    await order(one, "2", second.artifact, sequence=20_000)
    await one.promote("good", "3", one.publish("good-3.safetensors", model(3)))
    await order(one, "3", await artifact_of(one, "3"), sequence=30_000)
    await one.until_served("good", "3")
    assert not one.nodes["node-1"].logged("transfer.started")


def refused_for(f: Fleet, version: str, why: str) -> bool:
    lines = f.nodes["node-1"].logged("transfer.refused")
    return any(line["version"] == version and why in str(line["reason"]) for line in lines)


async def artifact_of(f: Fleet, version: str) -> str:
    async with asyncio.timeout(30):
        while True:
            if (known := await OriginRegistry(f.bus).version("good", version)) is not None:
                return known.artifact
            await asyncio.sleep(0.05)


async def order(f: Fleet, version: str, artifact: str, *, sequence: int) -> None:
    """Order what shall be served, as whoever may write slot orders can."""
    cause = Cause(event=f"order-{sequence}", sequence=sequence, by="/test", correlation="order")
    entry = SlotEntry(version=version, artifact=artifact)
    await OriginRegistry(f.bus).order_slot(
        "good", entry, kind=Kind.MODEL, cause=cause, request=f"order-{sequence}", actor="/test"
    )


@pytest.mark.asyncio
async def test_a_key_that_others_can_read_keeps_a_node_from_starting(one: Fleet) -> None:
    node = one.nodes["node-1"]
    assert node.stop() == 0
    key = one.folder / "team-a.key"
    key.chmod(0o644)
    node.start()
    process = node.process
    assert process is not None
    assert await asyncio.to_thread(process.wait, 60) == 2
    assert "can be read by others" in node.tail()
    key.chmod(0o600)
    node.start()
    await one.until_ready("node-1")
