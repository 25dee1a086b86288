"""The last rung with a real rsync: from a module on loopback, and over ssh with a forced command."""

import asyncio
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from tests.integration.rsync.conftest import ModuleMaker, Server, free_port, put_in_store
from tests.integration.rsync.receiver import MIB, PIECE, Receiver, model, noise, rsyncs_of

from fleetcast.config.settings import RsyncSettings
from fleetcast.transport.errors import SourceUnreachable, StoreFull, TransferError, TransferFailed, TransferStalled
from fleetcast.transport.protocol import Source
from fleetcast.transport.rsync import stage
from fleetcast.transport.testing import Witness, thing_of, until

pytestmark = pytest.mark.asyncio
RELAYED = pytest.mark.parametrize("relayed", [True, False], ids=["caps are possible", "no caps"])


async def test_a_file_comes_whole_and_every_piece_is_claimed(module: ModuleMaker, receiver: Receiver) -> None:
    thing, server = model(), module("s1")
    put_in_store(thing, server.store)

    seen = await receiver.fetch(thing, server.source)

    assert thing.lies_in(receiver.folder)
    assert seen.verifier.complete
    assert seen.last.bytes_by_source == {"s1": thing.size}
    assert seen.last.bytes_done == thing.size


@RELAYED
async def test_a_bundle_comes_by_one_rsync_with_nested_and_equal_files(
    module: ModuleMaker, tmp_path: Path, *, relayed: bool
) -> None:
    same = noise(200_000, 7)
    files = {f"layers/{n}/w.bin": noise(90_000 + n, n) for n in range(30)}
    thing, server = thing_of({**files, "a.bin": same, "z/a.bin": same}, PIECE), module("s1")
    receiver = Receiver(tmp_path / "r", server.settings, relayed=relayed)
    put_in_store(thing, server.store)

    seen = await receiver.fetch(thing, server.source)

    assert thing.lies_in(receiver.folder)
    assert seen.verifier.complete
    assert seen.last.received == thing.size - len(same)


async def test_hundreds_of_files_that_come_at_once_are_all_seen(module: ModuleMaker, receiver: Receiver) -> None:
    thing, server = thing_of({f"{n}.bin": noise(1000, n) for n in range(300)}, PIECE), module("s1")
    put_in_store(thing, server.store)

    seen = await receiver.fetch(thing, server.source)

    assert thing.lies_in(receiver.folder)
    assert seen.verifier.complete


async def test_what_another_rung_left_proven_is_not_fetched_again(module: ModuleMaker, receiver: Receiver) -> None:
    thing, server = thing_of({"a.bin": noise(3 * MIB), "b.bin": noise(5 * MIB + 77, 2)}, PIECE), module("s1")
    put_in_store(thing, server.store)
    have = receiver.half(thing)
    kept = sum(len(p) for p in have.values()) * PIECE

    seen = await receiver.fetch(thing, server.source, have=have)

    assert thing.lies_in(receiver.folder)
    assert seen.last.received <= thing.size - kept + PIECE
    # The wire agrees: the source sent no more than what was missing, and what describes it.
    assert sent_by(server) <= 1.1 * (thing.size - kept)


async def test_what_another_rung_left_is_completed_where_there_is_room_for_little_more(
    module: ModuleMaker, small_disk: Path
) -> None:
    """It is built anew beside what is there, and the disk does not hold both."""
    thing, server = model(10 * MIB), module("s1")
    put_in_store(thing, server.store)
    receiver = Receiver(small_disk, server.settings)
    have = receiver.half(thing, 0.8)
    # Slow enough for what was copied to be given back meanwhile, on a busy machine too.
    receiver.transport.limit(2 * MIB, None)

    await receiver.fetch(thing, server.source, have=have)

    assert thing.lies_in(receiver.folder)
    assert list(receiver.staging.iterdir()) == []


