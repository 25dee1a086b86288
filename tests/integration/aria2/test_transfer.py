"""Transfers by aria2 as they should go: every source used, nothing fetched twice, nothing left behind."""

import asyncio
import os
import random
from urllib.parse import quote

import pytest
from tests.integration.aria2.conftest import MIB, Bench, happens

from fleetcast.config.settings import HttpSettings
from fleetcast.transport.aria2.ledger import Ledger
from fleetcast.transport.aria2.testing import MirrorServer
from fleetcast.transport.errors import TransferFailed
from fleetcast.transport.protocol import Source, Transport
from fleetcast.transport.serve import StoreServer
from fleetcast.transport.testing import Thing, Witness, thing_of, until


def sent(*mirrors: MirrorServer) -> int:
    return sum(mirror.sent for mirror in mirrors)


@pytest.mark.asyncio
async def test_an_artifact_comes_from_three_mirrors_at_once(bench: Bench, thing: Thing) -> None:
    mirrors = [await bench.mirror(thing, name, pace=8 * MIB) for name in "abc"]
    seen = await bench.fetch(thing, *mirrors)
    assert thing.lies_in(bench.folder)
    assert seen.verifier.complete
    assert all(mirror.sent > 0 for mirror in mirrors)
    assert thing.size <= sent(*mirrors) <= 1.1 * thing.size
    assert bench.is_clean()


@pytest.mark.asyncio
async def test_an_artifact_comes_from_real_stores(bench: Bench, thing: Thing) -> None:
    thing.put(bench.root / "store")
    servers = [
        StoreServer(
            HttpSettings(port=0),
            bind=host,
            advertise=host,
            find=lambda _sha256: thing.path(bench.root / "store"),
            content_of=lambda _artifact: thing.content,
        )
        for host in ("127.0.0.2", "127.0.0.3", "127.0.0.4")
    ]
    for server in servers:
        await server.start()
        bench.stack.push_async_callback(server.close)
    sources = [Source(f"n{i}", http=server.endpoint, complete=True) for i, server in enumerate(servers)]
    witness = Witness(thing, bench.folder)
    await bench.transport.fetch(bench.request(thing, *sources), witness)
    assert thing.lies_in(bench.folder)
    assert thing.size <= bench.transport.moved().received <= 1.1 * thing.size
    # A server also counts what lay in its socket when aria2 gave the rest of a segment to a quicker one.
    assert thing.size <= sum(server.sent_bytes for server in servers) <= 1.1 * thing.size + len(servers) * MIB
    assert sum(witness.last.bytes_by_source.values()) == pytest.approx(thing.size, abs=8)


@pytest.mark.asyncio
async def test_mirrors_on_one_host_are_all_used(bench: Bench, thing: Thing) -> None:
    mirrors = [await bench.mirror(thing, "same", pace=4 * MIB) for _ in range(3)]
    await bench.fetch(thing, *mirrors)
    assert thing.lies_in(bench.folder)
    assert all(mirror.sent > 0 for mirror in mirrors)
    assert thing.size <= sent(*mirrors) <= 1.1 * thing.size


@pytest.mark.asyncio
async def test_it_tells_how_far_it_is_and_from_whom(bench: Bench, thing: Thing) -> None:
    mirrors = [await bench.mirror(thing, name, pace=2 * MIB) for name in "ab"]
    seen = await bench.fetch(thing, *mirrors)
    assert seen.told[0].received > 0
    assert (seen.last.bytes_done, seen.last.bytes_total) == (thing.size, thing.size)
    assert set(seen.last.bytes_by_source) == {"a", "b"}
    assert seen.last.received == thing.size
    done = [progress.bytes_done for progress in seen.told]
    assert done == sorted(done)
    assert isinstance(bench.transport, Transport)


@pytest.mark.asyncio
async def test_a_bundle_comes_file_by_file_and_no_name_means_anything_to_aria2(bench: Bench) -> None:
    names = ("model.bin", "model.bin.aria2", "täg/with space.json", "a&b<c>'%41.txt", "deep/er/0", "0.aria2")
    bundle = thing_of({name: os.urandom(300_000 + 17 * i) for i, name in enumerate(names)})
    mirrors = [await bench.mirror(bundle, name) for name in "ab"]
    # The test's mirrors do not decode names; real stores do.
    for mirror in mirrors:
        mirror.files = {quote(name): data for name, data in bundle.files.items()}
    await bench.fetch(bundle, *mirrors)
    assert bundle.lies_in(bench.folder)
    assert bundle.size <= sent(*mirrors) <= 1.25 * bundle.size  # six small files: one asked twice is a sixth
    here = [p for p in bench.folder.rglob("*") if p.is_file()]
    assert len(here) == len(names)
    assert not list(bench.staging.iterdir())


@pytest.mark.asyncio
async def test_a_tiny_artifact_needs_no_aria2c(bench: Bench) -> None:
    tiny = thing_of({"tiny.json": b"{}"})
    mirror = await bench.mirror(tiny, "a")
    await bench.fetch(tiny, mirror)
    assert tiny.lies_in(bench.folder)
    assert bench.transport.stats().starts == 0


