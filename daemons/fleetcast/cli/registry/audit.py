"""`fleetcast audit`: whether the record is whole, and the record as a file. Read from the streams themselves: no daemon
has to be trusted."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fleetcast.bus import Bus
from fleetcast.bus.streams import AUDIT, REGISTRY
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.problems import Exit, Problem, not_found
from fleetcast.cli.running import run_async
from fleetcast.events.state import ChainState, chain_subject
from fleetcast.registry.ledger import read
from fleetcast.registry.rules import Link, broken_links, link_of

LOG = "fc.reg.log."


@dataclass(frozen=True)
class Checked:
    """One model's records: what is wrong with them."""

    model: str
    records: int
    problems: tuple[str, ...]


def verify(call: Call, model: str | None) -> Exit:
    """Check every chain, in the registry and in the audit stream.

    Raises:
        Problem: a record is forged, missing or out of order.
    """
    checked = run_async(_verify(target(call), model))
    bad = [c for c in checked if c.problems]
    call.out.document(
        {
            "ok": not bad,
            "models": [{"model": c.model, "records": c.records, "problems": list(c.problems)} for c in checked],
        }
    )
    for each in checked:
        call.out.text(f"{each.model}: {each.records} records, {'; '.join(each.problems) or 'unbroken'}")
    if bad:
        raise Problem(
            "audit_broken",
            f"the record of {', '.join(c.model for c in bad)} is not what was written",
            why="; ".join(p for c in bad for p in c.problems[:3]),
            next_step="compare with the last `fleetcast audit export`, and with the other servers' copies",
        )
    return Exit.OK


async def _verify(aim: Target, model: str | None) -> list[Checked]:
    async with connected(aim) as bus:
        checked = await check_chains(bus, model)
    if not checked and model is not None:
        raise not_found(f"nothing was ever decided about {model!r}", next_step="fleetcast models")
    return checked


async def check_chains(bus: Bus, model: str | None) -> list[Checked]:
    """Check the chain of one model, or of all; a model without records is left out."""
    # In this order, for decisions go on: what is read first is never ahead of what is read after it.
    copies = await _records(bus, AUDIT, model, digest_of)
    chains = await _chains(bus, model)
    truth = await _records(bus, REGISTRY, model, link_of)
    return [
        Checked(
            name, len(truth.get(name, {})), problems_of(truth.get(name, {}), copies.get(name, {}), chains.get(name))
        )
        for name in sorted({*truth, *copies})
    ]


T = TypeVar("T")
Truth = Mapping[int, Link]
"""A model's records in the registry, by the number in their subjects."""
Copies = Mapping[int, str]
"""Digests of a model's records in the audit stream, by the number in their subjects."""


def digest_of(data: bytes) -> str:
    """By which a copy is compared."""
    return hashlib.sha256(data).hexdigest()


async def _records(bus: Bus, stream: str, model: str | None, take: Callable[[bytes], T]) -> dict[str, dict[int, T]]:
    """What *take* makes of each record, by model and number; nothing else is kept of them."""
    found: dict[str, dict[int, T]] = {}
    async for entry in bus.tail(stream, [f"{LOG}{model or '*'}.*"]):
        name, _, number = entry.subject.removeprefix(LOG).rpartition(".")
        found.setdefault(name, {})[int(number)] = take(entry.data)
    return {name: dict(sorted(records.items())) for name, records in found.items()}


async def _chains(bus: Bus, model: str | None) -> dict[str, ChainState]:
    entries = await bus.newest(REGISTRY, (chain_subject(model or "*"),))
    return {entry.subject.rpartition(".")[2]: read(ChainState, entry) for entry in entries}


def problems_of(truth: Truth, copies: Copies, chain: ChainState | None) -> tuple[str, ...]:
    """What is wrong with a model's records: within themselves, against the end that the registry goes on from, and
    against the copy that nobody can erase. *chain* and *copies* were read before *truth*."""
    return (
        *broken_links(truth.values()),
        *_end(truth, copies, chain),
        *(f"{AUDIT}: {problem}" for problem in _against(truth, copies)),
    )


def _end(truth: Truth, copies: Copies, chain: ChainState | None) -> Iterator[str]:
    if chain is None:
        if copies:
            yield "the end of the chain is missing"
    elif chain.n and chain.n not in truth:
        yield f"the chain has {chain.n} records, {len(truth)} are there"
    elif chain.n and truth[chain.n].sha256 != chain.sha256:
        yield f"record {chain.n} is not the one that the chain ends with"


def _against(truth: Truth, copies: Copies) -> Iterator[str]:
    """Where the copy says something else. The newest records may still be on their way to it."""
    last = max(copies, default=0)
    for number in sorted({*truth, *copies}):
        if number not in truth:
            yield f"record {number} is here and not in the registry"
        elif number not in copies:
            if number < last:
                yield f"record {number} is missing"
        elif truth[number].sha256 != copies[number]:
            yield f"record {number} differs from the registry's"


def export(call: Call, file: Path | None, model: str | None) -> Exit:
    """Write every record as a JSON line, with its digest; to a file, or to stdout."""
    lines = run_async(_lines(target(call), model))
    if file is None:
        for line in lines:
            call.out.record(line, line)
        return Exit.OK
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    call.out.document({"file": str(file), "records": len(lines), "sha256": digest})
    call.out.text(f"{len(lines)} records in {file}, SHA-256 {digest}")
    return Exit.OK


async def _lines(aim: Target, model: str | None) -> list[str]:
    async with connected(aim) as bus:
        found = await _records(bus, AUDIT, model, bytes)
        return [
            json.dumps({"sha256": hashlib.sha256(data).hexdigest(), "record": json.loads(data)}, sort_keys=True)
            for _, records in sorted(found.items())
            for data in records.values()
        ]
