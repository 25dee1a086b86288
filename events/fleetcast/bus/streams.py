"""What exists on the server, as data: every stream and bucket with every field stated, and how it is brought about.

Every field is stated because a server keeps or drops what an update leaves out: an update of a sourcing stream
without `duplicate_window` switched its de-duplication off (tried).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import structlog

from fleetcast.bus.errors import AccessDenied, DeclarationRefused, NotFound, OperationRefused, TransportFailed
from fleetcast.bus.jetstream import NANOSECONDS, STREAM_EXISTS, JetStream, Unready
from fleetcast.bus.retry import RESTART

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.bus")

DECLARATION = 5
"""Grows with every change of a declaration: an older daemon never takes a newer one's settings back."""

DECLARATION_KEY = "fleetcast.declaration"
MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
MIB = 2**20
GIB = 2**30
DUPLICATE_WINDOW_SECONDS = 30 * MINUTE
DECLARE_TRIES = 40
MAX_CONSUMERS = 50_000
"""Of each stream. Every distributor reads FC_EVENTS four times over; servers from 2.15 on stop at 1,000 where nothing,
or no limit, is stated, and then the 250th node of a fleet cannot start (tried)."""
SET_UP = "fleetcast fleet setup --config …/deploy/fleetcast.toml"
"""What whoever has the deploy role types to bring streams to their declarations."""

EVENTS, PERF, MINUTES, REGISTRY, REMEDY, TRAINING, AUDIT, WORK, DEAD, CANARY = (
    "FC_EVENTS",
    "FC_PERF",
    "FC_MINUTES",
    "FC_REGISTRY",
    "FC_REMEDY",
    "FC_TRAINING",
    "FC_AUDIT",
    "FC_WORK",
    "FC_DEAD",
    "FC_CANARY",
)
PASSING = frozenset({PERF, CANARY})
"""Streams of the moment: what is in them is worth nothing a day later, and no backup has it."""
LEASE_SECONDS = 30
"""How long a lease lasts that its owner does not renew."""
NODES_BUCKET, LEASES_BUCKET, META_BUCKET = "fc_nodes", "fc_leases", "fc_meta"
MAX_DELIVERIES_ADVISORIES = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>"


@dataclass(frozen=True, slots=True)
class Source:
    """Messages that a stream copies from another one.

    Attributes:
        pattern: subjects copied.
        becomes: subject mapping of the copies (ADR-30), empty: unchanged.
    """

    stream: str
    pattern: str
    becomes: str = ""

    def config(self) -> dict[str, Any]:
        """As the JetStream API has it among a stream's `sources`."""
        if not self.becomes:
            return {"name": self.stream, "filter_subject": self.pattern}
        return {"name": self.stream, "subject_transforms": [{"src": self.pattern, "dest": self.becomes}]}


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One stream. Ages in seconds, sizes in bytes, -1 or 0: no limit, as the server counts it."""

    name: str
    description: str
    subjects: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    retention: Literal["limits", "workqueue"] = "limits"
    storage: Literal["file", "memory"] = "file"
    discard: Literal["old", "new"] = "old"
    discard_new_per_subject: bool = False
    max_age_seconds: int = 0
    max_bytes: int = -1
    max_messages_per_subject: int = -1
    max_message_size: int = -1
    deny_delete: bool = False
    deny_purge: bool = False
    allow_rollup: bool = False
    allow_atomic: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)

    def config(self, replicas: int) -> dict[str, Any]:
        """The declaration as the server's JSON."""
        window = min(DUPLICATE_WINDOW_SECONDS, self.max_age_seconds or DUPLICATE_WINDOW_SECONDS)
        return {
            "name": self.name,
            "description": self.description,
            "subjects": list(self.subjects),
            "sources": [source.config() for source in self.sources],
            "retention": self.retention,
            "storage": self.storage,
            "discard": self.discard,
            "discard_new_per_subject": self.discard_new_per_subject,
            "max_age": self.max_age_seconds * NANOSECONDS,
            "max_bytes": self.max_bytes,
            "max_msgs": -1,
            "max_msgs_per_subject": self.max_messages_per_subject,
            "max_msg_size": self.max_message_size,
            "max_consumers": MAX_CONSUMERS,
            "num_replicas": replicas,
            "duplicate_window": window * NANOSECONDS,
            "no_ack": False,
            "sealed": False,
            "deny_delete": self.deny_delete,
            "deny_purge": self.deny_purge,
            "allow_rollup_hdrs": self.allow_rollup,
            "allow_direct": False,
            "mirror_direct": False,
            "allow_atomic": self.allow_atomic,
            "allow_msg_ttl": False,
            "allow_msg_counter": False,
            "allow_msg_schedules": False,
            "compression": "none",
            "consumer_limits": {},
            "metadata": {DECLARATION_KEY: str(DECLARATION), **self.metadata},
        }


