"""Where things lie below `<data>` (ADR 0007). Pure: names only, made of validated paths, ids and digests."""

from dataclasses import dataclass
from pathlib import Path

from fleetcast.events.content import Kind
from fleetcast.transport.errors import PathRefused

Names = tuple[str, ...]
"""A path below `<data>`, as its segments."""

CURRENT, PREVIOUS, CANARY = "current", "previous", "canary"
SLOTS = "slots.json"
"""What servers that split requests themselves read."""
INSTALLS = ".installs"
SLOT, SLOT_NEXT = ".slot.json", ".slot.json.next"
HOOK = ".hook.json"
"""What the process that serves a model was told of."""
STAGING: Names = ("staging",)
"""What is half made lies here and nowhere else; whatever a crash leaves here is removed at the next start."""
BLOBS: Names = ("store", "sha256")
ARTIFACTS: Names = ("artifacts",)
SWARM: Names = ("swarm",)
QUARANTINE: Names = ("quarantine",)
ARCHIVE: Names = ("archive",)
ESSENTIAL: Names = ("models_essential",)
READERS: Names = ("readers",)
PARCELS = "parcels"
"""Where daemons of this node put files that are to be brought to other nodes: given over to the store, as from a
handover root."""
LINES: dict[Kind, str] = {Kind.MODEL: "models", Kind.DATASET: "datasets"}


def shelf_of(kind: Kind) -> str:
    """The folder of all models, or of all data sets; a bundle is a model of several files."""
    return LINES[Kind.DATASET] if kind is Kind.DATASET else LINES[Kind.MODEL]


def line(kind: Kind, name: str) -> Names:
    """The folder of a model or a lane."""
    return (shelf_of(kind), name)


def version(kind: Kind, name: str, version: str) -> Names:
    return (*line(kind, name), version)


def install_record(version: str) -> str:
    """File name of the record of an installed version, in `.installs`."""
    return f"{version}.json"


def blob(sha256: str) -> Names:
    return (*BLOBS, sha256[:2], sha256)


def artifact_record(artifact: str) -> Names:
    return (*ARTIFACTS, f"{artifact}.json")


def swarm(artifact: str) -> Names:
    """The save path of a torrent."""
    return (*SWARM, artifact)


def swarm_files(artifact: str) -> Names:
    """The folder that the files of a torrent lie in: the torrent's name is the short form of the artifact."""
    return (*SWARM, artifact, artifact[:16])


@dataclass(frozen=True, slots=True)
class Line:
    """A model or a lane of data sets."""

    kind: Kind
    name: str

    @property
    def names(self) -> Names:
        return line(self.kind, self.name)


def absolute(data: Path, names: Names) -> Path:
    return data.joinpath(*names)


def version_of(data: Path, folder: Path) -> tuple[Kind, str, str]:
    """What a version's folder is the folder of.

    Raises:
        PathRefused: it is none.
    """
    kinds = {shelf: kind for kind, shelf in LINES.items()}
    try:
        shelf, name, version = folder.relative_to(data).parts
        return kinds[shelf], name, version
    except (ValueError, KeyError) as wrong:
        raise PathRefused(f"{folder} is not the folder of a version below {data}") from wrong
