"""The spool: where events wait on the disk of their node until the bus has them (ADR 0004).

`SpoolWriter` is used by whoever emits, one file per process; `SpoolReader` by the one forwarder of the node. Nothing
here knows NATS, or what an event means.
"""

from fleetcast.client.spool.errors import SpoolBusy, SpoolError, SpoolFull
from fleetcast.client.spool.writer import SpoolWriter

TYPE_CHECKING = False  # as in typing, whose import a training job need not pay
if TYPE_CHECKING:
    from fleetcast.client.spool.reader import Damaged, SpoolReader, SpoolRecord

__all__ = [
    "Damaged",
    "SpoolBusy",
    "SpoolError",
    "SpoolFull",
    "SpoolReader",
    "SpoolRecord",
    "SpoolWriter",
]


def __getattr__(name: str) -> object:
    """The reading side, loaded when a forwarder asks for it: training jobs never do."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fleetcast.client.spool import reader  # 10 ms

    value: object = getattr(reader, name)
    return value