def bucket(name: str, description: str, *, max_age_seconds: int, max_bytes: int) -> StreamSpec:
    """A key-value bucket (ADR-8) with one value per key, read through the leader only."""
    return StreamSpec(
        name=f"KV_{name}",
        description=description,
        subjects=(f"$KV.{name}.>",),
        discard="new",
        max_age_seconds=max_age_seconds,
        max_bytes=max_bytes,
        max_messages_per_subject=1,
        deny_delete=True,
        allow_rollup=True,
    )


def object_bucket(name: str, description: str, *, max_bytes: int) -> StreamSpec:
    """An object bucket (ADR-20)."""
    return StreamSpec(
        name=f"OBJ_{name}",
        description=description,
        subjects=(f"$O.{name}.C.>", f"$O.{name}.M.>"),
        discard="new",
        max_bytes=max_bytes,
        allow_rollup=True,
    )


# FC_REGISTRY keeps one message per subject, so two facts of one model within the time that FC_EVENTS needs to copy the
# first would leave only the second: every fact has a last token of its own there, which the copy drops again.
FACTS = Source(REGISTRY, "fc.reg.fact.*.*.*.*", "fc.ev.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}")
REMEDY_FACTS = Source(REMEDY, "fc.rem.fact.*.*.*.*", FACTS.becomes)
TRAINING_FACTS = Source(TRAINING, "fc.trn.fact.*.*.*.*", FACTS.becomes)

CANARY_STREAM = StreamSpec(
    CANARY,
    "Round trips that prove each daemon's connection, one message per daemon",
    subjects=("fc.canary.*.*",),
    max_age_seconds=HOUR,
    max_bytes=16 * MIB,
    max_messages_per_subject=1,
)

