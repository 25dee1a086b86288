"""Records of decisions: whatever somebody does to one is noticed by its digest."""

import pytest

from fleetcast.daemons.metrics.audit import Chains
from fleetcast.events.state import AuditRecord
from fleetcast.registry.rules import NO_CHAIN, next_link


def chain(length: int) -> list[bytes]:
    found: list[bytes] = []
    before = NO_CHAIN
    for n in range(1, length + 1):
        record = AuditRecord(
            n=n,
            model="hex8",
            action="promote",
            request=f"r{n}",
            actor="/t",
            before=None,
            after=None,
            at="2026-01-01T00:00:00Z",
            prev_sha256=before.sha256,
        )
        data, before = next_link(before, record)
        found.append(data)
    return found


def broken(records: list[bytes]) -> int:
    chains = Chains()
    for data in records:
        chains.take("hex8", data)
    assert chains.records == len(records)
    return chains.broken


def test_a_chain_as_it_was_written_is_whole() -> None:
    assert broken(chain(5)) == 0


@pytest.mark.parametrize("attack", ["forge", "drop", "repeat", "swap", "garbage"])
def test_a_record_that_is_not_what_was_written_is_noticed(attack: str) -> None:
    records = chain(5)
    match attack:
        case "forge":
            records[2] = records[2].replace(b"promote", b"approve")
        case "drop":
            del records[2]
        case "repeat":
            records.insert(4, records[2])
        case "swap":
            records[1], records[2] = records[2], records[1]
        case "garbage":
            records[2] = b"\x00not json"
    assert broken(records) >= 1


def test_models_have_chains_of_their_own() -> None:
    chains = Chains()
    for one, other in zip(chain(3), chain(3), strict=True):
        assert not chains.take("hex8", one)
        assert not chains.take("square8", other)