async def test_a_stage_that_gives_nothing_back_is_caught(
    module: ModuleMaker, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant of the test above."""
    monkeypatch.setattr(stage, "_give_back", lambda *_: None)
    thing, server = model(10 * MIB), module("s1")
    put_in_store(thing, server.store)
    receiver = Receiver(small_disk, server.settings)
    with pytest.raises(StoreFull, match="No space left"):
        await receiver.fetch(thing, server.source, have=receiver.half(thing, 0.8))


async def test_a_transfer_that_forgets_what_is_proven_is_caught(module: ModuleMaker, receiver: Receiver) -> None:
    """The broken variant of the test above."""
    thing, server = model(), module("s1")
    put_in_store(thing, server.store)
    kept = sum(len(p) for p in receiver.half(thing).values()) * PIECE

    await receiver.fetch(thing, server.source, have={})

    assert thing.lies_in(receiver.folder)
    assert sent_by(server) > 1.1 * (thing.size - kept)


def sent_by(server: Server) -> int:
    """Bytes that the source says it sent, from the last line of its log."""
    lines = [line for line in (server.store.parent / "log").read_text().splitlines() if " sent " in line]
    return int(lines[-1].split(" sent ")[1].split()[0].replace(",", ""))


async def test_a_source_with_wrong_bytes_is_banned_and_another_one_finishes(
    module: ModuleMaker, receiver: Receiver
) -> None:
    thing, evil, good = model(), module("evil"), module("good")
    put_in_store(thing, good.store)
    put_in_store(thing, evil.store)
    have = receiver.half(thing, 0.5)
    blob = next(p for p in evil.store.rglob("*") if p.is_file())
    blob.write_bytes(noise(thing.size, 99))

    seen = await receiver.fetch(thing, evil.source, good.source, have=have)

    assert thing.lies_in(receiver.folder)
    assert [(ban.transport, ban.peer) for ban in receiver.bans] == [("rsync", "evil")]
    assert seen.last.bytes_by_source["good"] <= thing.size // 2 + PIECE


def flip_200_bits(blob: Path) -> None:
    """At random offsets."""
    chance, data = random.Random(7), bytearray(blob.read_bytes())
    for _ in range(200):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    blob.write_bytes(data)


async def test_of_200_flipped_bits_none_is_accepted(module: ModuleMaker, receiver: Receiver) -> None:
    thing, flipping, good = model(), module("flipping"), module("good")
    put_in_store(thing, good.store)
    put_in_store(thing, flipping.store)
    flip_200_bits(next(p for p in flipping.store.rglob("*") if p.is_file()))

    await receiver.fetch(thing, flipping.source, good.source)

    assert thing.lies_in(receiver.folder)
    assert [ban.peer for ban in receiver.bans] == ["flipping"]


async def test_only_wrong_bytes_end_in_a_failure_and_no_piece_of_them_is_accepted(
    module: ModuleMaker, receiver: Receiver
) -> None:
    thing, evil = model(), module("evil")
    put_in_store(thing, evil.store)
    next(p for p in evil.store.rglob("*") if p.is_file()).write_bytes(noise(thing.size, 99))
    seen = Witness(thing, receiver.folder)

    with pytest.raises(TransferFailed, match="evil sent wrong bytes"):
        await receiver.fetch(thing, evil.source, witness=seen)

    assert seen.verifier.proven_bytes == 0


class Trusting(Witness):
    """Believes whatever a transport claims."""

    async def pieces(self, claimed: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        await super().pieces(claimed)
        return []


async def test_wrong_bytes_are_noticed_by_the_proof_alone(module: ModuleMaker, receiver: Receiver) -> None:
    """The broken variant of the tests above."""
    thing, evil = model(), module("evil")
    put_in_store(thing, evil.store)
    next(p for p in evil.store.rglob("*") if p.is_file()).write_bytes(noise(thing.size, 99))

    await receiver.fetch(thing, evil.source, witness=Trusting(thing, receiver.folder))

    assert not thing.lies_in(receiver.folder)
    assert receiver.bans == []


async def test_a_longer_file_is_refused_and_a_link_is_not_followed(
    module: ModuleMaker, receiver: Receiver, tmp_path: Path
) -> None:
    thing, longer, linked = model(), module("longer"), module("linked")
    for server in (longer, linked):
        put_in_store(thing, server.store)
    blob = next(p for p in longer.store.rglob("*") if p.is_file())
    blob.write_bytes(next(iter(thing.files.values())) + b"more")
    link = next(p for p in linked.store.rglob("*") if p.is_file())
    elsewhere = tmp_path / "elsewhere"
    link.rename(elsewhere)
    link.symlink_to(elsewhere)

    with pytest.raises(TransferFailed, match="bytes are missing"):
        await receiver.fetch(thing, longer.source, linked.source)

    assert not thing.path(receiver.folder).read_bytes()


async def test_a_missing_blob_and_a_dead_source_are_passed_over(module: ModuleMaker, receiver: Receiver) -> None:
    thing, empty, good = model(), module("empty"), module("good")
    put_in_store(thing, good.store)
    dead = Source("dead", rsync=f"rsync://127.0.0.1:{free_port()}/store", complete=True)

    seen = await receiver.fetch(thing, dead, empty.source, good.source)

    assert thing.lies_in(receiver.folder)
    assert set(seen.last.bytes_by_source) == {"good"}


async def test_a_source_that_accepts_and_says_nothing_is_a_stall(tmp_path: Path) -> None:
    quick = RsyncSettings(modules=True, connect_seconds=0.5, stall_seconds=0.5, accept_older=True)
    receiver = Receiver(tmp_path / "r", quick)

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    hole = await asyncio.start_server(silence, "127.0.0.1", 0)
    async with hole:
        port = hole.sockets[0].getsockname()[1]
        source = Source("hole", rsync=f"rsync://127.0.0.1:{port}/store", complete=True)
        with pytest.raises((TransferStalled, TransferFailed)):
            await receiver.fetch(model(), source)

    assert rsyncs_of(receiver) == []


async def lose_rsync(module: ModuleMaker, receiver: Receiver) -> Witness:
    """Kill the rsync that brings from the first of two sources, when half is here."""
    thing, first, second = model(16 * MIB), module("first"), module("second")
    for server in (first, second):
        put_in_store(thing, server.store)
    seen = Witness(thing, receiver.folder)
    receiver.transport.limit(8 * MIB, None)

    fetch = asyncio.create_task(receiver.fetch(thing, first.source, second.source, witness=seen))
    await asyncio.wait_for(seen.half.wait(), 60)
    # Both halves of rsync, and not their guard.
    for pid in rsyncs_of(receiver):
        if "guard.py" not in " ".join(psutil.Process(pid).cmdline()):
            os.kill(pid, 9)
    receiver.transport.limit(None, None)
    await fetch
    assert thing.lies_in(receiver.folder)
    assert set(seen.last.bytes_by_source) == {"first", "second"}
    return seen


async def test_a_killed_rsync_leaves_the_rest_to_the_next_source(module: ModuleMaker, receiver: Receiver) -> None:
    seen = await lose_rsync(module, receiver)
    assert seen.last.received <= 1.1 * seen.thing.size


async def test_a_killed_rsync_that_begins_anew_is_caught(module: ModuleMaker, tmp_path: Path) -> None:
    """The broken variant: no file is small enough for what is proven of it to be kept."""
    anew = RsyncSettings(modules=True, connect_seconds=20, accept_older=True, delta_limit_bytes=0)
    seen = await lose_rsync(module, Receiver(tmp_path / "r", anew))
    assert seen.last.received > 1.1 * seen.thing.size


async def test_a_cancelled_transfer_leaves_no_process_and_keeps_its_pieces(
    module: ModuleMaker, receiver: Receiver
) -> None:
    thing, server = model(16 * MIB), module("s1")
    put_in_store(thing, server.store)
    seen = Witness(thing, receiver.folder)
    receiver.transport.limit(2 * MIB, None)

    fetch = asyncio.create_task(receiver.fetch(thing, server.source, witness=seen))
    await asyncio.wait_for(seen.began.wait(), 60)
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch

    assert rsyncs_of(receiver) == []
    again = Witness(thing, receiver.folder)
    assert again.verifier.verify_piece(0, 0)


async def test_a_source_that_turns_up_later_is_used(module: ModuleMaker, receiver: Receiver) -> None:
    thing, empty, good = model(), module("empty"), module("good")
    put_in_store(thing, good.store)

    fetch = asyncio.create_task(receiver.fetch(thing, empty.source))
    await until(lambda: bool(rsyncs_of(receiver)) or fetch.done(), 30)
    await receiver.transport.add_sources(thing.artifact, (good.source,))
    await fetch

    assert thing.lies_in(receiver.folder)


async def test_without_a_source_that_serves_rsync_it_says_so(receiver: Receiver) -> None:
    with pytest.raises(SourceUnreachable, match="no source of it serves rsync"):
        await receiver.fetch(model(), Source("n1", bt="127.0.0.1:1", complete=True))


@RELAYED
async def test_over_ssh_only_the_forced_command_runs_and_the_file_comes(
    forced: Server, tmp_path: Path, *, relayed: bool
) -> None:
    thing, receiver = model(), Receiver(tmp_path / "r", forced.settings, relayed=relayed)
    put_in_store(thing, forced.store)

    seen = await receiver.fetch(thing, forced.source, have=receiver.half(thing))

    assert thing.lies_in(receiver.folder)
    assert seen.last.received < thing.size
    assert rsyncs_of(receiver) == []


@RELAYED
async def test_over_ssh_an_unknown_host_key_is_refused(forced: Server, tmp_path: Path, *, relayed: bool) -> None:
    thing = model()
    put_in_store(thing, forced.store)
    (tmp_path / "nobody").touch()
    settings = forced.settings.model_copy(update={"known_hosts": tmp_path / "nobody"})
    receiver = Receiver(tmp_path / "r", settings, relayed=relayed)

    with pytest.raises(TransferError, match=r"Host key verification failed|host key is known"):
        await receiver.fetch(thing, forced.source)


_ORPHAN_MAKER = """
import asyncio, sys
from fleetcast.transport.rsync.child import RsyncChild
async def main():
    await RsyncChild.start(sys.argv[1:])
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "broken variant: no guard"])
async def test_no_half_of_rsync_outlives_a_killed_daemon(module: ModuleMaker, tmp_path: Path, guarded: bool) -> None:
    thing, server = model(16 * MIB), module("s1")
    put_in_store(thing, server.store)
    blob = next(p for p in server.store.rglob("*") if p.is_file())
    out = tmp_path / "out"
    words = ["rsync", "--inplace", "--bwlimit=512", f"{server.endpoint}/{blob.relative_to(server.store)}", str(out)]
    daemon = await asyncio.create_subprocess_exec(
        *((sys.executable, "-c", _ORPHAN_MAKER) if guarded else ("sh", "-c", '"$@" & wait', "sh")),
        *words,
        stdout=asyncio.subprocess.DEVNULL,
    )
    await until(lambda: out.exists() and out.stat().st_size > 0, 60)

    daemon.kill()
    await daemon.wait()

    def left() -> list[int]:
        return [p.pid for p in psutil.process_iter(["cmdline"]) if str(out) in (p.info["cmdline"] or [])]

    if guarded:
        await until(lambda: not left(), 30)
    else:
        assert left()
        for pid in left():
            os.kill(pid, 9)