STREAMS: tuple[StreamSpec, ...] = (
    StreamSpec(
        REGISTRY,
        "Truth: state, audit record and fact of every decision, in one atomic batch",
        subjects=("fc.reg.state.>", "fc.reg.log.>", "fc.reg.fact.>"),
        max_messages_per_subject=1,
        deny_delete=True,
        deny_purge=True,
        allow_atomic=True,
    ),
    StreamSpec(
        REMEDY,
        "Incidents and playbook runs: state and fact of every step, in one atomic batch",
        subjects=("fc.rem.state.>", "fc.rem.fact.>"),
        max_age_seconds=400 * DAY,
        max_bytes=1 * GIB,
        max_messages_per_subject=1,
        deny_delete=True,
        allow_atomic=True,
    ),
    StreamSpec(
        TRAINING,
        "Lanes and the runs that they start: state and fact of every change, in one atomic batch",
        subjects=("fc.trn.state.>", "fc.trn.fact.>"),
        max_age_seconds=400 * DAY,
        max_bytes=1 * GIB,
        max_messages_per_subject=1,
        deny_delete=True,
        allow_atomic=True,
    ),
    StreamSpec(
        EVENTS,
        "Facts: fc.ev.<domain>.<event>.<key>",
        subjects=("fc.ev.>",),
        sources=(FACTS, REMEDY_FACTS, TRAINING_FACTS),
        max_age_seconds=90 * DAY,
        max_bytes=4 * GIB,
        deny_delete=True,
    ),
    StreamSpec(
        AUDIT,
        "The record of every decision, which nobody can edit",
        sources=(Source(REGISTRY, "fc.reg.log.>"),),
        deny_delete=True,
        deny_purge=True,
    ),
    StreamSpec(
        PERF,
        "Raw performance snapshots; a storm here delays nothing else",
        subjects=("fc.perf.*",),
        max_age_seconds=6 * HOUR,
        max_bytes=2 * GIB,
    ),
    StreamSpec(
        MINUTES,
        "Performance by the minute: fc.min.<model>.<key>, one message per version, node and minute",
        subjects=("fc.min.*.*",),
        max_age_seconds=90 * DAY,
        max_bytes=2 * GIB,
        max_messages_per_subject=1,
    ),
    StreamSpec(
        WORK,
        "Jobs: fc.work.<class>.<lane>; an acknowledgement is never a claim",
        subjects=("fc.work.*.*",),
        retention="workqueue",
        discard="new",
        discard_new_per_subject=True,
        max_bytes=256 * MIB,
        max_messages_per_subject=1,
    ),
    StreamSpec(
        DEAD,
        "Dead letters, each with its reason, and messages that ran out of deliveries",
        subjects=("fc.dead.>", MAX_DELIVERIES_ADVISORIES),
        max_age_seconds=30 * DAY,
        max_bytes=1 * GIB,
    ),
    CANARY_STREAM,
    bucket(NODES_BUCKET, "Heartbeats: <node>.<daemon>", max_age_seconds=1 * DAY, max_bytes=256 * MIB),
    bucket(
        LEASES_BUCKET,
        "Leases: who may act, and the number that fences it",
        max_age_seconds=LEASE_SECONDS,
        max_bytes=16 * MIB,
    ),
    object_bucket(META_BUCKET, "Content and metainfo too large for an event", max_bytes=1 * GIB),
)


@dataclass(frozen=True, slots=True)
class Change:
    """What a declaration did or found.

    Attributes:
        action: `created`, `updated`, or `kept` (a difference that is left alone on purpose, see `detail`).
        fields: what differed.
    """

    name: str
    action: Literal["created", "updated", "kept"]
    fields: tuple[str, ...] = ()
    detail: str = ""


