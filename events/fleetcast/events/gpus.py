"""What a node says of its GPUs and of the runs that compute on them, in its trainer's heartbeat."""

from fleetcast.events.content import Stored
from fleetcast.events.ids import Name


class Gpu(Stored):
    """One GPU as its driver shows it; None: nobody says. Sizes in bytes.

    Attributes:
        index: by which its vendor's tools count it.
        uuid: stays the same when it is put into another slot; empty: it has none.
        pci: its address, `0000:65:00.0`; the kernel's messages name it by that.
        vendor: `nvidia`, `amd`, `intel`, or `simulated`.
        arch: `sm_90`, `gfx90a`.
        memory_free: right now, whoever uses the rest.
        temperature: degrees Celsius.
        ecc: errors that could not be corrected, since the driver was loaded.
        fault: why it cannot be used; empty: nothing is known against it.
        warning: what may make it fail, though it can be used: a variable that makes it pass for another one.
        proven_at: when it last computed as it should in a probe (RFC 3339); empty: never since its trainer began.
    """

    index: int
    uuid: str = ""
    pci: str = ""
    vendor: str
    model: str = ""
    arch: str = ""
    memory_total: int | None = None
    memory_free: int | None = None
    driver: str = ""
    temperature: float | None = None
    ecc: int | None = None
    fault: str = ""
    warning: str = ""
    proven_at: str = ""


class RunOnNode(Stored):
    """A run that a node's trainer has in hand.

    Attributes:
        work_class: queue that its job came from.
        phase: as in its record.
        gpus: indices of those that it computes on.
        since: when it was claimed (RFC 3339).
    """

    run: Name
    lane: Name
    claim: int
    work_class: str
    phase: str
    device: str = ""
    gpus: tuple[int, ...] = ()
    since: str = ""
