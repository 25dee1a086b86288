"""Whom a node that fetches dials, and from whom it borrows instead (ADR 0012). Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from fleetcast.transport.protocol import Source


@dataclass(frozen=True, slots=True)
class Dialling:
    """Sources that are dialled as peers, and the one that lends.

    Attributes:
        lender: dialled only when it does not lend after all.
    """

    peers: tuple[Source, ...]
    lender: Source | None = None


def dialling(sources: Iterable[Source], *, lender: str | None, banned: Iterable[str] = ()) -> Dialling:
    """Decide for the *sources* that are known now.

    A single node that has everything would be asked by every receiver for the same pieces first; so it lends instead.
    Where several have everything there is no such node, and peers are quicker to choose among them than a lender that
    knows nothing of the others. A lender stays one when others complete: what it sends twice is lost to everybody.

    Args:
        lender: BitTorrent endpoint of the node that lends so far.
        banned: endpoints of those that sent wrong bytes.
    """
    known = [source for source in sources if source.bt is not None and source.bt not in set(banned)]
    whole = [source for source in known if source.complete]
    lends = next((source for source in whole if source.bt == lender and source.http), None)
    if lends is None and len(whole) == 1 and whole[0].http:
        lends = whole[0]
    return Dialling(tuple(source for source in known if source is not lends), lends)