def differences(declared: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the declared fields whose value on the server is another one.

    The server leaves out what is empty and adds fields and metadata of its own; neither is a difference.
    """
    return tuple(sorted(name for name, value in declared.items() if not _same(value, found.get(name))))


def _same(declared: Any, found: Any) -> bool:
    if isinstance(declared, Mapping):
        present = found if isinstance(found, Mapping) else {}
        return all(_same(value, present.get(name)) for name, value in declared.items())
    if isinstance(declared, list):
        items = found or []
        return len(items) == len(declared) and all(_same(a, b) for a, b in zip(declared, items, strict=True))
    return bool(declared == found or (not declared and not found))


def _newer(found: Mapping[str, Any]) -> bool:
    text = str((found.get("metadata") or {}).get(DECLARATION_KEY, "0"))
    return text.isdigit() and int(text) > DECLARATION


def plan(spec: StreamSpec, replicas: int, found: Mapping[str, Any]) -> tuple[dict[str, Any] | None, Change | None]:
    """Decide what to do about a stream that exists: the configuration to write (None: nothing), and what to report."""
    if _newer(found):
        return None, Change(spec.name, "kept", detail="a newer fleetcast declared it")
    present = int(found.get("num_replicas", 1))
    # A node configured for one replica must not shrink a fleet's stream: copies are only ever added here.
    config = spec.config(max(replicas, present))
    changed = differences(config, found)
    if changed:
        return config, Change(spec.name, "updated", changed)
    if present > replicas:
        return None, Change(spec.name, "kept", ("num_replicas",), f"it has {present} replicas, {replicas} asked for")
    return None, None


async def declare_stream(js: JetStream, spec: StreamSpec, replicas: int) -> Change | None:
    """Create or update one stream; None when it was already so.

    Raises:
        DeclarationRefused: it exists with settings that cannot be changed.
        TransportFailed: JetStream does not answer.
    """
    for attempt in range(1, DECLARE_TRIES + 1):
        try:
            return await _declare_once(js, spec, replicas)
        except TransportFailed:
            # A cluster that has just started has no meta leader yet; several daemons declare at the same time.
            if attempt == DECLARE_TRIES:
                raise
            await asyncio.sleep(RESTART.delay(min(attempt, 5)))
            await js.wire.wait_connected(js.timeout_seconds)
    raise AssertionError("unreachable")


async def _declare_once(js: JetStream, spec: StreamSpec, replicas: int) -> Change | None:
    found: Mapping[str, Any] | None
    try:
        found = (await js.api(f"STREAM.INFO.{spec.name}"))["config"]
    except NotFound:
        found = await _create(js, spec, replicas)
        if found is None:
            return Change(spec.name, "created")
    config, change = plan(spec, replicas, found)
    if config is not None:
        try:
            await _update(js, spec, config, change)
        except AccessDenied:
            # What is there works, or `update` would not be the answer; only the role that declares may change it.
            return Change(spec.name, "kept", change.fields if change else (), f"another role declares it: {SET_UP}")
    return change


async def _create(js: JetStream, spec: StreamSpec, replicas: int) -> Mapping[str, Any] | None:
    """Create the stream; the configuration found instead when another daemon was quicker, with other settings."""
    try:
        await js.api(f"STREAM.CREATE.{spec.name}", spec.config(replicas))
    except AccessDenied as e:
        raise DeclarationRefused(
            f"stream {spec.name} is not there, and this role may not declare it", next_step=SET_UP
        ) from e
    except OperationRefused as e:
        if e.error_code == STREAM_EXISTS:
            return await _found(js, spec)
        raise _refused(spec, e) from e
    return None


async def _found(js: JetStream, spec: StreamSpec) -> Mapping[str, Any]:
    """What another daemon is creating: a cluster knows of a stream before it shows it."""
    try:
        return dict((await js.api(f"STREAM.INFO.{spec.name}"))["config"])
    except NotFound as e:
        raise Unready(f"{spec.name} is being created") from e


async def _update(js: JetStream, spec: StreamSpec, config: dict[str, Any], change: Change | None) -> None:
    try:
        await js.api(f"STREAM.UPDATE.{spec.name}", config)
    except AccessDenied:
        raise
    except OperationRefused as e:
        raise _refused(spec, e, change.fields if change else ()) from e


def _refused(spec: StreamSpec, cause: OperationRefused, fields: Sequence[str] = ()) -> DeclarationRefused:
    about = f" ({', '.join(fields)})" if fields else ""
    return DeclarationRefused(
        f"stream {spec.name} cannot be declared{about}: {cause}",
        code=cause.code,
        error_code=cause.error_code,
        next_step=f"nats stream info {spec.name}; move it aside or change it by hand, then start again",
    )


class Owner(Protocol):
    """Whatever holds the JetStream of an account: a `Bus`."""

    @property
    def js(self) -> JetStream:
        """The API that declares."""


async def declare(owner: Owner, replicas: int, specs: Sequence[StreamSpec] = STREAMS) -> list[Change]:
    """Bring every stream to its declaration, in order (sources before what copies them); reports what changed.

    Any number of daemons may do it at the same time.

    Raises:
        DeclarationRefused: a stream exists with settings that cannot be changed.
        TransportFailed: JetStream does not answer.
    """
    changes = [change for spec in specs if (change := await declare_stream(owner.js, spec, replicas)) is not None]
    for change in changes:
        log.info("bus.declared", stream=change.name, action=change.action, fields=change.fields, detail=change.detail)
    return changes
