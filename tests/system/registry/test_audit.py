"""`fleetcast audit verify` names what was done to a record.

Streams deny deletes and edits, so the records of these tests are written by hand into a server of their own.
"""

import asyncio
import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.registry.audit_chains import chain_of, linked

from fleetcast.bus import connect, declare
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import fast_settings
from fleetcast.cli.entry import run
from fleetcast.cli.registry import audit
from fleetcast.cli.registry.audit import Checked, check_chains, digest_of, problems_of
from fleetcast.events.state import ChainState, chain_subject, log_subject
from fleetcast.registry.rules import NO_CHAIN, Link, dump, link_of

Records = dict[int, bytes]


def five() -> tuple[Records, ChainState]:
    """Five records as they were written, and the end of their chain."""
    records, chain = chain_of(5)
    return dict(enumerate(records, 1)), chain


def links(records: Records) -> dict[int, Link]:
    """As they are read from the registry."""
    return {n: link_of(data) for n, data in records.items()}


def digests(records: Records) -> dict[int, str]:
    """As they are read from the copy."""
    return {n: digest_of(data) for n, data in records.items()}


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
        after[n], chain = linked(chain, "as somebody likes it")
    return records | after


def untouched(records: Records) -> Records:
    return records


CASES: list[tuple[Callable[[Records], Records], Callable[[Records], Records], str]] = [
    (forged, forged, "record 4 does not follow from the record before it"),
    (forged, untouched, "FC_AUDIT: record 3 differs from the registry's"),
    (untouched, forged, "FC_AUDIT: record 3 differs from the registry's"),
    (forged_last, forged_last, "record 5 is not the one that the chain ends with"),
    (missing, untouched, "record 3 is missing: 4 follows 2"),
    (untouched, missing, "FC_AUDIT: record 3 is missing"),
    (missing_first, missing_first, "record 1 is missing: 2 follows 0"),
    (missing_last, missing_last, "the chain has 5 records, 4 are there"),
    (reordered, reordered, "record 2 is out of order: it follows 3"),
    (untouched, reordered, "FC_AUDIT: record 2 differs from the registry's"),
    (unreadable, unreadable, "record 4 cannot be read"),
    (rewritten, untouched, "FC_AUDIT: record 3 differs from the registry's"),
]


@pytest.mark.parametrize(("registry", "copy", "told"), CASES, ids=[f"{a.__name__}-{b.__name__}" for a, b, _ in CASES])
def test_what_was_done_to_a_record_is_named(
    registry: Callable[[Records], Records], copy: Callable[[Records], Records], told: str
) -> None:
    records, chain = five()

    found = problems_of(links(registry(records)), digests(copy(records)), chain)

    assert any(told in problem for problem in found), found


def test_records_that_nobody_touched_are_unbroken_also_while_the_copy_is_on_its_way() -> None:
    records, chain = five()
    first = {n: records[n] for n in (1, 2, 3)}

    assert problems_of(links(records), digests(records), chain) == ()
    assert problems_of(links(records), digests(first), chain) == ()
    assert problems_of(links(records), {}, None) == ()


def verified(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.setenv("NATS_URL", url)
    code = run(["audit", "verify"])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.parametrize("harm", [untouched, forged, missing, reordered])
def test_the_command_names_the_record_in_the_streams(
    tmp_path: Path,
    harm: Callable[[Records], Records],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with LocalServer(tmp_path / "nats") as server:
        asyncio.run(_written(server.url, harm))

        code, said = verified(server.url, capsys, monkeypatch)

    assert (code == 0) == (harm is untouched)
    if harm is not untouched:
        assert "m: " in said
        assert "record 3" in said or "record 4 does not follow" in said


async def _written(url: str, harm: Callable[[Records], Records]) -> None:
    records, chain = five()
    async with connect(fast_settings(url), node="n1", daemon="test") as bus:
        await declare(bus, 1)
        # By their numbers: a stream keeps them in the order in which they came.
        for n, data in harm(records).items():
            await bus.publish_raw(log_subject("m", n), data)
        await bus.publish_raw(chain_subject("m"), dump(chain))


RECORDS = 100
LONG = 200_000
"""Characters that a decision may have as evidence, say of many gates."""


def test_the_check_keeps_nothing_of_what_the_records_say(tmp_path: Path) -> None:
    with LocalServer(tmp_path / "nats") as server:
        checked, most = asyncio.run(_checked(server.url))
    assert (checked.records, checked.problems) == (RECORDS, ())
    assert most < RECORDS * LONG / 4


@pytest.mark.soak
def test_a_check_that_keeps_the_records_takes_as_much_memory_as_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[bytes] = []

    def keeping(data: bytes) -> Link:
        kept.append(data)
        return link_of(data)

    monkeypatch.setattr(audit, "link_of", keeping)
    with LocalServer(tmp_path / "nats") as server:
        checked, most = asyncio.run(_checked(server.url))
    assert (checked.problems, most > RECORDS * LONG) == ((), True)


async def _checked(url: str) -> tuple[Checked, int]:
    """What is found about long records, and the most memory that took."""
    async with connect(fast_settings(url), node="n1", daemon="test") as bus:
        await declare(bus, 1)
        chain = NO_CHAIN
        for _ in range(RECORDS):
            data, chain = linked(chain, "x" * LONG)
            await bus.publish_raw(log_subject("m", chain.n), data)
        await bus.publish_raw(chain_subject("m"), dump(chain))
        tracemalloc.start()
        try:
            (found,) = await check_chains(bus, None)
            return found, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
