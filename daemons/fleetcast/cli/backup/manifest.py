"""What is said of a backup: sealed inside of it in full, and in short, readable by everybody, at its end."""

import hashlib
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

FORMAT: Final = 1


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PartHead(_Value):
    """What is known of a stream before its snapshot has been read.

    Attributes:
        config: its settings, as the server has them.
        state: what it held, as the server says.
    """

    stream: str
    config: dict[str, Any]
    state: dict[str, Any]

    @property
    def messages(self) -> int:
        """Messages that it held."""
        return int(self.state.get("messages", 0))

    @property
    def last_sequence(self) -> int:
        """The newest number that it had given."""
        return int(self.state.get("last_seq", 0))

    @property
    def consumers(self) -> int:
        """Consumers that it had, those of the moment included."""
        return int(self.state.get("consumer_count", 0))


class Part(PartHead):
    """One stream; size and digest are of the server's snapshot of it."""

    size: int = Field(ge=0)
    sha256: str


class ChainEnd(_Value):
    """Where the audit chain of a model ended: number and digest of its newest record."""

    n: int
    sha256: str


class Manifest(_Value):
    """All of it.

    Attributes:
        taken_at: when it was begun; everything that was acknowledged before is in it.
        left_out: streams that are not in it, and why.
        audit: ends of the audit chains, by model, as they were when it was begun.
    """

    format: int = FORMAT
    fleetcast: str
    server: str
    node: str
    taken_at: datetime
    parts: tuple[Part, ...]
    left_out: dict[str, str]
    audit: dict[str, ChainEnd]

    @property
    def messages(self) -> int:
        """Messages of all streams."""
        return sum(part.messages for part in self.parts)

    @property
    def records(self) -> int:
        """Records in all audit chains."""
        return sum(end.n for end in self.audit.values())

    @property
    def audit_head(self) -> str:
        """One digest that stands for the ends of all chains."""
        return audit_head(self.audit)


class Summary(_Value):
    """What can be read of a backup without its private key. A copy of what is sealed: for lists, never for decisions.

    Attributes:
        sha256: of all bytes of the file before this.
        sealed_size: how many of them are sealed.
    """

    fleetcast: str
    node: str
    taken_at: datetime
    streams: int
    messages: int
    models: int
    records: int
    audit_head: str
    sha256: str
    sealed_size: int


def audit_head(ends: dict[str, ChainEnd]) -> str:
    """Digest over the ends of all chains, in the order of their models."""
    digest = hashlib.sha256()
    for model in sorted(ends):
        digest.update(f"{model} {ends[model].n} {ends[model].sha256}\n".encode())
    return digest.hexdigest()
