"""What may be asked about a node's folders of runs, and what is answered: JSON on `fc.svc.trainer.<node>.folders`."""

from fleetcast.events.content import Stored


class FoldersRequest(Stored):
    """Remove what the settings let go, now; `dry_run`: say it and remove nothing."""

    dry_run: bool = False
    actor: str | None = None
    reason: str | None = None


class RunFolder(Stored):
    """A run's folder, and why it goes or stays; `bytes`: that it takes of the disk."""

    run: str
    bytes: int
    why: str


class FoldersReport(Stored):
    """What one node removed, or would remove."""

    node: str
    dry_run: bool = False
    removed: tuple[RunFolder, ...] = ()
    kept: tuple[RunFolder, ...] = ()
