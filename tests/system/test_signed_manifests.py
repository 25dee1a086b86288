"""Signed manifests on a fleet of real distributors: two nodes take only what is signed, the third one anything."""

import asyncio
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
from fleetcast.events.content import Kind
from fleetcast.events.payloads import ArtifactAvailable, EventRejected
from fleetcast.events.signing import RING_SUBJECT, KeyRing, Revocation, RingKey
from fleetcast.events.state import Cause, SlotEntry
from fleetcast.registry import OriginRegistry
from fleetcast.transport.signing.keys import SigningKey
from fleetcast.transport.signing.ring import seal_ring

pytestmark = pytest.mark.asyncio(loop_scope="module")

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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    folder = tmp_path_factory.mktemp("signed")
    await asyncio.to_thread(TEAM.write, folder / "team-a.key")

    def change(name: str, settings: Settings) -> Settings:
        chosen = SigningSettings(
            root_keys=(ROOT.public,),
            unsigned="refuse" if name in STRICT else "allow",
            publisher_key=folder / "team-a.key" if name == "node-1" else None,
        )
        return settings.model_copy(update={"signing": chosen})

    async with fleet(folder, nodes=3, settings=change) as f:
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
    await three.until("an older ring is refused", lambda: all(older(three, node) for node in three.nodes))
    await revoke_and_look(three)


def refusals(f: Fleet, node: str, version: str) -> list[str]:
    lines = f.nodes[node].logged("transfer.refused")
    return [
        str(line["reason"]) for line in lines if line["version"] == version and "is not signed" in str(line["reason"])
    ]


def older(f: Fleet, node: str) -> bool:
    return any("key ring 1 is older than 2" in str(line["reason"]) for line in f.nodes[node].logged("keyring.refused"))


async def revoke_and_look(f: Fleet) -> None:
    """What a revoked key signed is neither installed nor turned to, and what is served stays served."""
    await tell(f, edition(3, revoked="laptop lost"))
    await knows(f, 3)
    await f.promote("late", "1", f.publish("late.safetensors", model(5)))
    assert "was revoked at" in (await rejection(f, "late")).reason
    registry = OriginRegistry(f.bus)
    first = await registry.version("good", "1")
    assert first is not None
    cause = Cause(event="back", sequence=10_000, by="/test", correlation="back")
    entry = SlotEntry(version="1", artifact=first.artifact)
    await registry.order_slot("good", entry, kind=Kind.MODEL, cause=cause, request="back", actor="/test")
    await f.until("nobody turns to it", lambda: all(f.nodes[n].logged("slot.revoked") for n in STRICT))
    assert current(f, "good")[:2] == ["2", "2"]


def kept_ring(node: NodeProcess) -> object:
    return json.loads((node.data / "trust" / "keyring.json").read_bytes())


async def test_a_node_that_starts_without_news_knows_the_ring_that_it_saw(three: Fleet) -> None:
    await tell(three, edition(7))
    await knows(three, 7)
    node = three.nodes["node-2"]
    kept = kept_ring(node)
    assert node.stop() == 0
    node.start()
    await three.until_ready("node-2")

    # The newest one, although the bus was told an older edition meanwhile.
    numbers = [line["number"] for line in node.logged("keyring.taken")]
    assert numbers[-1] == max(int(n) for n in numbers if isinstance(n, int))
    assert kept_ring(node) == kept


async def test_a_key_that_others_can_read_keeps_a_node_from_starting(three: Fleet, tmp_path: Path) -> None:
    node = three.nodes["node-1"]
    assert node.stop() == 0
    key = three.folder / "team-a.key"
    key.chmod(0o644)
    node.start()
    process = node.process
    assert process is not None
    assert await asyncio.to_thread(process.wait, 60) == 2
    assert "can be read by others" in node.tail()
    key.chmod(0o600)
    node.start()
    await three.until_ready("node-1")
