"""What follows from a request and the present state: pure decisions, and the chain of audit records."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from fleetcast.events.content import Kind, Value
from fleetcast.events.ids import canonical_json
from fleetcast.events.state import AuditRecord, Cause, ChainState, SlotEntry, SlotState, VersionState
from fleetcast.registry.errors import VersionTaken

FIRST_LINK = "0" * 64
"""`prev_sha256` of a model's first audit record."""

NO_CHAIN = ChainState(n=0, sha256=FIRST_LINK)

Kinds = Literal["moved", "repeated", "superseded"]


@dataclass(frozen=True, slots=True)
class SlotOutcome:
    """What became of a slot order.

    Attributes:
        kind: `moved` now; `repeated`: this request or this cause moved it before; `superseded`: a later cause had
            moved it already.
        state: the slot after this call; for `repeated`, as it is now.
    """

    kind: Kinds
    state: SlotState


@dataclass(frozen=True, slots=True)
class Reserved:
    """A version that has its content for ever; `created`: by this call."""

    state: VersionState
    created: bool


def decide_order(
    current: SlotState | None, *, model: str, kind: Kind, entry: SlotEntry, cause: Cause, at: str
) -> SlotOutcome:
    """What an order makes of a slot.

    Causes are ordered by their sequence in FC_EVENTS, not by when an order arrives here: a promotion that was
    published earlier, but prepared more slowly, must not take back a later one.
    """
    if current is None:
        return SlotOutcome(
            "moved", SlotState(model=model, kind=kind, generation=1, production=entry, cause=cause, at=at)
        )
    if cause.event == current.cause.event:
        return SlotOutcome("repeated", current)
    if cause.sequence < current.cause.sequence:
        return SlotOutcome("superseded", current)
    same_version = current.production is not None and current.production.version == entry.version
    moved = SlotState(
        model=model,
        kind=kind,
        generation=current.generation + 1,
        production=entry,
        previous=current.previous if same_version else current.production,
        canary=current.canary,
        cause=cause,
        at=at,
    )
    return SlotOutcome("moved", moved)


def decide_reservation(current: VersionState | None, wanted: VersionState) -> Reserved:
    """What a reservation makes of a version.

    Raises:
        VersionTaken: it has other content.
    """
    if current is None:
        return Reserved(wanted, created=True)
    if current.artifact != wanted.artifact:
        raise VersionTaken(current)
    return Reserved(current, created=False)


def dump(value: Value) -> bytes:
    """A value as it is stored: canonical JSON, so that equal values have equal digests."""
    return canonical_json(value.model_dump(mode="json", by_alias=True))


def as_mapping(value: Value | None) -> dict[str, Any] | None:
    """A value inside an audit record."""
    return None if value is None else value.model_dump(mode="json", by_alias=True)


def next_link(chain: ChainState, record: AuditRecord) -> tuple[bytes, ChainState]:
    """The bytes of *record*, and the chain once they are part of it."""
    data = dump(record)
    return data, ChainState(n=chain.n + 1, sha256=hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class Link:
    """What a chain is checked by: an audit record without what it says, of which there may be megabytes.

    Attributes:
        sha256: its digest.
        n: its number.
        prev_sha256: digest of the record that it follows from.
        problem: why it cannot be read; empty: it can.
    """

    sha256: str
    n: int = 0
    prev_sha256: str = ""
    problem: str = ""


def link_of(data: bytes) -> Link:
    """The link that a record is."""
    digest = hashlib.sha256(data).hexdigest()
    try:
        record = AuditRecord.model_validate_json(data)
    except ValidationError as e:
        return Link(digest, problem=str(e.errors()[0]["msg"]))
    return Link(digest, record.n, record.prev_sha256)


def checked_link(chain: ChainState, link: Link) -> tuple[list[str], ChainState]:
    """What is wrong with the record that comes next (nothing: it follows), and the chain with it all the same."""
    number = chain.n + 1
    if link.problem:
        return [f"record {number} cannot be read: {link.problem}"], ChainState(n=number, sha256=link.sha256)
    problems = []
    if link.n > number:
        problems.append(f"record {number} is missing: {link.n} follows {chain.n}")
    elif link.n < number:
        problems.append(f"record {link.n} is out of order: it follows {chain.n}")
    if link.prev_sha256 != chain.sha256:
        problems.append(f"record {link.n} does not follow from the record before it")
    return problems, ChainState(n=link.n, sha256=link.sha256)


def broken_links(links: Iterable[Link]) -> list[str]:
    """What is wrong with a model's audit records, given in order from the first; nothing: an unbroken chain."""
    found: list[str] = []
    chain = NO_CHAIN
    for link in links:
        problems, chain = checked_link(chain, link)
        found += problems
    return found


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """What became of a request, kept beside the state it changed, so that a repetition finds it.

    Attributes:
        attempt: of the call that wrote it: tells our own write, whose answer was lost, from somebody else's.
    """

    request: str
    kind: Kinds
    generation: int
    attempt: str

    def encode(self) -> bytes:
        return canonical_json(
            {"request": self.request, "kind": self.kind, "generation": self.generation, "attempt": self.attempt}
        )

    @classmethod
    def decode(cls, data: bytes) -> "RequestRecord":
        """Raises ValueError, KeyError, TypeError: it is none."""
        value = json.loads(data)
        return cls(str(value["request"]), value["kind"], int(value["generation"]), str(value["attempt"]))