def half_of(thing: Thing) -> dict[int, frozenset[int]]:
    """Every other piece or so: what a swarm leaves behind."""
    count = thing.size // thing.piece_length
    return {0: frozenset(random.Random(1).sample(range(count), count // 2))}


def put_some(bench: Bench, thing: Thing, have: dict[int, frozenset[int]]) -> None:
    data, path = thing.files["model.bin"], thing.path(bench.folder)
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(thing.size)
        for piece in have[0]:
            file.seek(piece * thing.piece_length)
            file.write(data[piece * thing.piece_length : (piece + 1) * thing.piece_length])


async def hand_over(bench: Bench, thing: Thing) -> int:
    """Half of the pieces are proven already; returns the bytes that were fetched."""
    have = half_of(thing)
    put_some(bench, thing, have)
    mirrors = [await bench.mirror(thing, name) for name in "ab"]
    await bench.transport.fetch(
        bench.request(thing, *(m.source for m in mirrors), have=have), Witness(thing, bench.folder)
    )
    assert thing.lies_in(bench.folder)
    return sent(*mirrors)


@pytest.mark.asyncio
async def test_only_missing_pieces_are_fetched_after_another_rung(bench: Bench, thing: Thing) -> None:
    assert await hand_over(bench, thing) == thing.size // 2


@pytest.mark.asyncio
async def test_a_hand_over_that_forgets_pieces_is_noticed(
    bench: Bench, thing: Thing, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = Ledger.control
    monkeypatch.setattr(
        Ledger,
        "control",
        lambda self, file: type(control(self, file))(self.piece_length, self.size(file), bytes(self.count(file) // 8)),
    )
    assert await hand_over(bench, thing) > 1.1 * thing.size // 2


@pytest.mark.asyncio
async def test_what_an_earlier_try_left_unproven_is_hashed_and_used(bench: Bench, thing: Thing) -> None:
    put_some(bench, thing, half_of(thing))
    mirror = await bench.mirror(thing, "a")
    seen = await bench.fetch(thing, mirror)
    assert thing.lies_in(bench.folder)
    assert seen.verifier.complete
    assert thing.size // 2 <= mirror.sent <= 1.1 * (thing.size // 2)


@pytest.mark.asyncio
async def test_a_cancelled_transfer_leaves_its_bytes_and_nothing_else(bench: Bench, thing: Thing) -> None:
    mirror = await bench.mirror(thing, "a", pace=MIB)
    witness = Witness(thing, bench.folder)
    fetching = asyncio.create_task(bench.transport.fetch(bench.request(thing, mirror.source), witness))
    await happens(witness.half, fetching)
    proven = witness.verifier.proven_bytes
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert bench.is_clean()
    assert bench.transport.stats().child_pid is None
    # What it still puts into a connection that nobody reads is not what was asked for again.
    await mirror.silence()
    mirror.pace, mirror.sent = None, 0
    await bench.fetch(thing, mirror)
    assert thing.lies_in(bench.folder)
    assert mirror.sent <= thing.size - proven


@pytest.mark.asyncio
async def test_a_mirror_that_is_found_mid_way_is_used(bench: Bench, thing: Thing) -> None:
    slow, fast = await bench.mirror(thing, "a", pace=MIB // 2), await bench.mirror(thing, "b")
    witness = Witness(thing, bench.folder)
    fetching = asyncio.create_task(bench.transport.fetch(bench.request(thing, slow.source), witness))
    await happens(witness.began, fetching)
    await until(lambda: bench.transport.stats().child_pid is not None, 30)
    await bench.transport.add_sources(thing.artifact, [fast.source])
    await fetching
    assert thing.lies_in(bench.folder)
    assert fast.sent > slow.sent


@pytest.mark.asyncio
async def test_only_who_holds_everything_is_asked(bench: Bench, thing: Thing) -> None:
    whole, partial = await bench.mirror(thing, "a"), await bench.mirror(thing, "b")
    incomplete = Source("b", http=partial.source.http, complete=False)
    await bench.transport.fetch(bench.request(thing, whole.source, incomplete), Witness(thing, bench.folder))
    assert not partial.asked.is_set()


@pytest.mark.asyncio
async def test_a_cap_slows_a_transfer_down(bench: Bench, thing: Thing) -> None:
    mirror = await bench.mirror(thing, "a")
    bench.transport.limit(4 * MIB, None)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await bench.fetch(thing, mirror)
    assert loop.time() - began > 1.0
    assert thing.size <= bench.transport.moved().received <= 1.1 * thing.size


@pytest.mark.asyncio
async def test_two_artifacts_share_one_aria2c(bench: Bench, thing: Thing) -> None:
    other = thing_of({"other.bin": os.urandom(2 * MIB)})
    mirrors = await bench.mirror(thing, "a", pace=2 * MIB), await bench.mirror(other, "b", pace=MIB)
    await asyncio.gather(bench.fetch(thing, mirrors[0]), bench.fetch(other, mirrors[1]))
    assert thing.lies_in(bench.folder)
    assert other.lies_in(bench.folder)
    assert bench.transport.stats().starts == 1
    assert bench.transport.stats().child_pid is None


@pytest.mark.asyncio
async def test_a_file_with_a_second_name_is_not_written_to(bench: Bench, thing: Thing) -> None:
    path, other = thing.path(bench.folder), bench.root / "other"
    path.parent.mkdir(parents=True)
    other.write_bytes(bytes(100_000))
    path.hardlink_to(other)
    await bench.fetch(thing, await bench.mirror(thing, "a"))
    assert thing.lies_in(bench.folder)
    assert other.read_bytes() == bytes(100_000)


@pytest.mark.asyncio
async def test_a_link_in_place_of_a_file_is_refused(bench: Bench, thing: Thing) -> None:
    path = thing.path(bench.folder)
    path.parent.mkdir(parents=True)
    path.symlink_to(bench.root / "elsewhere")
    with pytest.raises(TransferFailed, match="cannot be made"):
        await bench.fetch(thing, await bench.mirror(thing, "a"))
    assert not (bench.root / "elsewhere").exists()
    assert not list(bench.staging.iterdir())
