"""The Python API of the registry: reading and moving slots, versions and their audit, by compare-and-swap.

`rules` decides, `registry` reads and writes; nothing here knows nodes, transfers or files."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fleetcast.registry.asking import OriginRegistry
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.errors import (
    DescriptionInvalid,
    NoKeeper,
    NoMonitor,
    RecordDamaged,
    RegistryError,
    VersionTaken,
)
from fleetcast.registry.registry import Registry
from fleetcast.registry.rules import Reserved, SlotOutcome

if TYPE_CHECKING:
    from fleetcast.registry.api import (
        AmbiguousVersion,
        DeploymentStage,
        GateRefused,
        ModelNotFound,
        ModelPerformanceSnapshot,
        ModelRegistry,
        ModelRegistryEntry,
        RegistrationFailed,
        RegistryConflict,
        RegistryRefused,
        get_registry,
    )

__all__ = [
    "AmbiguousVersion",
    "DeploymentStage",
    "DescriptionInvalid",
    "GateRefused",
    "ModelNotFound",
    "ModelPerformanceSnapshot",
    "ModelRegistry",
    "ModelRegistryEntry",
    "NoKeeper",
    "NoMonitor",
    "OriginRegistry",
    "RecordDamaged",
    "RegistrationFailed",
    "Registry",
    "RegistryClient",
    "RegistryConflict",
    "RegistryError",
    "RegistryRefused",
    "Reserved",
    "SlotOutcome",
    "VersionTaken",
    "get_registry",
]


def __getattr__(name: str) -> Any:
    """What people import from here is loaded when they do: daemons that need the rest do not wait for it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("fleetcast.registry.api"), name)
