"""From the spool of a node to the streams: everything, in order, and nothing twice in effect."""

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetcast.bus import Bus
from fleetcast.bus.forwarding import Forwarded, Forwarder
from fleetcast.bus.server import LocalServer
from fleetcast.client.emit import Emitter
from fleetcast.client.spool import SpoolReader, SpoolRecord
from fleetcast.config.settings import Settings
from fleetcast.daemons.testing import fleet
from fleetcast.events.performance.parsing import parse_snapshot

pytestmark = pytest.mark.asyncio

SECONDS = 60.0


def emitter(folder: Path) -> Emitter:
    return Emitter({"FLEETCAST_SPOOL": str(folder), "FLEETCAST_NODE_ID": "gpu-1"})


async def emitted(folder: Path, count: int, *, runs: int = 7) -> list[str]:
    """Let a job that ends at once emit *count* cheap events about several runs; their ids."""

    def work() -> list[str]:
        job = emitter(folder)
        ids = []
        for step in range(count):
            fields = {"run_id": f"run-{step % runs}", "step": step, "metrics": {"loss": 1.0}}
            ids.append(job.emit("run.metrics.logged", dict(fields)) or "")
        assert job._writer is not None
        job._writer.close()
        return ids

    return await asyncio.to_thread(work)


async def forwarded(bus: Bus, folder: Path, forwarder: Forwarder | None = None) -> Forwarded:
    """Send all there is."""
    forwarder = forwarder or Forwarder(bus, str(folder), node="gpu-1", deadline_seconds=10)
    records = refused = 0
    with await forwarder.open() as reader:
        while True:
            sent = await forwarder.forward(reader)
            assert not sent.problem
            records, refused = records + sent.records, refused + sent.refused
            if not sent.records:
                return Forwarded(records, refused)


async def stored(bus: Bus, stream: str = "FC_EVENTS") -> list[dict[str, Any]]:
    return [json.loads(entry.data) async for entry in bus.tail(stream, ())]


