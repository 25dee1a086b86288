"""Content and artifact: what bytes are, apart from where they come from and who said so."""

import hashlib
import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from fleetcast.events.ids import Sha256, canonical_json

MAX_PATH_BYTES = 512
MAX_FILES = 4096


class Value(BaseModel):
    """Base of all values: frozen; unknown fields are refused, so that a typing error is never silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Stored(Value):
    """Base of what programs keep for programs: fields of a newer fleetcast are ignored, so that a half-upgraded fleet
    keeps working."""

    model_config = ConfigDict(extra="ignore")


def safe_relative_path(value: str) -> str:
    """Return *value* when it names a file below its folder on every file system; raise ValueError otherwise.

    Refused: absolute names, empty, `.` and `..` segments, back-slashes, control characters, names that are not NFC,
    segments over 255 bytes, a whole over 512 bytes.
    """
    if not value or len(value.encode()) > MAX_PATH_BYTES:
        raise ValueError("a path has 1 to 512 bytes")
    if unicodedata.normalize("NFC", value) != value:
        raise ValueError(f"{value!r} is not in Unicode form NFC")
    if "\\" in value or any(unicodedata.category(c) in {"Cc", "Cf", "Cs"} for c in value):
        raise ValueError(f"{value!r} contains a back-slash or a control character")
    for segment in value.split("/"):
        if segment in {"", ".", ".."} or len(segment.encode()) > 255:
            raise ValueError(f"{value!r} is not a relative path below its folder")
    return value


RelativePath = Annotated[str, AfterValidator(safe_relative_path)]


class Kind(StrEnum):
    MODEL = "model"
    DATASET = "dataset"
    BUNDLE = "bundle"


class Format(StrEnum):
    """How a file is proven loadable; `opaque` files have no format test. The files of a bundle are `mixed`: each is
    proven by the format that its own name and first bytes tell, which every node reads alike."""

    TORCH = "torch"
    SAFETENSORS = "safetensors"
    NPZ = "npz"
    ONNX = "onnx"
    PICKLE = "pickle"
    OPAQUE = "opaque"
    MIXED = "mixed"


class ContentFile(Value):
    """One file of a content.

    Attributes:
        path: relative to the version's folder.
        size: bytes, at least 1.
        sha256: of the whole file.
        pieces_root: root of the SHA-256 Merkle tree over 16 KiB blocks (BEP 52), independent of any piece size.
    """

    path: RelativePath
    size: int = Field(ge=1, le=2**53)
    sha256: Sha256
    pieces_root: Sha256


class Content(Value):
    """What an artifact is made of. Its canonical JSON is its identity; nothing else takes part in it.

    A bundle says `mixed`, and nothing else does: the same folder has one identity, whatever a node takes it for.
    """

    kind: Kind
    format: Format
    files: tuple[ContentFile, ...] = Field(min_length=1, max_length=MAX_FILES)

    @model_validator(mode="after")
    def _format_is_that_of_the_kind(self) -> "Content":
        if (self.kind is Kind.BUNDLE) != (self.format is Format.MIXED):
            raise ValueError(f"a {self.kind} cannot be {self.format}; bundles are mixed, and only they")
        return self

    @model_validator(mode="after")
    def _files_are_ordered_and_unique(self) -> "Content":
        paths = [f.path for f in self.files]
        if paths != sorted(set(paths)):
            raise ValueError("files are listed once each, in the order of their paths")
        folded = {p.casefold() for p in paths}
        if len(folded) != len(paths):
            raise ValueError("two paths differ only in case")
        taken = set(paths)
        for path in paths:
            parts = path.split("/")
            if any("/".join(parts[:n]) in taken for n in range(1, len(parts))):
                raise ValueError(f"{path!r} lies below a path that is a file")
        return self

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(f.size for f in self.files)

    @cached_property
    def artifact(self) -> str:
        """The artifact's name: SHA-256 of the canonical JSON, 64 hexadecimal digits."""
        # Computed once: of thousands of files it takes ten milliseconds, and every step of a transfer asks for it.
        return hashlib.sha256(canonical_json(self.model_dump(mode="json"))).hexdigest()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, which finds its own name."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("artifact", None)
        return copied
