"""`fleetcast audit`: whether the record is whole, and the record as a file. Read from the streams themselves: no daemon
has to be trusted."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleetcast.bus import Bus
from fleetcast.bus.streams import AUDIT, REGISTRY
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.problems import Exit, Problem, not_found
from fleetcast.cli.running import run_async
from fleetcast.events.state import ChainState, chain_subject
from fleetcast.registry.ledger import Ledger
from fleetcast.registry.rules import broken_links

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
        truth = await _records(bus, REGISTRY, model)
        copies = await _records(bus, AUDIT, model)
        if not truth and model is not None:
            raise not_found(f"nothing was ever decided about {model!r}", next_step="fleetcast models")
        return [
            await _check(bus, name, truth.get(name, []), copies.get(name, [])) for name in sorted({*truth, *copies})
        ]


async def _records(bus: Bus, stream: str, model: str | None) -> dict[str, list[bytes]]:
    """Records by model, in the order of their numbers."""
    found: dict[str, list[tuple[str, bytes]]] = {}
    async for entry in bus.tail(stream, [f"{LOG}{model or '*'}.*"]):
        name, _, number = entry.subject.removeprefix(LOG).rpartition(".")
        found.setdefault(name, []).append((number, entry.data))
    return {name: [data for _, data in sorted(records)] for name, records in found.items()}


async def _check(bus: Bus, model: str, truth: Sequence[bytes], copies: Sequence[bytes]) -> Checked:
    problems = list(broken_links(truth))
    chain = (await Ledger(bus).find(chain_subject(model), ChainState)).value
    end = hashlib.sha256(truth[-1]).hexdigest() if truth else ""
    if chain is not None and len(truth) < chain.n:
        problems.append(f"the chain has {chain.n} records, {len(truth)} are there")
    elif chain is not None and len(truth) == chain.n and chain.sha256 != end:
        problems.append(f"record {chain.n} is not the one that the chain ends with")
    problems += [f"{AUDIT}: {p}" for p in _against(truth, copies)]
    return Checked(model, len(truth), tuple(problems))


def _against(truth: Sequence[bytes], copies: Sequence[bytes]) -> Iterable[str]:
    """Where the copy that nobody can erase says something else. The newest records may still be on their way."""
    for number, (ours, copy) in enumerate(zip(truth, copies, strict=False), 1):
        if ours != copy:
            yield f"record {number} differs from the registry's"
    if len(copies) > len(truth):
        yield f"{len(copies)} records, the registry has {len(truth)}"


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
        found = await _records(bus, AUDIT, model)
        return [
            json.dumps({"sha256": hashlib.sha256(data).hexdigest(), "record": json.loads(data)}, sort_keys=True)
            for _, records in sorted(found.items())
            for data in records
        ]
