"""The Python API of the registry: reading and moving slots, versions and their audit, by compare-and-swap.

`rules` decides, `registry` reads and writes; nothing here knows nodes, transfers or files."""

from fleetcast.registry.errors import RecordDamaged, RegistryError, VersionTaken
from fleetcast.registry.registry import Registry
from fleetcast.registry.rules import Reserved, SlotOutcome

__all__ = ["RecordDamaged", "Registry", "RegistryError", "Reserved", "SlotOutcome", "VersionTaken"]
