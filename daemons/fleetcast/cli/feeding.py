"""One artifact over the fleet: who feeds whom, by which rungs it came, who is slow, who has it. Pure.

What runs is known from heartbeats and progress messages; what ended hours ago only from events, which say less.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.text import Text

from fleetcast.cli.narrate import printable
from fleetcast.cli.rungs import rung_words
from fleetcast.cli.table import table
from fleetcast.cli.transfers import attention, sentence, transfer_table
from fleetcast.cli.units import size
from fleetcast.events import payloads as p
from fleetcast.events.envelope import Event
from fleetcast.events.event import rfc3339
from fleetcast.events.state import TransferStatus
from fleetcast.registry.picture.pace import ENDED, Summary, newest, summary, transfer_document

MATRIX_NODES = 8
"""Up to so many sources have a column each in the table of who feeds whom."""
FED_SHOWN = 12
"""Beyond: sources that are named, those that gave most first."""


@dataclass(frozen=True)
class Story:
    """All that is known of the transfers of one artifact.

    Attributes:
        transfers: the newest of every node.
        moves: changes of the rung, oldest first, by transfer.
        holders: nodes that have it installed.
    """

    transfers: tuple[TransferStatus, ...]
    moves: Mapping[str, tuple[p.TransferMoved, ...]] = field(default_factory=dict)
    holders: tuple[str, ...] = ()

    @property
    def whole(self) -> Summary:
        """The artifact as a whole."""
        return summary(self.transfers)

    def document(self) -> dict[str, object]:
        """The story in JSON."""
        moves = {transfer: [each.model_dump(mode="json") for each in moved] for transfer, moved in self.moves.items()}
        return {
            "artifact": self.whole.document(),
            "holders": list(self.holders),
            "transfers": [transfer_document(t) for t in self.transfers],
            "moves": moves,
            "fed": {node: dict(given) for node, given in fed(self.transfers).items()},
        }


def stories(
    transfers: Iterable[TransferStatus], events: Sequence[Event], holders: Mapping[str, Sequence[str]]
) -> dict[str, Story]:
    """A story per artifact, from what nodes show and from the log; what a node shows says more than its facts."""
    shown = list(transfers)
    known = {t.transfer for t in shown}
    told = [t for t in from_facts(events) if t.transfer not in known]
    moves: dict[str, tuple[p.TransferMoved, ...]] = {}
    for event in events:
        if isinstance(event.payload, p.TransferMoved):
            moves[event.payload.transfer] = (*moves.get(event.payload.transfer, ()), event.payload)
    found: dict[str, list[TransferStatus]] = {}
    for transfer in newest([*told, *shown]):
        found.setdefault(transfer.artifact, []).append(transfer)
    return {
        artifact: Story(
            _same_size(group),
            {t.transfer: moves[t.transfer] for t in group if t.transfer in moves},
            tuple(holders.get(artifact, ())),
        )
        for artifact, group in found.items()
    }


def _same_size(group: Sequence[TransferStatus]) -> tuple[TransferStatus, ...]:
    """Facts do not carry the size: it is the artifact's, as far as anybody knows it."""
    total = max(t.bytes_total for t in group)
    return tuple(
        t if t.bytes_total == total else t.model_copy(update={"bytes_total": total, "bytes_done": _done(t, total)})
        for t in group
    )


def _done(transfer: TransferStatus, total: int) -> int:
    return total if transfer.state == "installed" else min(transfer.bytes_done, total)


def from_facts(events: Iterable[Event]) -> list[TransferStatus]:
    """Ended transfers as their facts tell them."""
    found: dict[str, TransferStatus] = {}
    for event in events:
        fact = event.payload
        if isinstance(fact, p.TransferVerified | p.TransferFailed):
            received = sum(fact.bytes_by_source.values())
            found[fact.transfer] = TransferStatus(
                transfer=fact.transfer,
                artifact=fact.artifact,
                model=fact.model,
                version=fact.version,
                node=fact.node,
                state="installed" if isinstance(fact, p.TransferVerified) else "failed",
                transport=fact.transport,
                bytes_total=received,
                bytes_done=received,
                bytes_by_source=fact.bytes_by_source,
                reason=fact.reason if isinstance(fact, p.TransferFailed) else None,
                started_at=rfc3339(event.time),
                seconds=fact.seconds,
            )
    return list(found.values())


