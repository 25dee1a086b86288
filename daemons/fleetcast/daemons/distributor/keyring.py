"""Whose word about versions counts on this node: its publisher key, and the newest key ring that it has seen.

The ring is kept below the store's folder, so that a node that starts without its bus, or is shown an older ring, knows
better.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from fleetcast.bus import Bus, InSync
from fleetcast.config.errors import ConfigError, Mistake
from fleetcast.config.signing import SigningSettings
from fleetcast.daemons.distributor.rules import Offer
from fleetcast.events.content import Content
from fleetcast.events.payloads import ManifestEnvelope
from fleetcast.events.signing import MANIFEST_TYPE, RING_SUBJECT, KeyRing
from fleetcast.transport import manifest
from fleetcast.transport.errors import KeyUnusable, ManifestRefused, RingRefused, StoreError
from fleetcast.transport.manifest import Trust
from fleetcast.transport.store.folder import Folder, store_errors

if TYPE_CHECKING:
    from fleetcast.transport.signing.keys import SigningKey

log = structlog.get_logger("fleetcast.distributor.keyring")

FOLDER, FILE = "trust", "keyring.json"


class Keyring:
    """Owner of what this node believes about keys. Without root keys it believes everything."""

    def __init__(self, settings: SigningSettings | None = None, data: Path | None = None) -> None:
        self._settings = settings or SigningSettings()
        self._data = data
        self._key: SigningKey | None = None
        self._trust = Trust(self._settings.unsigned) if self._settings.root_keys else None
        self.on_change: Callable[[], None] = lambda: None
        """Told when another ring is in force."""

    @classmethod
    def open(cls, settings: SigningSettings, data: Path) -> "Keyring":
        """What is kept below *data*, and this node's own key. Reads files.

        Raises:
            ConfigError: the publisher key is not one.
        """
        opened = cls(settings, data)
        if settings.publisher_key is not None:
            opened._key = _publisher_key(settings.publisher_key)
        if settings.root_keys:
            # Here, in a thread, and not on the loop when the first ring comes: the library takes its time.
            import fleetcast.transport.signing.ring  # noqa: F401

            opened._read_kept(data / FOLDER / FILE)
        return opened

    @property
    def ring(self) -> KeyRing | None:
        """The ring in force; None: there is none, or nothing is checked."""
        return self._trust.ring if self._trust else None

    @property
    def refuses_unsigned(self) -> bool:
        """Whether nothing is taken here without a signature that counts."""
        return self._trust is not None and self._trust.unsigned == "refuse"

    @property
    def revokes(self) -> bool:
        """Whether a key was revoked."""
        return self.ring is not None and any(key.revoked for key in self.ring.keys)

    def sign(self, envelope: ManifestEnvelope) -> ManifestEnvelope:
        """The manifest with this node's signature; as it is, where this node has no key."""
        if self._key is None or envelope.signatures:
            return envelope
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        seal = self._key.seal(MANIFEST_TYPE, manifest.signed_bytes(envelope.statement, at))
        return manifest.with_signature(envelope, seal, at)

    def check(self, offer: Offer, *, first: bool = True) -> None:
        """Hold an offer against the ring; *first*: the version was never installed here.

        Raises:
            ManifestRefused: its manifest does not count here.
        """
        now = datetime.now(UTC) if first else None
        manifest.check(offer.envelope, offer.content, now=now, trust=self._trust)

    def check_own(self, envelope: ManifestEnvelope, content: Content) -> None:
        """Hold what this node is about to offer against the ring, so that it is refused where it is published.

        Raises:
            ManifestRefused: no node that checks would take it.
        """
        try:
            manifest.check(envelope, content, now=datetime.now(UTC), trust=self._trust)
        except ManifestRefused as refused:
            own = "" if self._key else "; this node has no publisher key (signing.publisher_key)"
            raise ManifestRefused(f"{refused.reason}{own}", next_step=refused.next_step) from refused

    def revoked(self, envelope: ManifestEnvelope) -> str | None:
        """Why what is installed may not be shown any more (`manifest.revoked`); None: it may."""
        return manifest.revoked(envelope, self.ring) if self.ring else None

    async def watch(self, bus: Bus) -> None:
        """Follow the key ring until cancelled."""
        if self._trust is None:
            await asyncio.Event().wait()
        async for entry in bus.watch("FC_REGISTRY", (RING_SUBJECT,)):
            if not isinstance(entry, InSync):
                await self._hear(entry.data)

    async def _hear(self, data: bytes) -> None:
        try:
            if not self._take(data):
                return
        except RingRefused as refused:
            log.warning("keyring.refused", reason=refused.reason, next_step=refused.next_step)
            return
        await asyncio.to_thread(self._keep, data)
        self.on_change()

    def _take(self, data: bytes) -> bool:
        """Put a ring in force; False: it is already."""
        from fleetcast.transport.signing.ring import open_ring, succeeds

        assert self._trust is not None
        found = open_ring(data, self._settings.root_keys)
        if not succeeds(self._trust.ring, found):
            return False
        self._trust = replace(self._trust, ring=found)
        revoked = [f"{k.id} of {k.owner}" for k in found.keys if k.revoked]
        log.info("keyring.taken", number=found.number, keys=len(found.keys), revoked=revoked)
        return True

    def _read_kept(self, path: Path) -> None:
        try:
            self._take(path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, RingRefused) as fault:
            log.warning("keyring.unreadable", path=str(path), reason=str(fault))

    def _keep(self, data: bytes) -> None:
        """Write the ring to its file; a node that cannot still believes it until it ends."""
        if self._data is None:
            return
        try:
            with (
                store_errors("cannot keep the key ring"),
                Folder.open(self._data, (FOLDER,), create=True) as folder,
            ):
                folder.write(FILE, data, point="keyring.keep")
        except StoreError as fault:
            log.warning("keyring.not_kept", path=str(self._data / FOLDER / FILE), reason=fault.reason)


def _publisher_key(path: Path) -> "SigningKey":
    # Imported by nodes that publish: cryptography costs the others neither time nor memory.
    from fleetcast.transport.signing.keys import read_key

    try:
        return read_key(path)
    except KeyUnusable as unusable:
        hint = unusable.next_step or "fleetcast keys add NAME makes one"
        raise ConfigError((Mistake("signing.publisher_key", unusable.reason, hint),)) from unusable
