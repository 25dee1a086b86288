"""Transfers in which something dies, lies, stops, or is damaged."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.system.faults.variants import break_here

from fleetcast.transport import metainfo
from fleetcast.transport.bittorrent import fetching, supervisor
from fleetcast.transport.bittorrent.bans import BanBook
from fleetcast.transport.bittorrent.transport import BittorrentTransport
from fleetcast.transport.errors import StoreFull, TransferFailed, TransferStalled
from fleetcast.transport.protocol import Source
from fleetcast.transport.testing import EvilPeer, Node, Swarm, Thing, Witness, thing_of, until

pytestmark = pytest.mark.asyncio
MIB = 2**20
SLOW = {"upload_limit_bytes_per_second": 4 * MIB}
"""4 MiB then take more than a second: time to break things in."""


def flip(path: Path, offset: int) -> None:
    """Change one byte in place, whatever the permissions."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def first_proven(seen: Witness) -> int:
    """Offset in the first file of a piece that was proven already."""
    missing = {piece for _, piece in seen.verifier.missing()}
    return (
        next(n for n in range(seen.thing.size // seen.thing.piece_length) if n not in missing) * seen.thing.piece_length
    )


@contextlib.asynccontextmanager
async def half_way(node: Node, thing: Thing, *sources: Source) -> AsyncIterator[tuple[Witness, asyncio.Task[Witness]]]:
    """A fetch that has proven half of its bytes; it goes on inside, and is over after."""
    seen = node.witness(thing)
    task = asyncio.create_task(node.fetch(thing, *sources, witness=seen))
    waiting = asyncio.create_task(seen.half.wait())
    await asyncio.wait({task, waiting}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    assert waiting.done(), task
    assert not task.done(), "too fast to be half way"
    try:
        yield seen, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_transfer_survives_the_death_of_a_seed(swarm: Swarm, model: Thing) -> None:
    dying, living, node = await swarm.node(**SLOW), await swarm.node(**SLOW), await swarm.node()
    await dying.seed(model)
    await living.seed(model)
    async with half_way(node, model, dying.source, living.source) as (seen, task):
        await dying.transport.close()
        await task
    assert model.lies_in(node.folder)
    assert sum(seen.last.bytes_by_source.values()) <= 1.1 * model.size


async def test_a_transfer_survives_the_death_of_its_own_process(swarm: Swarm, model: Thing) -> None:
    origin, node = await swarm.node(**SLOW), await swarm.node()
    await origin.seed(model)
    endpoint = node.transport.endpoint
    async with half_way(node, model, origin.source) as (seen, task):
        os.kill(node.child, signal.SIGKILL)
        await task
    assert model.lies_in(node.folder)
    assert seen.verifier.complete
    assert node.transport.stats().restarts == 1
    assert node.transport.endpoint == endpoint
    assert seen.last.bytes_by_source["n0"] <= 1.3 * model.size, "what lay there was not used"


async def test_a_seed_comes_back_after_the_death_of_its_process(swarm: Swarm, model: Thing) -> None:
    origin, node = await swarm.node(), await swarm.node()
    await origin.seed(model)
    os.kill(origin.child, signal.SIGKILL)
    await node.fetch(model, origin.source)
    assert model.lies_in(node.folder)


async def test_a_byte_flipped_between_death_and_restart_is_found_and_fetched_again(swarm: Swarm, model: Thing) -> None:
    origin, node = await swarm.node(**SLOW), await swarm.node()
    await origin.seed(model)
    async with half_way(node, model, origin.source) as (seen, task):
        os.kill(node.child, signal.SIGKILL)
        flip(model.path(node.folder), first_proven(seen))
        await task
    assert model.lies_in(node.folder)
    assert seen.verifier.complete


async def test_a_restart_that_trusts_the_folder_would_be_caught(
    swarm: Swarm, model: Thing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant of the test above: a child that believes it has everything is not believed."""

    def trusting(self: BittorrentTransport) -> None:
        for torrent in self._torrents.values():
            torrent.verified = True
            self._add(torrent)

    origin, node = await swarm.node(**SLOW), await swarm.node()
    monkeypatch.setattr(node.transport._supervisor, "_on_up", lambda: trusting(node.transport))
    await origin.seed(model)
    async with half_way(node, model, origin.source) as (_, task):
        os.kill(node.child, signal.SIGKILL)
        flip(model.path(node.folder), 0)
        done, _ = await asyncio.wait({task}, timeout=1)
        assert not done or task.exception() is not None


async def test_a_byte_flipped_between_two_lives_of_the_daemon_is_found(swarm: Swarm, model: Thing) -> None:
    origin, before = await swarm.node(**SLOW), await swarm.node()
    await origin.seed(model)
    async with half_way(before, model, origin.source) as (seen, _):
        offset = first_proven(seen)
    await before.transport.close()
    flip(model.path(before.folder), offset)
    after = await swarm.node()
    after.folder = before.folder
    seen = await after.fetch(model, origin.source)
    assert model.lies_in(after.folder)
    assert seen.verifier.complete
    assert sum(seen.last.bytes_by_source.values()) < 0.7 * model.size, "what lay there was not used"


async def test_bytes_that_change_under_a_transfer_are_fetched_again(swarm: Swarm, model: Thing) -> None:
    origin, node = await swarm.node(), await swarm.node()
    await origin.seed(model)

    def tamper(claims: int) -> None:
        if claims == 100:
            with model.path(node.folder).open("r+b") as file:
                file.write(bytes(model.size))

    seen = Witness(model, node.folder, before=tamper)
    await node.fetch(model, origin.source, witness=seen)
    assert seen.verifier.complete
    assert model.lies_in(node.folder)


async def test_a_disk_that_stays_wrong_fails_the_transfer(swarm: Swarm, model: Thing) -> None:
    origin, node = await swarm.node(), await swarm.node()
    await origin.seed(model)
    with pytest.raises(TransferFailed, match=f"after {fetching.MAX_RECHECKS} checks"):
        await node.fetch(model, origin.source, witness=Witness(model, node.folder, refuse=True))
    assert node.transport.stats().torrents == ()


async def test_a_folder_that_vanishes_is_filled_again(swarm: Swarm, model: Thing) -> None:
    origin, node = await swarm.node(**SLOW), await swarm.node()
    await origin.seed(model)
    async with half_way(node, model, origin.source) as (_, task):
        model.path(node.folder).unlink()
        model.path(node.folder).parent.rmdir()
        await task
    assert model.lies_in(node.folder)


async def test_a_folder_that_cannot_be_made_fails_the_transfer_with_its_name(swarm: Swarm, model: Thing) -> None:
    node = await swarm.node()
    node.folder = node.folder / "file" / "below"
    node.folder.parent.write_text("not a folder")
    with pytest.raises(TransferFailed, match="file/below"):
        await node.fetch(model)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_fails_the_transfer_and_says_so(swarm: Swarm, model: Thing, small_disk: Path) -> None:
    origin, node = await swarm.node(), await swarm.node()
    node.folder = small_disk
    await origin.seed(model)
    with pytest.raises(StoreFull, match="No space left"):
        await node.fetch(model, origin.source)
    small = thing_of({"small.pt": os.urandom(100_000)})
    await origin.seed(small)
    model.path(small_disk).unlink()
    await node.fetch(small, origin.source)
    assert small.lies_in(small_disk)


async def test_a_source_that_stops_sending_is_a_stall(swarm: Swarm, model: Thing) -> None:
    origin, node = await swarm.node(**SLOW), await swarm.node(stall_seconds=0.5)
    await origin.seed(model)
    async with half_way(node, model, origin.source) as (_, task):
        os.kill(origin.child, signal.SIGSTOP)
        try:
            with pytest.raises(TransferStalled):
                await task
        finally:
            os.kill(origin.child, signal.SIGCONT)
    await node.fetch(model, origin.source)
    assert model.lies_in(node.folder)


async def test_a_process_that_hangs_is_replaced(swarm: Swarm, model: Thing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "HANG_SECONDS", 0.8)
    origin, node = await swarm.node(**SLOW), await swarm.node()
    await origin.seed(model)
    async with half_way(node, model, origin.source) as (_, task):
        os.kill(node.child, signal.SIGSTOP)
        await task
    assert model.lies_in(node.folder)
    assert node.transport.stats().restarts == 1


async def test_a_process_that_dies_again_and_again_fails_the_transfer(
    swarm: Swarm, model: Thing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MAX_CHILD_DEATHS", 1)
    node = await swarm.node()
    task = asyncio.create_task(node.fetch(model))
    for _ in range(2):
        await until(lambda: node.transport.stats().child_pid is not None)
        os.kill(node.child, signal.SIGKILL)
        await until(lambda: node.transport.stats().child_pid is None)
    with pytest.raises(TransferFailed, match="died 2 times"):
        await task


async def test_closing_fails_what_is_under_way(swarm: Swarm, model: Thing) -> None:
    node = await swarm.node()
    task = asyncio.create_task(node.fetch(model))
    await asyncio.sleep(0.1)
    await node.transport.close()
    with pytest.raises(TransferFailed, match="closed"):
        await task


async def test_a_damaged_seed_is_not_written_to_and_not_seeded_on(swarm: Swarm, model: Thing) -> None:
    damaged, good, node = await swarm.node(), await swarm.node(**SLOW), await swarm.node()
    await damaged.seed(model)
    flip(model.path(damaged.folder), 5)
    as_it_was = model.path(damaged.folder).read_bytes()
    await good.seed(model)
    await node.fetch(model, damaged.source, good.source)
    assert model.lies_in(node.folder)
    assert model.path(damaged.folder).read_bytes() == as_it_was


def flip_200_bits(path: Path) -> None:
    """At random offsets."""
    chance, size = random.Random(7), path.stat().st_size
    for _ in range(200):
        flip(path, chance.randrange(size))


async def test_of_200_flipped_bits_none_is_accepted(swarm: Swarm, model: Thing) -> None:
    damaged, good, node = await swarm.node(), await swarm.node(**SLOW), await swarm.node()
    await damaged.seed(model)
    flip_200_bits(model.path(damaged.folder))
    await good.seed(model)
    seen = await node.fetch(model, damaged.source, good.source)
    assert seen.verifier.complete
    assert model.lies_in(node.folder)


async def test_a_node_that_compares_nothing_accepts_flipped_bits(
    swarm: Swarm, model: Thing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant of the test above: neither libtorrent nor the proof looks at what came."""
    break_here(monkeypatch, "believes what it is sent")
    damaged, node = await swarm.node(), await swarm.node()
    await damaged.seed(model)
    flip_200_bits(model.path(damaged.folder))
    await node.fetch(model, damaged.source, witness=Witness(model, node.folder, trust=True))
    assert not model.lies_in(node.folder)


async def test_a_peer_that_takes_requests_and_never_answers_holds_nobody_up(swarm: Swarm, model: Thing) -> None:
    good, node = await swarm.node(**SLOW), await swarm.node()
    await good.seed(model)
    async with EvilPeer(metainfo.read(model.metainfo, model.content).info_hash, mute=True) as mute:
        seen = await node.fetch(model, mute.source, good.source)
        assert mute.requests > 0, "the mute peer was never asked"
    assert seen.verifier.complete
    assert model.lies_in(node.folder)


async def test_a_peer_that_sends_wrong_bytes_is_banned_and_wastes_little(swarm: Swarm) -> None:
    # The artifact is larger than what is in flight, and the good source slow, so that the evil one is asked.
    thing = thing_of({"model.pt": os.urandom(8 * MIB)}, piece_length=256 * 1024)
    good, node = await swarm.node(upload_limit_bytes_per_second=8 * MIB), await swarm.node()
    await good.seed(thing)
    async with EvilPeer(metainfo.read(thing.metainfo, thing.content).info_hash) as evil:
        seen = await node.fetch(thing, evil.source, good.source)
        (torrent,) = node.transport.stats().torrents
        assert evil.sent_bytes > 0, "the evil peer was never asked"
        assert torrent.banned == (evil.source.bt,)
        # One to three pieces when measured: those that were on their way when the first one had been hashed.
        assert torrent.failed_bytes <= 8 * thing.piece_length
        assert evil.connections == 1
    assert seen.verifier.complete
    assert thing.lies_in(node.folder)


async def test_two_liars_at_once_are_thrown_out_and_hold_nobody_up(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is banned first is let in again, for it may have been the other; it shows itself again, given time."""
    pardoned = set[str]()

    def pardon(book: BanBook, addresses: Iterable[str]) -> None:
        pardoned.update(addresses)
        taken_back(book, addresses)

    taken_back = BanBook.pardon
    monkeypatch.setattr(BanBook, "pardon", pardon)
    thing = thing_of({"model.pt": os.urandom(8 * MIB)})
    good, node = await swarm.node(upload_limit_bytes_per_second=4 * MIB), await swarm.node()
    told: list[str] = []
    node.transport._on_banned = lambda _, ban: told.append(ban.peer)
    await good.seed(thing)
    info_hash = metainfo.read(thing.metainfo, thing.content).info_hash
    async with EvilPeer(info_hash) as one, EvilPeer(info_hash) as other:
        sources = [replace(evil.source, node=name) for evil, name in ((one, "one"), (other, "other"))]
        await node.fetch(thing, *sources, good.source)
        (torrent,) = node.transport.stats().torrents
        print(told, pardoned, torrent.failed_bytes)  # shown when the test fails
        assert torrent.failed_bytes <= thing.size // 4
        assert pardoned.intersection({one.source.bt, other.source.bt})
    assert {"one", "other"}.intersection(told)
    assert thing.lies_in(node.folder)


async def test_a_seed_whose_files_are_missing_is_reported(swarm: Swarm, model: Thing) -> None:
    origin = await swarm.node()
    await origin.transport.seed(model.artifact, model.content, model.metainfo, origin.folder)
    await until(lambda: bool(origin.lost))
    assert origin.lost[0][0] == model.artifact
    assert origin.transport.stats().torrents == ()
    assert not model.path(origin.folder).exists()


async def test_a_source_that_is_no_address_is_left_out(swarm: Swarm, model: Thing) -> None:
    origin, node = await swarm.node(), await swarm.node()
    await origin.seed(model)
    bad = [Source("a", "nonsense"), Source("b", "127.0.0.1:99999"), Source("c", "no.such.host.invalid:1"), Source("d")]
    await node.fetch(model, *bad, origin.source)
    assert model.lies_in(node.folder)


_DAEMON = """
import asyncio, sys
from fleetcast.config.settings import BittorrentSettings
from fleetcast.transport.bittorrent import BittorrentTransport

async def main():
    transport = BittorrentTransport(BittorrentSettings(port=0), "127.0.0.1", "127.0.0.1")
    await transport.start()
    print(transport.stats().child_pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_the_process_dies_with_its_daemon() -> None:
    daemon = await asyncio.create_subprocess_exec(sys.executable, "-c", _DAEMON, stdout=subprocess.PIPE)
    assert daemon.stdout is not None
    child = int(await daemon.stdout.readline())
    daemon.kill()
    await daemon.wait()
    # A zombie that nobody has reaped yet has an empty command line.
    command = Path(f"/proc/{child}/cmdline")
    await until(lambda: not command.exists() or not command.read_bytes())
