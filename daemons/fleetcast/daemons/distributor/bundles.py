"""The metadata of one bundle at its origin: read and held against the promotion before anything is published."""

from collections.abc import Mapping
from pathlib import Path

from fleetcast.events.bundle import (
    MAX_METADATA_BYTES,
    METADATA_NAMES,
    BundleMetadata,
    MetadataRefused,
    check_metadata,
    check_model_facts,
    read_metadata,
)
from fleetcast.transport.errors import ContentRefused
from fleetcast.transport.store import PublishedFolder


class MetadataDesk:
    """Judges the folder of one promotion, then its model. A folder without metadata is as good as any."""

    def __init__(self, model: str, version: str) -> None:
        self._model = model
        self._version = version
        self._found: tuple[str, BundleMetadata] | None = None

    def judge(self, folder: PublishedFolder) -> None:
        """Look at the folder before any of it is copied.

        Raises:
            ContentRefused: its metadata is wrong; names the field.
        """
        names = [name for name in METADATA_NAMES if name in folder.files]
        if not names:
            return
        if len(names) > 1:
            raise ContentRefused(
                f"{folder.path} holds both {' and '.join(names)}",
                field=names[1],
                next_step=f"keep one of them: rm '{folder.path / names[1]}', and publish the folder again",
            )
        name = names[0]
        try:
            metadata = read_metadata(name, folder.read(name, MAX_METADATA_BYTES + 1))
            check_metadata(name, metadata, self._model, self._version, folder.files.keys())
        except MetadataRefused as refused:
            raise _refusal(refused, folder.path) from refused
        self._found = name, metadata

    def check_facts(self, facts: Mapping[str, Mapping[str, object]]) -> None:
        """Hold the metadata against what the format tests saw; errors as `judge`."""
        if self._found is None:
            return
        try:
            check_model_facts(*self._found, facts)
        except MetadataRefused as refused:
            raise _refusal(refused) from refused


def _refusal(refused: MetadataRefused, folder: Path | None = None) -> ContentRefused:
    field = f"{refused.file}: {refused.field}" if refused.field else refused.file
    reason = f"{folder}/{refused}" if folder else str(refused)
    return ContentRefused(reason, field=field, next_step=refused.next_step)
