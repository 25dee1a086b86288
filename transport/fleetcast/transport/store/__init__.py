"""The content store of a node: files by digest, versions as hard links to them, pointers that move in one step.

Belongs here: everything that changes names below the data folder (ADR 0007). Must not be here: transports, the bus,
decisions about what to serve.
"""

from fleetcast.transport.store.archive import Archive, ArchivedItem, ArchivedManifest
from fleetcast.transport.store.blobs import Mismatch
from fleetcast.transport.store.bundle import PublishedFolder, is_folder
from fleetcast.transport.store.collection import Collected
from fleetcast.transport.store.layout import Line
from fleetcast.transport.store.pointers import Activation
from fleetcast.transport.store.records import AppliedSlot, ArtifactRecord, SlotName
from fleetcast.transport.store.retention import FORMER_KEPT, Expendable, Judgement, Pins
from fleetcast.transport.store.room import Hold
from fleetcast.transport.store.store import Ingested, Store

__all__ = [
    "FORMER_KEPT",
    "Activation",
    "AppliedSlot",
    "Archive",
    "ArchivedItem",
    "ArchivedManifest",
    "ArtifactRecord",
    "Collected",
    "Expendable",
    "Hold",
    "Ingested",
    "Judgement",
    "Line",
    "Mismatch",
    "Pins",
    "PublishedFolder",
    "SlotName",
    "Store",
    "is_folder",
]
