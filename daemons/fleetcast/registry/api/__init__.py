"""The registry for programs and notebooks, with the names that older code knows it by.

`values` are what goes in and comes out, `entries` makes them of what the registry keeps (pure), `calls` asks over a
bus, `background` lets code without an event loop do so, `facade` is what people hold. Gates, slots and rollouts are
decided by the registry daemon; nothing here decides.
"""

from fleetcast.registry.api.facade import ModelRegistry, get_registry
from fleetcast.registry.api.values import (
    AmbiguousVersion,
    Change,
    DeploymentStage,
    GateRefused,
    ModelNotFound,
    ModelPerformanceSnapshot,
    ModelRegistryEntry,
    RegistrationFailed,
    RegistryConflict,
    RegistryRefused,
)

__all__ = [
    "AmbiguousVersion",
    "Change",
    "DeploymentStage",
    "GateRefused",
    "ModelNotFound",
    "ModelPerformanceSnapshot",
    "ModelRegistry",
    "ModelRegistryEntry",
    "RegistrationFailed",
    "RegistryConflict",
    "RegistryRefused",
    "get_registry",
]
