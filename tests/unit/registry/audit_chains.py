"""Records of decisions, each with the digest of the one before it, as a registry writes them."""

from fleetcast.events.state import AuditRecord, ChainState
from fleetcast.registry.rules import NO_CHAIN, next_link


def linked(chain: ChainState, reason: str = "as it was") -> tuple[bytes, ChainState]:
    """The next record, and the chain with it."""
    n = chain.n + 1
    record = AuditRecord(
        n=n,
        model="m",
        action="promote",
        request=f"r{n}",
        actor="/test",
        reason=reason,
        before=None,
        after={"version": str(n)},
        at="2026-11-20T10:00:00.000Z",
        prev_sha256=chain.sha256,
    )
    return next_link(chain, record)


def chain_of(length: int) -> tuple[list[bytes], ChainState]:
    """So many records from the first on, and the end of their chain."""
    records, chain = [], NO_CHAIN
    for _ in range(length):
        data, chain = linked(chain)
        records.append(data)
    return records, chain
