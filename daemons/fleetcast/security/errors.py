"""What can go wrong with a fleet's keys: each says what, why, and what to do; nothing was changed."""


class SecurityError(Exception):
    """The fleet's keys cannot be used so."""

    def __init__(self, message: str, *, why: str = "", next_step: str = "") -> None:
        super().__init__(message)
        self.why = why
        self.next_step = next_step


class FolderRefused(SecurityError):
    """The folder is not one of a fleet's keys, or cannot be used."""


class SecretDamaged(SecurityError):
    """A key or certificate is not whole."""


class NameRefused(SecurityError):
    """A name cannot be given, or is not known."""


class ProofFailed(SecurityError):
    """The new key was tried and did not work; the old one holds."""
