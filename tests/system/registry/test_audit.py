"""`fleetcast audit verify` names what was done to a record. Streams deny deletes and edits, so the records of these tests
are written by hand into the server of each."""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
from tests.system.registry.storm import Told, reserve, storm

from fleetcast.bus import Bus, connect, declare
from fleetcast.bus.server import LocalServer
from fleetcast.bus.streams import AUDIT, REGISTRY
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.cli.entry import run
from fleetcast.events.state import AuditRecord, ChainState, chain_subject, log_subject
from fleetcast.registry.rules import NO_CHAIN, dump, next_link

Records = dict[int, bytes]
Cli = Callable[..., tuple[int, str, str]]


def record(n: int, chain: ChainState, reason: str = "as it was") -> tuple[bytes, ChainState]:
    return next_link(
        chain,
        AuditRecord(
            n=n,
            model="m",
            action="stage.changed",
            request=f"r{n}",
            actor="/t",
            reason=reason,
            before=None,
            after=None,
            at="2026-11-20T10:00:00.000Z",
            prev_sha256=chain.sha256,
        ),
    )


def five() -> tuple[Records, ChainState]:
    """Five records as they were written, and the end of their chain."""
    records, chain = {}, NO_CHAIN
    for n in range(1, 6):
        records[n], chain = record(n, chain)
    return records, chain


def forged(records: Records) -> Records:
    return records | {3: records[3].replace(b"as it was", b"as it wasn't")}


def forged_last(records: Records) -> Records:
    return records | {5: records[5].replace(b"as it was", b"as it wasn't")}


def missing(records: Records) -> Records:
    return {n: data for n, data in records.items() if n != 3}


def missing_first(records: Records) -> Records:
    return {n: data for n, data in records.items() if n != 1}


def missing_last(records: Records) -> Records:
    return {n: data for n, data in records.items() if n != 5}


def reordered(records: Records) -> Records:
    return records | {2: records[3], 3: records[2]}


def unreadable(records: Records) -> Records:
    return records | {4: b"{}"}


def rewritten(records: Records) -> Records:
    """From the third on, everything anew, so that the chain itself is sound."""
    chain = ChainState(n=2, sha256=hashlib.sha256(records[2]).hexdigest())
    after = {}
    for n in (3, 4, 5):
        after[n], chain = record(n, chain, "as somebody likes it")
    return records | after


def untouched(records: Records) -> Records:
    return records


@pytest_asyncio.fixture
async def bus(server: LocalServer) -> AsyncIterator[Bus]:
    async with connect(fast_settings(server.url), node="n1", daemon="test") as made:
        await declare(made, 1)
        yield made


async def write(bus: Bus, records: Mapping[int, bytes], chain: ChainState) -> None:
    for n, data in records.items():
        await bus.publish_raw(log_subject("m", n), data)
    await bus.publish_raw(chain_subject("m"), dump(chain))
