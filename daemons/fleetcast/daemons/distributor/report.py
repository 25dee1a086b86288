"""What is asked of `fc.svc.distributor.verify`, and what a node answers: values for both sides."""

from pydantic import Field

from fleetcast.events.content import Kind, Stored

VERIFY_SUBJECT = "fc.svc.distributor.verify"
STATUS_SUBJECT = "fc.svc.distributor.status"


class InspectionRequest(Stored):
    """What to prove again; None: all."""

    model: str | None = None
    version: str | None = None
    nodes: tuple[str, ...] | None = None


class FileVerdict(Stored):
    """One file: `expected` and `actual` are SHA-256; `actual` may say instead why none was computed."""

    kind: Kind
    model: str
    version: str
    path: str
    file: str
    ok: bool
    expected: str
    actual: str | None = None


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
