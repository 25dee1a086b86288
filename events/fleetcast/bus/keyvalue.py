"""Key-value buckets (ADR-8 of nats-architecture-and-design): one value per key, read through the leader."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from fleetcast.bus.errors import OperationRefused
from fleetcast.bus.jetstream import Entry, JetStream
from fleetcast.bus.publish import EXPECTED_SUBJECT_SEQUENCE, Publisher
from fleetcast.bus.watch import snapshot

_KEY = re.compile(r"[-/_=.a-zA-Z0-9]+\Z")


@dataclass(frozen=True, slots=True)
class KvEntry:
    """A key's value; `revision` is the sequence in the bucket's stream, `time` when it was stored, UTC."""

    key: str
    data: bytes
    revision: int
    time: datetime


def key_subject(bucket: str, key: str) -> str:
    """Where a key is stored.

    Raises:
        OperationRefused: it is no key.
    """
    if not _KEY.match(key) or key.startswith((".", "_kv")) or key.endswith(".") or ".." in key:
        raise OperationRefused(f"{key!r} is no key")
    return f"$KV.{bucket}.{key}"


def _kv_entry(bucket: str, entry: Entry) -> KvEntry:
    return KvEntry(entry.subject.removeprefix(f"$KV.{bucket}."), entry.data, entry.sequence, entry.time)


class KeyValue:
    """The buckets of one account."""

    def __init__(self, js: JetStream, publisher: Publisher) -> None:
        self._js = js
        self._publisher = publisher

    async def put(
        self,
        bucket: str,
        key: str,
        data: bytes,
        *,
        expected: int | None = None,
        deadline_seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Store a value; returns its revision.

        *expected*: the revision that it replaces, 0: the key must not exist.

        Raises:
            Conflict: the key has another revision.
            BusUnavailable: not before the deadline; with *expected* the outcome is not known.
        """
        conditions = {} if expected is None else {EXPECTED_SUBJECT_SEQUENCE: str(expected)}
        receipt = await self._publisher.publish(
            key_subject(bucket, key), data, {**(headers or {}), **conditions} or None, deadline_seconds=deadline_seconds
        )
        return receipt.sequence

    async def get(self, bucket: str, key: str) -> KvEntry | None:
        """A key's value; None when there is none, or it was deleted or expired.

        Raises:
            TransportFailed: the bus does not answer.
            NotFound: there is no such bucket.
        """
        entry = await self.newest(bucket, key)
        return None if entry is None or entry.deleted else _kv_entry(bucket, entry)

    async def newest(self, bucket: str, key: str) -> Entry | None:
        """What is stored under a key, markers of deletion included."""
        return await self._js.message(f"KV_{bucket}", last_by_subj=key_subject(bucket, key))

    async def entries(self, bucket: str) -> list[KvEntry]:
        """All keys with their values; errors as `get`."""
        found = await snapshot(self._js, f"KV_{bucket}", [f"$KV.{bucket}.>"])
        return [_kv_entry(bucket, entry) for entry in found if not entry.deleted]

    async def delete(self, bucket: str, key: str) -> None:
        """Delete a key; nothing happens when there is none.

        Raises:
            BusUnavailable: the bus does not answer.
        """
        marker = {"KV-Operation": "DEL"}
        await self._publisher.publish(key_subject(bucket, key), b"", marker, deadline_seconds=None)
