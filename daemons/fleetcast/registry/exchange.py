"""`register export` and `register import`: what is said about versions, as a document that people can read and edit.

The bytes stay where they are: a version can only be registered by the node that holds its file, so that an import says
things about versions that this registry has, and names those that it has not. Stages are shown and never imported:
they are decided here. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from fleetcast.events.content import Value
from fleetcast.events.ids import NO_ARTIFACT, Name, Sha256, Version
from fleetcast.events.lifecycle import EntryState, Facts, Flag, FlagName, StageName
from fleetcast.events.payloads import Moment, ObjectRef
from fleetcast.registry.commands import Describe, FlagSet
from fleetcast.registry.documents import Document, Form, Path, read, write
from fleetcast.registry.errors import RegistryError

SCHEMA: Final = 1
IMPORTED: Final = "imported: "
"""How the reason of an imported flag begins; what follows says who had set it, when and why."""
_MAX_MISTAKES: Final = 20
_MAX_REASON: Final = 2000

Key = tuple[str, str]
"""Model and version."""


class ExportedFlag(Value):
    """A flag with whoever answers for it."""

    value: Annotated[bool, Field(strict=True)]
    by: str | None = None
    at: Moment | None = None
    reason: str | None = None
    report: ObjectRef | None = None


class ExportedEntry(Value):
    """A version as the document has it. Only `facts`, `flags` and `metadata` are imported; the rest says which version
    is meant, and where it stood when it was exported."""

    model: Name
    version: Version
    artifact: Sha256 | None = None
    stage: StageName | None = None
    format: str | None = None
    bytes: int | None = Field(default=None, ge=0)
    origin: str | None = None
    registered_at: Moment | None = None
    registered_by: str | None = None
    facts: Facts = Facts()
    flags: dict[FlagName, ExportedFlag] = {}
    metadata: dict[str, Any] = {}

    @property
    def key(self) -> Key:
        return self.model, self.version


class _Export(Value):
    registry_export: Annotated[int, Field(ge=1, le=SCHEMA)]
    exported_at: Moment | None = None
    entries: tuple[ExportedEntry, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong in a document: its line, the dotted name of the field, and what is wrong."""

    line: int
    field: str
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.field}: {self.reason}"


class ExchangeRefused(RegistryError):
    """A document is not an export of a registry; nothing of it was imported.

    Attributes:
        mistakes: at most 20, in the order of their lines.
    """

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(str(mistake) for mistake in mistakes))


