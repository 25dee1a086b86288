"""Objects: bytes too large for a message, in chunks (ADR-20 of nats-architecture-and-design)."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

from fleetcast.bus.errors import BusError, NotFound, ObjectDamaged
from fleetcast.bus.jetstream import JetStream
from fleetcast.bus.publish import MESSAGE_ID, Publisher
from fleetcast.bus.streams import META_BUCKET
from fleetcast.bus.watch import tail
from fleetcast.client.ulid import new_ulid

CHUNK_BYTES = 128 * 1024


def _digest(data: bytes) -> str:
    return "SHA-256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()


class Objects:
    """The object bucket `fc_meta`; what is written here is read by `nats object get fc_meta NAME` too."""

    def __init__(self, js: JetStream, publisher: Publisher, bucket: str = META_BUCKET) -> None:
        self._js = js
        self._publisher = publisher
        self._bucket = bucket
        self._stream = f"OBJ_{bucket}"

    def _meta_subject(self, name: str) -> str:
        return f"$O.{self._bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    def _chunk_subject(self, nuid: str) -> str:
        return f"$O.{self._bucket}.C.{nuid}"

    async def _info(self, name: str) -> dict[str, Any] | None:
        entry = await self._js.message(self._stream, last_by_subj=self._meta_subject(name))
        if entry is None:
            return None
        info = json.loads(entry.data)
        return None if info.get("deleted") else dict(info)

    async def put(self, name: str, data: bytes) -> None:
        """Store *data* under *name*; the same bytes again store nothing.

        The chunks come first and the entry last: a crash in between leaves no half object behind the name.

        Raises:
            BusUnavailable: the bus does not answer; calling again is safe.
        """
        before = await self._info(name)
        if before is not None and before.get("digest") == _digest(data):
            return
        nuid = new_ulid()
        chunks = [data[n : n + CHUNK_BYTES] for n in range(0, len(data), CHUNK_BYTES)]
        for number, chunk in enumerate(chunks):
            headers = {MESSAGE_ID: f"{nuid}-{number}"}
            await self._publisher.publish(self._chunk_subject(nuid), chunk, headers, deadline_seconds=None)
        info = {
            "name": name,
            "options": {"max_chunk_size": CHUNK_BYTES},
            "bucket": self._bucket,
            "nuid": nuid,
            "size": len(data),
            "mtime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "chunks": len(chunks),
            "digest": _digest(data),
        }
        await self._publisher.publish(
            self._meta_subject(name), json.dumps(info).encode(), {"Nats-Rollup": "sub"}, deadline_seconds=None
        )
        if before is not None:
            await self._forget(str(before["nuid"]))

    async def _forget(self, nuid: str) -> None:
        try:
            await self._js.api(f"STREAM.PURGE.{self._stream}", {"filter": self._chunk_subject(nuid)})
        except BusError:
            # Chunks without an entry cost space, not correctness; the bucket's limit holds.
            return

    async def get(self, name: str) -> bytes:
        """The bytes stored under *name*.

        Raises:
            NotFound: there is no such object.
            ObjectDamaged: the chunks do not hash to the digest.
            TransportFailed: the bus does not answer.
        """
        info = await self._info(name)
        if info is None:
            raise NotFound(f"there is no object {name!r} in {self._bucket}")
        parts = [entry.data async for entry in tail(self._js, self._stream, [self._chunk_subject(str(info["nuid"]))])]
        data = b"".join(parts)
        if len(data) != info["size"] or not hmac.compare_digest(_digest(data), str(info["digest"])):
            raise ObjectDamaged(f"object {name!r} in {self._bucket} is damaged")
        return data
