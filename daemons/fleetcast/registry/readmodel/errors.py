"""What the read model refuses."""

from fleetcast.registry.errors import RegistryError


class BadQuery(RegistryError):
    """The question is not one that the read model knows; the message says what it knows."""


class NothingFound(RegistryError):
    """There is nothing of that name."""


class ReadModelDamaged(RegistryError):
    """The file of the read model cannot be read; it is made again from the streams."""


class NotYet(RegistryError):
    """The read model has not come to the sequence that was asked for."""
