"""What a distributor decides, as pure functions over values: what to fetch and in which order, who answers whom, when
to try again, which promotions concern this node."""

import math
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from fleetcast.daemons.distributor.rollouts import given_up, sought
from fleetcast.events.content import Content, Kind
from fleetcast.events.lifecycle import RolloutState
from fleetcast.events.payloads import (
    ArtifactAvailable,
    ContentRef,
    DaemonState,
    ManifestEnvelope,
    ManifestSignature,
    ObjectRef,
    Origin,
    Statement,
)
from fleetcast.events.state import CanaryForm, NodeStatus, SlotState, VersionState
from fleetcast.registry.fleet import wanting
from fleetcast.registry.slots import Line
from fleetcast.transport.store import AppliedSlot, SlotName

InForce = Literal["production", "canary"]
"""A slot that is served."""

RECENT_OFFERS = 3
"""Offers per model that are fetched although no slot names them: as many as production versions are kept."""

FULL_MESH_NODES = 64
"""Up to this many members of a swarm everybody answers a joiner; kraken issue 162 shows what too few answers cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A version that can be fetched: its content, where it started, and the event that it follows from.

    Attributes:
        sequence: position in `FC_EVENTS` (0 when read from the registry), which orders offers of one model.
        content_ref: the object that holds `content`, where it is too large for a message.
        not_after, signatures: of its manifest.
    """

    kind: Kind
    name: str
    version: str
    artifact: str
    content: Content
    metainfo_b64: str | None
    metainfo_ref: ObjectRef | None
    origin: Origin
    cause: str
    correlation: str
    sequence: int
    content_ref: ContentRef | None = None
    not_after: str | None = None
    signatures: tuple[ManifestSignature, ...] = ()

    @property
    def key(self) -> tuple[Kind, str, str]:
        return (self.kind, self.name, self.version)

    @property
    def envelope(self) -> ManifestEnvelope:
        kind = "dataset" if self.kind is Kind.DATASET else "model"
        statement = Statement(
            kind=kind, model=self.name, version=self.version, artifact=self.artifact, not_after=self.not_after
        )
        return ManifestEnvelope(statement=statement, signatures=self.signatures)

    def announcement(self, origin: Origin, *, cause: str) -> ArtifactAvailable:
        """What a node that serves it tells the fleet."""
        return ArtifactAvailable(
            artifact=self.artifact,
            content=None if self.content_ref else self.content,
            content_ref=self.content_ref,
            metainfo_b64=self.metainfo_b64,
            metainfo_ref=self.metainfo_ref,
            origin=origin,
            envelope=self.envelope,
            cause=cause,
        )


def offer_from_event(
    payload: ArtifactAvailable, *, correlation: str, sequence: int, content: Content | None = None
) -> Offer:
    """The offer in an event; *content*: what `content_ref` names, where the event carries no content itself."""
    statement = payload.envelope.statement
    known = payload.content or content
    assert known is not None, "content by reference is read before the offer is made"
    return Offer(
        kind=Kind.DATASET if statement.kind == "dataset" else Kind.MODEL,
        name=statement.model,
        version=statement.version,
        artifact=payload.artifact,
        content=known,
        content_ref=payload.content_ref,
        metainfo_b64=payload.metainfo_b64,
        metainfo_ref=payload.metainfo_ref,
        origin=payload.origin,
        cause=payload.cause,
        correlation=correlation,
        sequence=sequence,
        not_after=statement.not_after,
        signatures=payload.envelope.signatures,
    )


def offer_from_state(state: VersionState, content: Content | None = None) -> Offer:
    """A version of the registry as an offer; *content*: what `content_ref` names, where the record has none itself."""
    known = state.content or content
    assert known is not None, "content by reference is read before the offer is made"
    return Offer(
        kind=state.kind,
        name=state.model,
        version=state.version,
        artifact=state.artifact,
        content=known,
        content_ref=state.content_ref,
        metainfo_b64=state.metainfo_b64,
        metainfo_ref=state.metainfo_ref,
        origin=state.origin,
        cause=state.cause.event,
        correlation=state.cause.correlation,
        sequence=state.cause.sequence,
        not_after=state.envelope.statement.not_after if state.envelope else None,
        signatures=state.envelope.signatures if state.envelope else (),
    )


class Urgency(IntEnum):
    """Order of transfers: what is served comes first, what a rollback would need comes last."""

    PRODUCTION = 0
    CANARY = 1
    OFFERED = 2
    PREVIOUS = 3


@dataclass(frozen=True, slots=True)
class Goal:
    """A version that this node shall hold."""

    version: str
    artifact: str
    urgency: Urgency


