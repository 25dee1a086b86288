"""Identifiers: what may name a node, a model, a version, an event, and how derived ids are made."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from fleetcast.client.ulid import crockford, new_ulid

__all__ = [
    "NO_ARTIFACT",
    "ArtifactOrNone",
    "FilePath",
    "Name",
    "Sha256",
    "Version",
    "canonical_json",
    "crockford",
    "derived_id",
    "is_name",
    "new_ulid",
]

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,47}$"
VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
RESERVED_VERSIONS = frozenset({"current", "previous", "canary", "slots.json"})

# `$` matches before a trailing newline; identifiers end up in paths and subjects, so the match is anchored with \Z.
_NAME = re.compile(NAME_PATTERN[:-1] + r"\Z")
_VERSION = re.compile(VERSION_PATTERN[:-1] + r"\Z")


def is_name(value: str) -> bool:
    """Whether *value* may name a node, a model, a lane or a run."""
    return _NAME.match(value) is not None


def _checked_name(value: str) -> str:
    if not is_name(value):
        raise ValueError(f"{value[:80]!r} is not a name: 1 to 48 of a-z 0-9 _ -, starting with a letter or digit")
    return value


def _checked_version(value: str) -> str:
    if not _VERSION.match(value):
        raise ValueError(
            f"{value[:80]!r} is not a version: 1 to 64 of A-Z a-z 0-9 . _ + -, starting with a letter or digit"
        )
    if value in RESERVED_VERSIONS:
        raise ValueError(f"{value!r} is the name of a slot or of the file about them, and cannot name a version")
    return value


def _integer_as_text(value: object) -> object:
    # JSON integers are versions too ({"version": 43}); floats and booleans are not.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


# The pattern stands in the exported schema only: our own check says in words what a name is.
Name = Annotated[str, AfterValidator(_checked_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]
"""Id of a node, model, lane or run."""
Version = Annotated[
    str,
    BeforeValidator(_integer_as_text),
    AfterValidator(_checked_version),
    Field(json_schema_extra={"pattern": VERSION_PATTERN}),
]
"""One immutable member of a model; JSON integers become strings."""
Sha256 = Annotated[str, StringConstraints(pattern=SHA256_PATTERN)]
"""64 lower-case hexadecimal digits."""
NO_ARTIFACT: Final = "none"
"""In place of a digest: the version was described, and nobody has given its bytes yet."""
ArtifactOrNone = Annotated[str, StringConstraints(pattern=rf"{SHA256_PATTERN}|^none$")]
"""The digest of a version's content, or `none`."""


def _checked_file_path(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError(f"{value[:80]!r} is not absolute: the node cannot know what it is relative to")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
        raise ValueError(f"{value[:80]!r} contains a control character")
    return value


FilePath = Annotated[str, StringConstraints(min_length=1, max_length=4096), AfterValidator(_checked_file_path)]
"""Absolute path of a file on a node. Whether it may be taken is for that node to say (publish roots)."""


def derived_id(cause: str, event_type: str, key: str) -> str:
    """Id of an event that follows from another one: the same cause, type and key give the same id, so that a handler
    that runs twice emits nothing twice in effect."""
    digest = hashlib.sha256(f"{cause}\n{event_type}\n{key}".encode()).digest()
    return crockford(int.from_bytes(digest[:17], "big") >> 6, 26)


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """UTF-8 JSON with sorted keys and no white space: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