def choose(found: Mapping[str, Story], what: str) -> Story | None:
    """The story that *what* means: `MODEL@VERSION`, `MODEL` (its newest), or the start of an artifact or transfer."""
    model, _, version = what.partition("@")
    named = [s for s in found.values() if s.whole.model == model and version in {"", s.whole.version}]
    if named:
        return max(named, key=_begun)
    began = what.lower()
    return next(
        (
            s
            for artifact, s in found.items()
            if artifact.startswith(began) or any(t.transfer.lower().startswith(began) for t in s.transfers)
        ),
        None,
    )


def _begun(story: Story) -> tuple[bool, str]:
    return any(t.state not in ENDED for t in story.transfers), max(t.started_at for t in story.transfers)


def fed(transfers: Iterable[TransferStatus]) -> dict[str, dict[str, int]]:
    """Bytes by source, then by the node that got them; who gave most comes first."""
    given: dict[str, dict[str, int]] = {}
    for transfer in transfers:
        for source, count in transfer.bytes_by_source.items():
            given.setdefault(source, {})[transfer.node] = count
    return dict(sorted(given.items(), key=lambda item: (-sum(item[1].values()), item[0])))


def picture(story: Story, *, limit: int, width: int) -> RenderableType:
    """A story for a person."""
    whole = story.whole
    slow = {(node, whole.artifact): why for node, why in whole.slow.items()}
    rows = attention(story.transfers, slow)
    head = [Text(printable(sentence(whole))), Text(f"artifact {whole.artifact}")]
    if story.holders:
        head.append(Text(printable(f"installed on {_names(story.holders)}")))
    shown = rows[: limit or None]
    rest = len(rows) - len(shown)
    parts: list[RenderableType] = [*head, Text(""), transfer_table(shown, slow, width=width)]
    if rest:
        parts.append(Text(f"… and {rest} more; --limit 0 shows all"))
    parts += [Text(""), Text("who feeds whom:"), feeding(story.transfers)]
    parts += _section("slow:", [f"{node}: {why}" for node, why in whole.slow.items()][: limit or None])
    parts += _section("ladder:", ladder_words(story, shown))
    return Group(*parts)


def _section(title: str, lines: Sequence[str]) -> list[RenderableType]:
    return [Text(""), Text(title), *(Text(f"  {printable(each)}") for each in lines)] if lines else []


def _names(nodes: Sequence[str], shown: int = FED_SHOWN) -> str:
    rest = len(nodes) - shown
    return ", ".join(nodes[:shown]) + (f" and {rest} more" if rest > 0 else "")


def feeding(transfers: Sequence[TransferStatus]) -> RenderableType:
    """Who feeds whom: a matrix where it fits, otherwise what every source gave, and to whom most of it."""
    given = fed(transfers)
    if not given:
        return Text("  nobody has received anything yet")
    if len(given) <= MATRIX_NODES:
        takers = sorted({node for got in given.values() for node in got})
        if len(takers) <= MATRIX_NODES * 2:
            rows = [(node, *(_cell(given[source].get(node, 0)) for source in given)) for node in takers]
            return table(("  TO \\ FROM", *given), [(f"  {row[0]}", *row[1:]) for row in rows], right=range(1, 99))
    lines = [Text(printable(f"  {_gave(source, got)}")) for source, got in list(given.items())[:FED_SHOWN]]
    rest = list(given.values())[FED_SHOWN:]
    if rest:
        lines.append(Text(f"  {len(rest)} more gave {size(sum(sum(got.values()) for got in rest))}"))
    return Group(*lines)


def _cell(count: int) -> str:
    return size(count) if count else "-"


def _gave(source: str, got: Mapping[str, int]) -> str:
    top = sorted(got.items(), key=lambda item: (-item[1], item[0]))[:3]
    most = ", ".join(f"{node} {size(count)}" for node, count in top)
    return f"{source} gave {size(sum(got.values()))} to {len(got)} node{'s' if len(got) > 1 else ''}, most to {most}"


def ladder_words(story: Story, transfers: Iterable[TransferStatus]) -> list[str]:
    """Why each node has its ladder, and how it moved; nodes with the same choice and no moves share a line."""
    alike: dict[str, list[str]] = {}
    moved: list[str] = []
    for transfer in sorted(transfers, key=lambda t: t.node):
        moves = story.moves.get(transfer.transfer, ())
        words = [said for rung in transfer.rungs if (said := rung_words(rung))]
        if moves:
            moved += [f"{transfer.node} went from {m.from_transport} to {m.transport}: {m.reason}" for m in moves]
        if len(words) > 1 or moves:
            moved += [f"{transfer.node}: {'; '.join(words)}"] if words else []
        if transfer.choice:
            alike.setdefault(transfer.choice, []).append(transfer.node)
    return [f"{_names(nodes)}: {choice}" for choice, nodes in alike.items()] + moved
