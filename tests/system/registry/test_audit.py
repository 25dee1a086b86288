"""`fleetcast audit verify` names what was done to a record.

Streams deny deletes and edits, so the records of these tests are written by hand into a server of their own.
"""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetcast.bus import connect, declare
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import fast_settings
from fleetcast.cli.entry import run
from fleetcast.cli.registry.audit import problems_of
from fleetcast.events.state import AuditRecord, ChainState, chain_subject, log_subject
from fleetcast.registry.rules import NO_CHAIN, dump, next_link

Records = dict[int, bytes]


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

    found = problems_of(registry(records), copy(records), chain)

    assert any(told in problem for problem in found), found


def test_records_that_nobody_touched_are_unbroken_also_while_the_copy_is_on_its_way() -> None:
    records, chain = five()
    first = {n: records[n] for n in (1, 2, 3)}

    assert problems_of(records, records, chain) == ()
    assert problems_of(records, first, chain) == ()
    assert problems_of(records, {}, None) == ()


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
