"""What is asked of the services of the distributor, and what a node answers: values for both sides."""

from pydantic import Field

from fleetcast.events.content import Kind, Stored

VERIFY_SUBJECT = "fc.svc.distributor.verify"
STATUS_SUBJECT = "fc.svc.distributor.status"
GC_SUBJECT = "fc.svc.distributor.gc"


class InspectionRequest(Stored):
    """What to prove again; None: all."""

    model: str | None = None
    version: str | None = None
    nodes: tuple[str, ...] | None = None


class FileVerdict(Stored):
    """One file of `bytes` bytes: `expected` and `actual` are SHA-256; `actual` may say instead why there is none."""

    kind: Kind
    model: str
    version: str
    path: str
    file: str
    ok: bool
    expected: str
    actual: str | None = None
    bytes: int = 0


class VersionName(Stored):
    """A version in a report."""

    model: str
    version: str


class InspectionReport(Stored):
    """What one node found; `repairing` are the versions that it fetches again."""

    node: str
    checked: tuple[FileVerdict, ...] = ()
    repairing: tuple[VersionName, ...] = ()
    seconds: float = Field(default=0.0, ge=0)


class CollectionRequest(Stored):
    """What to remove on the nodes (None: all): everything that nothing pins; `dry_run`: say it and remove nothing."""

    dry_run: bool = False
    nodes: tuple[str, ...] | None = None
    actor: str | None = None
    reason: str | None = None


class RemovedVersion(Stored):
    """A version that is gone, or would be; `bytes` are its own, whether or not another version shares them."""

    kind: Kind
    model: str
    version: str
    bytes: int


class KeptVersion(RemovedVersion):
    """A version that stays, and why."""

    why: tuple[str, ...]


class CollectionReport(Stored):
    """What one node removed, or would remove.

    Attributes:
        files, bytes: what becomes free, bytes that no version names any more included.
        free_bytes: free on its disk after that.
    """

    node: str
    dry_run: bool = False
    removed: tuple[RemovedVersion, ...] = ()
    kept: tuple[KeptVersion, ...] = ()
    files: int = 0
    bytes: int = 0
    free_bytes: int = 0
    seconds: float = Field(default=0.0, ge=0)
