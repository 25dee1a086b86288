"""Notices of Google Compute Engine, from its metadata server (Compute Engine documentation, "Preemptible and Spot VMs",
"Monitor and plan for host maintenance events"). No answer names a time: a preempted machine has 30 seconds, unless it
was made with a longer notice.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from fleetcast.daemons.trainer.spot.asking import Answer, NoAnswer, ask
from fleetcast.daemons.trainer.spot.notices import Notice

BASE: Final = "http://metadata.google.internal"
FLAVOR: Final = "Metadata-Flavor"
NOTICE_SECONDS: Final = 30.0
MAINTENANCE: Final = timedelta(hours=1)
"""From the notice to the maintenance of a machine with GPUs, which cannot be moved while it runs."""


class Gcp:
    """One Compute Engine machine's notices."""

    name = "gcp"

    def __init__(
        self,
        base: str = BASE,
        *,
        notice_seconds: float = NOTICE_SECONDS,
        timeout_seconds: float = 2.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._base = base
        self._notice = timedelta(seconds=notice_seconds)
        self._timeout_seconds = timeout_seconds
        self._now = now

    async def look(self) -> list[Notice]:
        """The notices that stand now, see `Adapter.look`."""
        found = []
        if (await self._get("preempted")).text.upper() == "TRUE":
            found.append(Notice("gcp.preempted", self._now() + self._notice, detail="preempted: TRUE"))
        event = (await self._get("maintenance-event")).text
        if event == "TERMINATE_ON_HOST_MAINTENANCE":
            found.append(Notice("gcp.maintenance", self._now() + MAINTENANCE, detail=f"maintenance-event: {event}"))
        return found

    async def _get(self, path: str) -> Answer:
        answer = await ask(
            self._base,
            f"/computeMetadata/v1/instance/{path}",
            headers={FLAVOR: "Google"},
            timeout_seconds=self._timeout_seconds,
        )
        # Anybody may answer under this name; the real service says who it is.
        if answer.status != 200 or answer.headers.get(FLAVOR.lower()) != "Google":
            raise NoAnswer(f"{self._base} answers {answer.status} to {path}, and not as the metadata server does")
        return answer