def goals(
    slot: SlotState | None, offers: Sequence[Offer], node: str = "", rollout: RolloutState | None = None
) -> tuple[Goal, ...]:
    """What *node*, which wants the model, shall hold, most urgent first.

    *offers* are of one model, in the order of their events. Versions that were superseded while this node was away are
    in neither: they are never fetched. `previous` is, because a rollback must not need a transfer. What `current` shall
    point to is urgent: on a node of the canary that is the canary. What the *rollout* of the model waits for is a goal
    whether or not there is an offer of it.
    """
    found: dict[str, Goal] = {}

    def add(version: str, artifact: str, urgency: Urgency) -> None:
        found.setdefault(version, Goal(version, artifact, urgency))

    if slot is not None:
        if slot.production:
            add(slot.production.version, slot.production.artifact, Urgency.PRODUCTION)
        if slot.canary:
            urgency = Urgency.PRODUCTION if slot.is_canary_node(node) else Urgency.CANARY
            add(slot.canary.version, slot.canary.artifact, urgency)
    entry = sought(rollout)
    if entry is not None:
        add(entry.version, entry.artifact, Urgency.CANARY)
    recent = sorted(offers, key=lambda o: o.sequence)[-RECENT_OFFERS:]
    for offer in reversed(recent):
        if not _is_superseded(offer, slot, recent, given_up(rollout)):
            add(offer.version, offer.artifact, Urgency.OFFERED)
    if slot is not None and slot.previous:
        add(slot.previous.version, slot.previous.artifact, Urgency.PREVIOUS)
    return tuple(sorted(found.values(), key=lambda g: g.urgency))


def shows(
    applied: AppliedSlot | None, slot: SlotState, held: Set[SlotName], *, on_canary: bool, drained: bool = False
) -> bool:
    """Whether the pointers say all that a slot order can have them say, or obey a later one already.

    Args:
        held: slots of the order whose versions are installed here.
        on_canary: whether `current` follows the canary on this node.
        drained: whether this node is out of service.
    """
    if applied is None or applied.slot.generation < slot.generation:
        return False
    rest = set(applied.shown) == held and applied.on_canary == on_canary and applied.drained == drained
    return applied.slot != slot or rest


def in_force(applied: AppliedSlot | None) -> tuple[InForce, ...]:
    """The slots that are served on a node: the one that `current` follows, and a canary that is a share of requests."""
    if applied is None:
        return ()
    canary = applied.slot.canary
    by_request = canary is not None and canary.form is CanaryForm.REQUESTS and "canary" in applied.shown
    follows = (applied.follows,) if applied.follows else ()
    return (*follows, "canary") if by_request else follows


def activated(before: AppliedSlot | None, after: AppliedSlot) -> tuple[InForce, ...]:
    """The slots that an activation put in force: all of them under a new generation."""
    same = before is not None and before.slot.generation == after.slot.generation
    return tuple(name for name in in_force(after) if not (same and name in in_force(before)))


def coming(
    before: AppliedSlot | None, slot: SlotState, held: Set[SlotName], *, on_canary: bool
) -> tuple[SlotName, ...]:
    """The slots of an order whose versions readers would get to see through it, and do not see yet."""
    after = AppliedSlot(slot=slot, on_canary=on_canary, shown=tuple(held))
    seen = {e.version for name in in_force(before) if before and (e := getattr(before.slot, name)) is not None}
    entries = ((name, getattr(slot, name)) for name in in_force(after))
    return tuple(name for name, entry in entries if entry is not None and entry.version not in seen)


def due(missing: Sequence[Goal]) -> tuple[Goal, ...]:
    """Of the goals of one model that are not here, those to fetch now.

    While production is missing, what only a rollback needs waits: a transfer that is superseded in flight stops, and is
    taken up again, with the bytes that it has, once the newer version is here.
    """
    urgent = any(goal.urgency is Urgency.PRODUCTION for goal in missing)
    return tuple(g for g in missing if not (urgent and g.urgency is Urgency.PREVIOUS))


def _is_superseded(offer: Offer, slot: SlotState | None, recent: Sequence[Offer], left: Set[str]) -> bool:
    # What was offered after the order was decided is new; an offer from the registry itself carries no sequence.
    if slot is None or not 0 < offer.sequence < slot.cause.sequence:
        return False
    if offer.version in left or offer.version in {entry.version for entry in slot.former}:
        return True
    if slot.production is None:
        return True
    # A person decides long after versions were offered: one that was registered after what is served now is not
    # history. Where the newest few have crowded out the offer of what is served, all of them came after it.
    served = [o.sequence for o in recent if o.version == slot.production.version]
    return offer.sequence < served[0] if served else len(recent) < RECENT_OFFERS


