"""What the registry refuses."""

from fleetcast.events.state import VersionState


class RegistryError(Exception):
    """The registry could not do what was asked."""


class RecordDamaged(RegistryError):
    """A value in FC_REGISTRY cannot be read: another version of fleetcast wrote it, or somebody's hand."""


class VersionTaken(RegistryError):
    """The version exists already, with other content; versions are immutable.

    Attributes:
        winner: the version as it was reserved first.
    """

    def __init__(self, winner: VersionState) -> None:
        self.winner = winner
        super().__init__(
            f"{winner.model}@{winner.version} is {winner.artifact[:16]}… from {winner.origin.node} and stays so: "
            "versions are immutable"
        )


class NoKeeper(RegistryError):
    """No registry daemon answers."""


class NoMonitor(RegistryError):
    """No monitor daemon answers."""


class TransitionRefused(RegistryError):
    """The command is not one that a registry daemon understands."""


class VersionsDiffer(RegistryError, ValueError):
    """Two versions are named where one is meant."""


class DescriptionInvalid(RegistryError):
    """What is said about a version cannot be.

    Attributes:
        field: the field at fault.
    """

    def __init__(self, message: str, *, field: str) -> None:
        self.field = field
        super().__init__(message)