async def test_events_and_snapshots_reach_their_streams_in_order_and_what_is_wrong_is_named(
    bus: Bus, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    ids = await emitted(spool, 500)

    def more() -> None:
        job = emitter(spool)
        fields = {"model": "hex8_2p", "version": 43, "num_requests": 100, "errors": 2, "interval_seconds": 10}
        job.emit("model.performance_snapshot", {**fields, "timestamp": "2026-11-21T10:00:00Z"})
        job.emit("model.performance_snapshot", {"model": "No Name", "version": 43})
        job.emit("run.epoch.logged", {"run_id": "run-1", "epoch": -1})
        job.emit("no.such.event", {})

    await asyncio.to_thread(more)
    sent = await forwarded(bus, spool)
    assert (sent.records, sent.refused) == (504, 3)
    events = await stored(bus)
    assert sorted(event["id"] for event in events) == sorted(ids)
    for run in range(7):
        steps = [event["data"]["step"] for event in events if event["data"]["run_id"] == f"run-{run}"]
        assert steps == list(range(run, 500, 7))
    (entry,) = [entry async for entry in bus.tail("FC_PERF", ())]
    snapshot = parse_snapshot(
        entry.data, headers=entry.headers, subject=entry.subject, sequence=entry.sequence, stored_at=entry.time
    )
    assert (snapshot.model, snapshot.version, snapshot.node) == ("hex8_2p", "43", "gpu-1")
    letters = " ".join(letter.reason for letter in await bus.dead.list())
    assert all(said in letters for said in ("No Name", "epoch", "no.such.event"))


# -- damage


class StopsAtDamage(SpoolReader):
    """A reader that gives a segment up where it is damaged."""

    def _records(self, name: str) -> Iterator[SpoolRecord]:
        for record in super()._records(name):
            if self._reported:
                return
            yield record


def damage(folder: Path) -> None:
    """Overwrite some bytes in the middle of the only segment, across two records."""
    (segment,) = folder.glob("*.jsonl")
    data = bytearray(segment.read_bytes())
    end = data.index(b"\n", len(data) // 2)
    data[end - 20 : end + 20] = random.Random(1).randbytes(40).replace(b"\n", b"x")
    segment.write_bytes(data)


async def test_spool_that_is_damaged_in_the_middle_delivers_the_rest_and_the_loss_is_named(
    bus: Bus, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    ids = await emitted(spool, 300)
    damage(spool)
    forwarder = Forwarder(bus, str(spool), node="gpu-1", deadline_seconds=10)
    await forwarded(bus, spool, forwarder)
    found = {event["id"] for event in await stored(bus)}
    assert len(set(ids) - found) == 2
    assert forwarder.damaged == 1
    (letter,) = await bus.dead.list()
    assert "the spool is damaged" in letter.reason
    assert ".jsonl at byte " in letter.reason
    kept = Path(letter.next_step.rpartition(" ")[2])
    assert await asyncio.to_thread(kept.read_bytes)


async def test_the_rig_notices_a_forwarder_that_gives_up_at_damage(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleetcast.bus.forwarding.SpoolReader", StopsAtDamage)
    ids = await emitted(tmp_path / "spool", 300)
    damage(tmp_path / "spool")
    await forwarded(bus, tmp_path / "spool")
    assert len(set(ids) - {event["id"] for event in await stored(bus)}) > 2


# -- a forwarder that is killed

FORWARDING = """
import asyncio, os, sys
from fleetcast.bus import connect
from fleetcast.bus.forwarding import Forwarder
from fleetcast.bus.testing import fast_settings
BROKEN
async def main(url, spool):
    async with connect(fast_settings(url), node="gpu-1", daemon="test") as bus:
        forwarder = Forwarder(bus, spool, node="gpu-1", deadline_seconds=10)
        with await forwarder.open() as reader:
            while True:
                sent = await forwarder.forward(reader)
                print("sent", sent.records, flush=True)
                if not sent.records:
                    return
asyncio.run(main(*sys.argv[1:]))
"""
COMMITS_FIRST = """
from fleetcast.bus import forwarding
send = forwarding.Forwarder._send_all
async def early(self, reader, wave, before):
    forwarding._commit(reader, wave)
    if before.records == 64:
        os.kill(os.getpid(), 9)
    return await send(self, reader, wave, before)
forwarding.Forwarder._send_all = early
"""


async def killed(url: str, spool: Path, broken: str = "", *, times: int = 2) -> None:
    """Forward *spool* with a forwarder that is killed in the middle, time and again, and once to the end."""
    for _ in range(times):
        process = await start(url, spool, broken)
        assert process.stdout is not None
        async with asyncio.timeout(SECONDS):
            await wait_for_records(process.stdout, 256)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()
    process = await start(url, spool, broken)
    async with asyncio.timeout(SECONDS):
        await process.communicate()


async def start(url: str, spool: Path, broken: str) -> asyncio.subprocess.Process:
    script = FORWARDING.replace("BROKEN", broken)
    pipe = subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, "-c", script, url, str(spool), stdout=pipe)


async def wait_for_records(lines: asyncio.StreamReader, records: int) -> None:
    while records > 0:
        line = (await lines.readline()).decode()
        if not line:
            return
        # Logs may stand between.
        records -= int(line.split()[1]) if line.startswith("sent ") else 0


async def test_forwarder_that_is_killed_again_and_again_delivers_all_and_nothing_twice(
    bus: Bus, server: LocalServer, tmp_path: Path
) -> None:
    ids = await emitted(tmp_path / "spool", 1000)
    await killed(server.url, tmp_path / "spool")
    found = Counter(event["id"] for event in await stored(bus))
    assert set(found) == set(ids)
    assert max(found.values()) == 1
    assert not list((tmp_path / "spool").glob("*.jsonl"))


async def test_the_rig_notices_a_forwarder_that_commits_before_it_sends(
    bus: Bus, server: LocalServer, tmp_path: Path
) -> None:
    ids = await emitted(tmp_path / "spool", 500)
    await killed(server.url, tmp_path / "spool", COMMITS_FIRST, times=1)
    assert set(ids) - {event["id"] for event in await stored(bus)}


async def test_spool_waits_while_nats_is_away_and_is_sent_when_it_is_back(
    bus: Bus, server: LocalServer, tmp_path: Path
) -> None:
    ids = await emitted(tmp_path / "spool", 200)
    forwarder = Forwarder(bus, str(tmp_path / "spool"), node="gpu-1", deadline_seconds=0.5)
    await server.kill_async()
    with await forwarder.open() as reader:
        sent = await forwarder.forward(reader)
    assert sent.problem
    assert (sent.records, sent.waiting) == (0, 200)
    await server.start_async()
    await bus.wire.wait_connected(SECONDS)
    await forwarded(bus, tmp_path / "spool")
    assert {event["id"] for event in await stored(bus)} == set(ids)


# -- the daemon


async def test_distributor_forwards_the_folders_that_its_settings_name_beside_its_own(tmp_path: Path) -> None:
    home, away = tmp_path / "home" / "spool", tmp_path / "away" / "spool"
    ids = await emitted(home, 10)

    def also(_name: str, settings: Settings) -> Settings:
        spools = (home, away)
        return settings.model_copy(update={"distributor": settings.distributor.model_copy(update={"spools": spools})})

    async with fleet(tmp_path, nodes=1, settings=also) as f:
        ids += await emitted(away, 10)
        missing = set(ids)
        async with asyncio.timeout(SECONDS):
            async for entry in f.bus.tail("FC_EVENTS", (), follow=True):
                missing.discard(json.loads(entry.data)["id"])
                if not missing:
                    break
