"""What is seen while the demo runs: bars on a terminal, one line per change elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fleetcast.cli.live import Fleet
from fleetcast.cli.output import Output
from fleetcast.cli.units import duration, rate
from fleetcast.cli.waiting import Changed, talker
from fleetcast.events.state import TransferStatus
from fleetcast.registry.picture.nodes import Rollout, received
from fleetcast.registry.picture.pace import ENDED

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bars:
    """One bar per node that fetches a version."""

    def __init__(self, fleet: Fleet, version: str, progress: "Progress") -> None:
        self._fleet = fleet
        self._version = version
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def draw(self, _rollout: Rollout | None) -> None:
        """Bring the bars up to date."""
        for transfer in self._fleet.transfers:
            if transfer.version != self._version:
                continue
            if transfer.node not in self._bars:
                self._bars[transfer.node] = self._progress.add_task(transfer.node, total=transfer.bytes_total, pace="")
            state = f"{transfer.state}, {transfer.peers} peer{'' if transfer.peers == 1 else 's'}"
            self._progress.update(
                self._bars[transfer.node],
                completed=received(transfer),
                description=f"{transfer.node} {state}",
                pace=_pace(transfer),
            )


def _pace(transfer: TransferStatus) -> str:
    """Rate and time left while it runs, as its node reckons them; the time it took afterwards."""
    if transfer.state in ENDED:
        return f"took {duration(transfer.seconds)}"
    left = f", {duration(transfer.eta_seconds)} left" if transfer.eta_seconds is not None else ""
    return f"{rate(transfer.rate_bytes_per_second)}{left}"


@contextmanager
def showing(out: Output, fleet: Fleet, version: str) -> Iterator[Changed]:
    """How the transfers of *version* are shown for the duration: call the result at every change."""
    if not out.live:
        yield talker(out)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (
        TextColumn("    {task.description:<28}", markup=False),
        BarColumn(bar_width=30),
        DownloadColumn(binary_units=True),
        TextColumn("{task.fields[pace]}", markup=False),
    )
    with Progress(*columns, console=out.console(talk=True)) as progress:
        yield Bars(fleet, version, progress).draw
