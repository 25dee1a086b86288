"""The handler contract: what a handler is given, and what it may say."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from fleetcast.bus.jetstream import NANOSECONDS
from fleetcast.bus.retry import Backoff


class Retry(Exception):
    """Not yet: deliver again after `delay_seconds` (counts as one of the deliveries)."""

    def __init__(self, delay_seconds: float, reason: str = "") -> None:
        self.delay_seconds = delay_seconds
        super().__init__(reason or f"retry in {delay_seconds:g} s")


class Reject(Exception):
    """Never: this message is refused for good and becomes a dead letter.

    Attributes:
        reason: what is wrong, for a person.
        field: the field at fault.
        next_step: what to do now.
        winner: who holds what the message asked for, when it lost a claim.
    """

    def __init__(
        self, reason: str, field: str | None = None, next_step: str = "", *, winner: str | None = None
    ) -> None:
        self.reason = reason
        self.field = field
        self.next_step = next_step
        self.winner = winner
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery of a stored message.

    Attributes:
        sequence: in the stream.
        attempt: 1 at first.
        last_attempt: whether a failure now makes it a dead letter.
        pending: messages that wait behind it for the same consumer.
        confirm: acknowledge now and wait until the server has it: call it before an effect that must not repeat.
            Returning afterwards acknowledges nothing more. Raises TransportFailed when the server does not confirm.
    """

    subject: str
    data: bytes
    stream: str
    sequence: int
    time: datetime
    attempt: int
    last_attempt: bool
    pending: int
    confirm: Callable[[], Awaitable[None]] = field(repr=False, compare=False)
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Delivery], Awaitable[None]]

HANDLER_BACKOFF = Backoff(base_seconds=0.5, cap_seconds=60.0, floor_ratio=0.5)


@dataclass(frozen=True, slots=True)
class ConsumerSpec:
    """How messages are consumed.

    Attributes:
        subjects: patterns; empty: all of the stream.
        durable: name of the group that shares the work; None: this process alone, from memory, told everything.
        name: what an ephemeral consumer is called on the server and in dead letters.
        start: where a new consumer begins: only what comes, everything there is, or the newest of every subject.
        start_sequence: begin at this sequence instead (wins over `start`).
        ack_wait_seconds: silence after which the server delivers again; handlers are kept alive automatically.
        max_deliver: deliveries before a message is a dead letter.
        concurrency: handlers at once.
        max_ack_pending: deliveries in flight for the whole group, those waiting for a retry included.
        double_ack: wait until the server has the acknowledgement (the effect must not repeat).
        backoff: delays after a handler failed with anything but Retry and Reject.
    """

    stream: str
    subjects: tuple[str, ...] = ()
    durable: str | None = None
    name: str = ""
    start: Literal["new", "all", "last_per_subject"] = "all"
    start_sequence: int | None = None
    ack_wait_seconds: float = 30.0
    max_deliver: int = 8
    concurrency: int = 4
    max_ack_pending: int = 1000
    double_ack: bool = False
    backoff: Backoff = HANDLER_BACKOFF
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """Name in dead letters and logs: the durable's, or the ephemeral's without its random part."""
        return self.durable or self.name or "ephemeral"

    def config(self) -> dict[str, Any]:
        """The server's JSON, every field stated, without names and starting point."""
        return {
            "description": self.description,
            "ack_policy": "explicit",
            "ack_wait": int(self.ack_wait_seconds * NANOSECONDS),
            "max_deliver": self.max_deliver,
            "max_ack_pending": self.max_ack_pending,
            "max_waiting": 512,
            "filter_subjects": list(self.subjects),
            "replay_policy": "instant",
            "headers_only": False,
            "backoff": [],
            "metadata": dict(self.metadata),
        }
