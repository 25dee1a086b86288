"""That the streams were written to a file."""

from pydantic import Field

from fleetcast.events.ids import Name, Sha256
from fleetcast.events.lifecycle import Text
from fleetcast.events.payloads import Moment, Payload


class BackupTaken(Payload):
    """All streams are in a sealed file that is whole and on the disk.

    Attributes:
        backup: name of the file.
        taken_at: everything that was acknowledged before is in it.
        sha256: of the file up to its summary.
        records: of decisions.
        audit_head: one digest that stands for the ends of all audit chains.
    """

    node: Name
    backup: Text
    taken_at: Moment
    size: int = Field(ge=1)
    sha256: Sha256
    streams: int = Field(ge=1)
    messages: int = Field(ge=0)
    records: int = Field(ge=0)
    audit_head: Sha256
    seconds: float = Field(ge=0)