def remembered(offers: Sequence[Offer], new: Offer) -> tuple[Offer, ...]:
    """*offers* with *new* added: one per version, the newest few only."""
    kept = [o for o in offers if o.version != new.version]
    return tuple(sorted([*kept, new], key=lambda o: o.sequence)[-RECENT_OFFERS:])


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay_seconds`."""

    delay_seconds: float


def retry_delay(attempt: int, *, base_seconds: float, cap_seconds: float, jitter: float) -> Retry:
    """Full-jitter exponential backoff; *attempt* counts from 1, *jitter* is drawn from [0, 1)."""
    ceiling = min(cap_seconds, base_seconds * 2.0 ** min(attempt - 1, 30))
    return Retry(max(0.05, ceiling * jitter))


def answers(members: int, draw: float) -> bool:
    """Whether a member answers somebody who joins; *members* of the swarm are known, *draw* is from [0, 1).

    All answer up to 64 members; beyond, about 64 of them do, so that a flash crowd does not multiply messages.
    """
    return members <= FULL_MESH_NODES or draw < FULL_MESH_NODES / members


def dials(me: str, other: str, *, other_complete: bool) -> bool:
    """Whether *me*, which fetches, opens the connection to another member of the swarm.

    One side of every pair dials: when both do, each side drops the other's connection, and BitTorrent tries again only
    at a tick up to a second later. Who fetches dials who holds it all; of two that fetch, the later name dials.
    """
    return other_complete or me > other


def receivers(statuses: Sequence[NodeStatus], offer: Offer) -> int | None:
    """How many live nodes want an offer and have not got it yet; None when no heartbeat was heard."""
    alive = [s for s in statuses if s.state is not DaemonState.STOPPED]
    holders = {s.node for s in alive for m in s.models for v in m.installed if v.artifact == offer.artifact}
    missing = set(wanting(alive, offer.kind, offer.name)) - holders - {offer.origin.node}
    return len(missing) or None


def of_interest(status: NodeStatus, carries: Callable[[Line], bool]) -> NodeStatus:
    """A heartbeat without what it says of models that do not matter here: other nodes may have thousands of them."""
    models = tuple(m for m in status.models if carries((Kind(m.kind), m.model)))
    return status if len(models) == len(status.models) else status.model_copy(update={"models": models})


@dataclass(frozen=True, slots=True)
class UnknownNode:
    """Why a promotion that names an unknown node is refused."""

    reason: str
    next_step: str


def check_addressee(node: str, known: Iterable[str]) -> UnknownNode | None:
    """None when *node* is one of the fleet; otherwise what to tell whoever published the event."""
    names = sorted(known)
    if node in names:
        return None
    shown = ", ".join(names[:10]) or "none has reported yet"
    return UnknownNode(
        reason=f"no node {node!r} runs a distributor; known nodes: {shown}",
        next_step="publish again with the node that holds the file, or start `fleetcast run distributor` there first",
    )


@dataclass(slots=True)
class RateMeter:
    """Bytes per second as an exponentially weighted average, and the time that is left.

    The weight of the past halves every two seconds: quick enough to show a stall, slow enough to read.
    """

    half_life_seconds: float = 2.0
    rate_bytes_per_second: float = 0.0
    _last_bytes: int | None = None
    _last_at: float = 0.0

    def sample(self, done_bytes: int, at: float) -> float:
        if self._last_bytes is not None and at > self._last_at:
            elapsed = at - self._last_at
            weight = math.exp(-math.log(2) * elapsed / self.half_life_seconds)
            current = max(0, done_bytes - self._last_bytes) / elapsed
            # The first interval has no past to be averaged with.
            self.rate_bytes_per_second = (
                current
                if self.rate_bytes_per_second == 0.0
                else weight * self.rate_bytes_per_second + (1 - weight) * current
            )
        self._last_bytes, self._last_at = done_bytes, at
        return self.rate_bytes_per_second

    def eta_seconds(self, total_bytes: int) -> float | None:
        if self._last_bytes is None or self.rate_bytes_per_second <= 0:
            return None
        return max(0.0, (total_bytes - self._last_bytes) / self.rate_bytes_per_second)


def data_set_version(dataset_id: str | None, artifact: str) -> str:
    """The version of a data set: the id that its export gave it, else the first 16 digits of its artifact."""
    return dataset_id or artifact[:16]
