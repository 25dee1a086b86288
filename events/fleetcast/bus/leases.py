"""Leases: one owner at a time, with a number that fences what the owner does.

A lease is a key of the bucket `fc_leases`, created when it does not exist, renewed by plain update, expired by the
bucket's age limit. A message-level TTL is not used: an update drops it, and the lease would never end (tried). The
fence is the revision at which the lease was taken: every later owner has a higher one, so that whoever accepts side
effects can refuse a stalled former owner (M. Kleppmann, "How to do distributed locking", 2016).
"""

import json
from dataclasses import dataclass, replace

from fleetcast.bus.errors import Conflict, LeaseLost, LeaseTaken
from fleetcast.bus.jetstream import Entry
from fleetcast.bus.keyvalue import KeyValue
from fleetcast.bus.streams import LEASES_BUCKET
from fleetcast.client.ulid import new_ulid

CREATE_TRIES = 3


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that was held when this value was made.

    Attributes:
        fence: grows from owner to owner and stays the same while one owner renews.
        revision: of the newest renewal.
        nonce: tells this claim from an earlier one of the same owner.
    """

    name: str
    owner: str
    fence: int
    revision: int
    nonce: str

    def encode(self) -> bytes:
        """What is kept under its name; the revision is the server's."""
        return json.dumps({"owner": self.owner, "nonce": self.nonce, "fence": self.fence}).encode()


def _read(entry: Entry) -> tuple[str, str]:
    try:
        value = json.loads(entry.data)
        return str(value["owner"]), str(value["nonce"])
    except (ValueError, KeyError, TypeError):
        return "an unreadable value", ""


class Leases:
    """Takes, renews and gives back leases."""

    def __init__(self, kv: KeyValue, *, deadline_seconds: float = 10.0, bucket: str = LEASES_BUCKET) -> None:
        self._kv = kv
        self._deadline_seconds = deadline_seconds
        self._bucket = bucket

    async def acquire(self, name: str, owner: str) -> Lease:
        """Take the lease.

        Raises:
            LeaseTaken: somebody holds it; `owner` says who.
            BusUnavailable: the bus does not answer; whether it was taken is not known, it then expires by itself.
        """
        claim = Lease(name, owner, 0, 0, new_ulid())
        expected = 0
        for _ in range(CREATE_TRIES):
            try:
                revision = await self._put(claim, expected)
                return replace(claim, fence=revision, revision=revision)
            except Conflict:
                entry = await self._kv.newest(self._bucket, name)
            if entry is None:
                expected = 0
            elif entry.deleted:
                expected = entry.sequence
            else:
                return self._mine(claim, entry)
        raise LeaseTaken(f"{name} changes hands right now")

    def _mine(self, claim: Lease, entry: Entry) -> Lease:
        holder, nonce = _read(entry)
        if nonce != claim.nonce:
            raise LeaseTaken(f"{claim.name} is held by {holder}", owner=holder)
        # The answer to our own write was lost and its repetition refused: the value carries our nonce.
        return replace(claim, fence=entry.sequence, revision=entry.sequence)

    async def _put(self, lease: Lease, expected: int) -> int:
        return await self._kv.put(
            self._bucket, lease.name, lease.encode(), expected=expected, deadline_seconds=self._deadline_seconds
        )

    async def renew(self, lease: Lease) -> Lease:
        """Keep the lease for another period; returns its new form, with the same fence.

        Raises:
            LeaseLost: it expired or somebody else took it: stop at once.
            BusUnavailable: not known; stop before the period ends.
        """
        renewed = replace(lease, nonce=new_ulid())
        try:
            revision = await self._put(renewed, lease.revision)
        except Conflict as e:
            entry = await self._kv.newest(self._bucket, lease.name)
            if entry is None or entry.deleted or _read(entry)[1] != renewed.nonce:
                holder = "nobody" if entry is None or entry.deleted else _read(entry)[0]
                raise LeaseLost(f"{lease.name} is no longer held by {lease.owner}, but by {holder}") from e
            revision = entry.sequence
        return replace(renewed, revision=revision)

    async def check(self, lease: Lease) -> None:
        """Read the lease back; for a last look before an effect that cannot carry the fence.

        Raises:
            LeaseLost: somebody else holds it, or nobody.
            BusUnavailable: the bus does not answer.
        """
        entry = await self._kv.newest(self._bucket, lease.name)
        if entry is None or entry.deleted or entry.sequence != lease.revision:
            raise LeaseLost(f"{lease.name} is no longer held by {lease.owner}")

    async def release(self, lease: Lease) -> None:
        """Give the lease back; a lease that is no longer ours is left alone.

        Raises:
            BusUnavailable: the bus does not answer; it expires by itself.
        """
        try:
            await self._kv.put(
                self._bucket,
                lease.name,
                b"",
                expected=lease.revision,
                deadline_seconds=self._deadline_seconds,
                headers={"KV-Operation": "DEL"},
            )
        except Conflict:
            return