@dataclass(frozen=True, slots=True)
class Statement:
    """One command of an import, and the reason that it is sent with."""

    command: Describe
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import does.

    Attributes:
        statements: in this order; sending them again changes nothing.
        unchanged: versions about which the document says nothing new.
        missing: versions that this registry does not have.
        other_content: versions that are other bytes here than where the document comes from; nothing is said of them.
    """

    statements: tuple[Statement, ...]
    unchanged: tuple[Key, ...]
    missing: tuple[Key, ...]
    other_content: tuple[Key, ...]


# -- export


def export(entries: Iterable[EntryState], form: Form, *, at: str | None = None) -> str:
    """A document of *entries*, ordered by model and as given within one; *at*: the time of the export (RFC 3339)."""
    ordered = sorted(entries, key=lambda entry: entry.model)
    head = {"registry_export": SCHEMA} | ({"exported_at": at} if at else {})
    return write({**head, "entries": [_exported(entry) for entry in ordered]}, form)


def _exported(entry: EntryState) -> dict[str, Any]:
    said = ExportedEntry(
        model=entry.model,
        version=entry.version,
        artifact=None if entry.artifact == NO_ARTIFACT else entry.artifact,
        stage=entry.stage,
        format=entry.format or None,
        bytes=entry.bytes or None,
        origin=entry.origin,
        registered_at=entry.registered_at,
        registered_by=entry.registered_by,
        facts=entry.facts,
        flags={name: ExportedFlag.model_validate(flag.model_dump()) for name, flag in entry.flags.items()},
    )
    shown = said.model_dump(mode="json", exclude_none=True)
    # Null is a value in metadata, and none in anything else.
    shown["metadata"] = entry.metadata
    return {name: value for name, value in shown.items() if value != {}}


# -- import


def parse(text: str, form: Form) -> tuple[ExportedEntry, ...]:
    """The entries of a document.

    Raises:
        DocumentUnreadable: it is neither YAML nor JSON.
        ExchangeRefused: something in it is wrong; names every field and line.
    """
    document = read(text, form)
    try:
        entries = _Export.model_validate(document.value).entries
    except ValidationError as error:
        raise ExchangeRefused(_mistakes(error, document)) from error
    repeated = tuple(_repetitions(entries, document))
    if repeated:
        raise ExchangeRefused(repeated)
    return entries


def plan(entries: Iterable[ExportedEntry], present: Mapping[Key, EntryState]) -> Plan:
    """What has to be said so that the registry, which holds *present*, knows what the document says."""
    statements: list[Statement] = []
    unchanged: list[Key] = []
    missing: list[Key] = []
    other: list[Key] = []
    for entry in entries:
        here = present.get(entry.key)
        if here is None:
            missing.append(entry.key)
        elif entry.artifact not in {None, here.artifact}:
            other.append(entry.key)
        elif said := tuple(_statements(entry, here)):
            statements.extend(said)
        else:
            unchanged.append(entry.key)
    return Plan(tuple(statements), tuple(unchanged), tuple(missing), tuple(other))


def _statements(entry: ExportedEntry, here: EntryState) -> Iterator[Statement]:
    facts = _news(entry.facts, here.facts)
    metadata = {key: value for key, value in entry.metadata.items() if here.metadata.get(key) != value}
    if facts.model_fields_set or metadata:
        command = Describe(model=entry.model, version=entry.version, facts=facts, metadata=metadata)
        yield Statement(command, f"{IMPORTED}facts as exported{_when(entry.registered_at, entry.origin)}")
    # One command for each: the reason that it is sent with says where the flag comes from.
    for name, flag in entry.flags.items():
        reason = _origin_of(flag)
        if not _is_known(flag, reason, here.flags.get(name)):
            set_to = {name: FlagSet(value=flag.value, report=flag.report)}
            yield Statement(Describe(model=entry.model, version=entry.version, flags=set_to), reason)


def _news(said: Facts, known: Facts) -> Facts:
    """The facts that differ from those that are known; of evaluations, the opponents that do."""
    news: dict[str, Any] = {}
    for name in Facts.model_fields:
        value, present = getattr(said, name), getattr(known, name)
        if name == "evaluations":
            value = {who: games for who, games in (value or {}).items() if (present or {}).get(who) != games} or None
            present = None
        if value is not None and value != present:
            news[name] = value
    return Facts(**news)


def _when(registered_at: str | None, origin: str | None) -> str:
    return "".join(
        (f", version registered {registered_at}" if registered_at else "", f" by {origin}" if origin else "")
    )


def _origin_of(flag: ExportedFlag) -> str:
    """The reason of an imported flag: who had set it, when and why. It is imported again as it is."""
    if flag.reason and flag.reason.startswith(IMPORTED):
        return flag.reason[:_MAX_REASON]
    who = f"set by {flag.by}" if flag.by else "set by somebody"
    when = f" at {flag.at}" if flag.at else ""
    why = f": {flag.reason}" if flag.reason else ""
    return f"{IMPORTED}{who}{when}{why}"[:_MAX_REASON]


def _is_known(flag: ExportedFlag, reason: str, known: Flag | None) -> bool:
    if known is None or known.value != flag.value or known.report != flag.report:
        return False
    return known.reason == reason or (known.by == flag.by and known.at == flag.at)


# -- mistakes


def _mistakes(error: ValidationError, document: Document) -> tuple[Mistake, ...]:
    found = {_mistake(detail, document) for detail in error.errors(include_url=False)}
    return tuple(sorted(found, key=lambda each: (each.line, each.field, each.reason))[:_MAX_MISTAKES])


def _mistake(detail: ErrorDetails, document: Document) -> Mistake:
    path = _shown(detail["loc"], document)
    return Mistake(document.line_of(path), ".".join(str(part) for part in path) or "the document", _words(detail))


def _shown(location: tuple[int | str, ...], document: Document) -> Path:
    """The part of *location* that the document has; a missing field is named all the same. What else pydantic adds,
    such as the branch of a union or `[key]`, says nothing to a person."""
    path: Path = ()
    for part in location:
        if (*path, part) not in document.lines:
            return (*path, part) if part in _FIELDS else path
        path = (*path, part)
    return path


_FIELDS: Final = frozenset((*_Export.model_fields, *ExportedEntry.model_fields, *ExportedFlag.model_fields))


def _words(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return _unknown(detail["loc"])
        case "value_error":
            return str(detail["ctx"]["error"])
        case "string_type" if isinstance(detail["input"], int | float):
            return f'is text; write it in quotes: "{detail["input"]}"'
    message = detail["msg"]
    return f"{message[:1].lower()}{message[1:]} (it is {repr(detail['input'])[:80]})"


def _unknown(location: tuple[int | str, ...]) -> str:
    name, above = str(location[-1]), location[-2] if len(location) > 1 else ""
    known = Facts.model_fields if above == "facts" else _FIELDS
    close = get_close_matches(name, list(known), n=2)
    return "there is no such field" + (f"; did you mean {' or '.join(close)}?" if close else "")


def _repetitions(entries: Iterable[ExportedEntry], document: Document) -> Iterator[Mistake]:
    seen: set[Key] = set()
    for place, entry in enumerate(entries):
        if entry.key in seen:
            path: Path = ("entries", place)
            yield Mistake(document.line_of(path), f"entries.{place}", f"{entry.model}@{entry.version} occurs twice")
        seen.add(entry.key)
