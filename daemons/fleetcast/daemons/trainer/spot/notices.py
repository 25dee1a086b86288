"""A notice that this machine is taken away, as a metadata service gives it: a value."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Notice:
    """That the machine goes.

    Attributes:
        source: who says so: `aws.spot`, `aws.rebalance`, `aws.maintenance`, `aws.autoscaling`, `gcp.preempted`,
            `gcp.maintenance`.
        deadline: when, aware.
        certain: False: it may not happen.
        detail: the notice as it was given.
    """

    source: str
    deadline: datetime
    certain: bool = True
    detail: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """The same for every look at the same notice. Where a service gives no time, the deadline is made here, and
        every look would make another one."""
        return (self.source, self.detail)


class Adapter(Protocol):
    """One cloud's metadata service."""

    name: str

    async def look(self) -> list[Notice]:
        """The notices that stand now; none in most looks.

        Raises:
            NoAnswer: the service is not there.
        """
        ...
