"""What can go wrong with publishers' keys; nothing was changed."""

from fleetcast.security.errors import SecurityError


class KeysThere(SecurityError):
    """A key is there already, and is never written over."""


class KeysUnusable(SecurityError):
    """The folder cannot be read or written, or is not whole."""


class ChangeRefused(SecurityError):
    """The ring cannot be changed so."""


class PublisherUnknown(SecurityError):
    """Nobody in the ring is called so, or there is no folder."""


class RevokedBefore(SecurityError):
    """The key was revoked already."""
