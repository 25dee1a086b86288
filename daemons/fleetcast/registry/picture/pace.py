"""How fast the nodes of a fleet get one artifact, compared: who is far behind the others, and why. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from fleetcast.events.state import TransferStatus
from fleetcast.registry.picture.amounts import percent, rate
from fleetcast.registry.picture.nodes import DONE, received

ENDED = DONE | {"failed", "stopped"}
"""States of a transfer that will not change any more."""
MEASURED_SECONDS = 2.0
"""A rate is compared once a transfer has run so long: the first second says more about connections than about links."""
COMPARED_NODES = 3
"""A median of fewer says nothing about who is slow."""
BEHIND = 0.5
"""A node is slow below this share of the median rate."""


@dataclass(frozen=True)
class Summary:
    """One artifact over the fleet.

    Attributes:
        states: how many nodes are in which state.
        percent: median over the nodes that are not done.
        rate: bytes per second of all nodes together.
        left_seconds: until the last node that says so is done; None: nobody can say.
        slow: by node, why it is slow.
    """

    model: str
    version: str
    artifact: str
    bytes_total: int
    states: Mapping[str, int]
    percent: int
    rate: float
    left_seconds: float | None
    slow: Mapping[str, str]

    def document(self) -> dict[str, object]:
        """The summary in JSON."""
        return {
            "model": self.model,
            "version": self.version,
            "artifact": self.artifact,
            "bytes_total": self.bytes_total,
            "states": dict(self.states),
            "percent": self.percent,
            "rate_bytes_per_second": round(self.rate),
            "left_seconds": self.left_seconds,
            "slow": dict(self.slow),
        }


def transfer_document(transfer: TransferStatus) -> dict[str, object]:
    """A transfer in JSON."""
    shown = transfer.model_dump(mode="json")
    return shown | {"percent": percent(received(transfer), transfer.bytes_total)}


def transfers_document(known: Sequence[TransferStatus], *, everything: bool) -> dict[str, object]:
    """Transfers in JSON, each and by artifact; *everything*: also those that have ended. Nodes that are done say how
    fast it can go: they take part in the comparison all the same."""
    shown = [t for t in known if everything or t.state not in ENDED]
    return {
        "transfers": [transfer_document(t) for t in shown],
        "artifacts": [whole.document() for whole in summaries(known, shown)],
    }


def summaries(known: Iterable[TransferStatus], shown: Iterable[TransferStatus]) -> list[Summary]:
    """The artifacts of the transfers that are *shown*, each over all that is *known* of it."""
    running = {t.artifact for t in shown}
    return [summary(group) for artifact, group in by_artifact(newest(known)).items() if artifact in running]


def newest(transfers: Iterable[TransferStatus]) -> tuple[TransferStatus, ...]:
    """One transfer per node and artifact: what runs, else what began last."""
    found: dict[tuple[str, str], TransferStatus] = {}
    for transfer in sorted(transfers, key=lambda t: (t.state not in ENDED, t.started_at)):
        found[transfer.node, transfer.artifact] = transfer
    return tuple(sorted(found.values(), key=lambda t: (t.model, t.version, t.node)))


def by_artifact(transfers: Iterable[TransferStatus]) -> dict[str, list[TransferStatus]]:
    """Transfers of each artifact, in the order in which the artifacts came up."""
    found: dict[str, list[TransferStatus]] = {}
    for transfer in transfers:
        found.setdefault(transfer.artifact, []).append(transfer)
    return found


def summary(transfers: Sequence[TransferStatus]) -> Summary:
    """*transfers* of one artifact, at most one per node, as a whole."""
    one = transfers[0]
    open_ones = [t for t in transfers if t.state not in ENDED]
    left = [t.eta_seconds for t in open_ones if t.eta_seconds is not None]
    return Summary(
        model=one.model,
        version=one.version,
        artifact=one.artifact,
        bytes_total=max(t.bytes_total for t in transfers),
        states=Counter(t.state for t in transfers),
        percent=int(median(percent(received(t), t.bytes_total) for t in open_ones)) if open_ones else 100,
        rate=sum(t.rate_bytes_per_second for t in open_ones),
        left_seconds=max(left) if left else None,
        slow=slow_nodes(transfers),
    )


def slow_nodes(transfers: Sequence[TransferStatus]) -> dict[str, str]:
    """By node, why it is slow: what it says itself, and where it says nothing, what the comparison leaves."""
    rates = {t.node: speed for t in transfers if (speed := _rate(t)) is not None}
    middle = median(rates.values()) if len(rates) >= COMPARED_NODES else 0.0
    found = {}
    for transfer in transfers:
        if transfer.state in ENDED:
            continue
        behind = transfer.node in rates and rates[transfer.node] < BEHIND * middle
        said = transfer.slow or (_remaining(transfer) if behind else None)
        if said is not None:
            compared = f" ({rate(rates[transfer.node])}, median {rate(middle)})" if behind else ""
            found[transfer.node] = said + compared
    return found


def _rate(transfer: TransferStatus) -> float | None:
    """Bytes per second now, or on the whole once it has ended; None: too early, or nothing was fetched."""
    if transfer.seconds < MEASURED_SECONDS and transfer.state not in ENDED:
        return None
    if transfer.state in {"fetching", "verifying"}:
        return transfer.rate_bytes_per_second
    if transfer.state == "installed" and transfer.bytes_by_source and transfer.seconds > 0:
        return transfer.bytes_total / transfer.seconds
    return None


def _remaining(transfer: TransferStatus) -> str | None:
    """The reason that is left when the node itself sees none. What has all bytes is slow for another reason."""
    if transfer.state != "fetching" or received(transfer) >= transfer.bytes_total:
        return None
    if not transfer.peers:
        return "its sources: none is connected"
    sources = "1 source is" if transfer.peers == 1 else f"{transfer.peers} sources are"
    return f"its link: {sources} connected, and neither its disk nor verification holds it up"
