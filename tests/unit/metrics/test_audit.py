"""Records of decisions: whatever somebody does to one is noticed by its digest."""

import pytest
from tests.unit.registry.audit_chains import chain_of

from fleetcast.daemons.metrics.audit import Chains


def broken(records: list[bytes]) -> int:
    chains = Chains()
    for data in records:
        chains.take("hex8", data)
    assert chains.records == len(records)
    return chains.broken


def test_a_chain_as_it_was_written_is_whole() -> None:
    assert broken(chain_of(5)[0]) == 0


@pytest.mark.parametrize("attack", ["forge", "drop", "repeat", "swap", "garbage"])
def test_a_record_that_is_not_what_was_written_is_noticed(attack: str) -> None:
    records, _ = chain_of(5)
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
    for record in chain_of(3)[0]:
        assert not chains.take("hex8", record)
        assert not chains.take("square8", record)
