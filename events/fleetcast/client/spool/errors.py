"""What can go wrong with a spool. The event was not promised to anybody when one of these is raised."""


class SpoolError(Exception):
    """The spool cannot be written or read."""


class SpoolFull(SpoolError):
    """The spool has reached its bound, or its disk is full."""


class SpoolBusy(SpoolError):
    """Another process forwards this spool."""
