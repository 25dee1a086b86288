"""Payloads of the event catalogue, version 1. Facts are named in the past tense; every type is frozen."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from fleetcast.events.content import Content, Stored, Value
from fleetcast.events.ids import FilePath, Name, Sha256, Version


def _aware(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as wrong:
        raise ValueError("is no time; write 2026-11-30T12:00:00Z") from wrong
    if moment.tzinfo is None:
        raise ValueError("has no time zone; write 2026-11-30T12:00:00Z")
    return text


Addressee = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f]+$")]
"""A shell pattern over names of nodes (`gpu-*`), or over labels (`gpu=nvidia`)."""
Moment = Annotated[str, AfterValidator(_aware)]
"""A moment with its time zone, RFC 3339."""


class Payload(Value):
    """Base of all payloads. A number that JSON does not have is refused when it is written, never turned into null."""

    model_config = ConfigDict(ser_json_inf_nan="constants")


class Endpoints(Stored):
    """Where a node serves its store: `bt` is `host:port`, `http` `http://host:port/<capability>`, `rsync`
    `ssh://user@host:port` or `rsync://host:port/module`; None: not served."""

    bt: str | None = Field(default=None, max_length=300, pattern=r"^[^\s/]+:\d{1,5}$")
    http: str | None = Field(default=None, max_length=500, pattern=r"^http://[^\s]+$")
    rsync: str | None = Field(default=None, max_length=300, pattern=r"^(ssh|rsync)://[^\s]+$")


class Wants(Stored):
    """Which models and lanes a node keeps: shell patterns over ids; labels describe the node."""

    models: tuple[str, ...] = ("*",)
    lanes: tuple[str, ...] = ("*",)
    labels: dict[str, str] = {}


class Origin(Stored):
    """The node that first held an artifact, and where it serves it."""

    node: Name
    endpoints: Endpoints


class ObjectRef(Stored):
    """Content or metainfo too large for an event: an object of the bucket `fc_meta`."""

    name: str
    sha256: Sha256
    size: int = Field(ge=1)


class ContentRef(ObjectRef):
    """Content in the object bucket, as canonical JSON: its SHA-256 is the artifact.

    Attributes:
        files: how many it names.
        bytes: of those files together.
    """

    files: int = Field(ge=1)
    bytes: int = Field(ge=1)


class ModelSubmitted(Payload):
    """Fields shared by a promotion and a registration.

    Attributes:
        path: the file or folder on `node`, absolute, inside one of its publish roots; a folder becomes a bundle.
        node: the node that holds the file; it becomes the origin.
        run_id: the run that made it.
        metrics: what is known of its quality, by name; gates read it.
        metadata: anything else; `stage` asks for a stage.
    """

    model: Name
    version: Version
    path: FilePath
    node: Name
    run_id: str | None = Field(default=None, max_length=128)
    claim: int | None = Field(default=None, ge=1, le=2**53)
    metrics: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


class ModelPromoted(ModelSubmitted):
    """A training job asks that a version be served; `path` is the file, or the folder of a bundle, on `node`.

    Attributes:
        epoch: of the run; counts from 0.
    """

    epoch: int | None = Field(default=None, ge=0)


class ModelRegistered(ModelSubmitted):
    """A version exists and is to be known and distributed; nothing asks to serve it."""


class ExportCompleted(Payload):
    """New training data: `path` is the file on `node`.

    Attributes:
        samples_new: samples that were not in the export before.
        samples_total: samples in the file.
        dataset_id: version of the data set; default: made by the origin.
        epoch: of the run that exported, counts from 0.
        detected: true when a daemon noticed the file, rather than its producer saying so.
    """

    lane: Name
    path: FilePath
    node: Name
    samples_new: int = Field(ge=0)
    samples_total: int = Field(ge=0)
    dataset_id: Version | None = None
    run_id: str | None = Field(default=None, max_length=128)
    claim: int | None = Field(default=None, ge=1, le=2**53)
    epoch: int | None = Field(default=None, ge=0)
    detected: bool | None = None


class DistributionRequested(Payload):
    """A file on `node` is to be brought to some nodes, and served by none: nodes that are not addressed never fetch it.

    Attributes:
        model: the model, or with kind `dataset` the lane, whose version it becomes.
        version: None: the first 16 digits of its artifact.
        to: shell patterns over names of nodes, or over labels written `label=value`; nodes that come later count.
        until: when the nodes need not keep it any more (RFC 3339); None: never.
        metadata: anything else; `reason` is why.
    """

    model: Name
    version: Version | None = None
    kind: Literal["model", "dataset"] = "model"
    path: FilePath
    node: Name
    to: tuple[Addressee, ...] = Field(min_length=1, max_length=100)
    until: Moment | None = None
    metadata: dict[str, Any] | None = None


class ArtifactAvailable(Payload):
    """An origin serves an artifact: everything that a receiver needs is inside.

    `envelope` carries what is said about the content but is not part of its identity: `model` or `lane`, `version`,
    and later the signatures. Exactly one of `content` and `content_ref` is set, and exactly one of `metainfo_b64` and
    `metainfo_ref`: what has thousands of files travels by reference.
    """

    artifact: Sha256
    content: Content | None = None
    content_ref: ContentRef | None = None
    metainfo_b64: str | None = None
    metainfo_ref: ObjectRef | None = None
    origin: Origin
    envelope: "ManifestEnvelope"
    cause: str

    @model_validator(mode="after")
    def _is_consistent(self) -> "ArtifactAvailable":
        if (self.content is None) == (self.content_ref is None):
            raise ValueError("exactly one of content and content_ref is needed")
        named = self.content.artifact if self.content is not None else self.content_ref and self.content_ref.sha256
        if named != self.artifact:
            raise ValueError("artifact is not the digest of content")
        if (self.metainfo_b64 is None) == (self.metainfo_ref is None):
            raise ValueError("exactly one of metainfo_b64 and metainfo_ref is needed")
        return self


class Statement(Value):
    """What a manifest states: this version of this model (or lane) is this artifact. Immutable, without generation."""

    kind: str = "model"
    model: Name
    version: Version
    artifact: Sha256
    not_after: str | None = None


class ManifestSignature(Value):
    """A publisher's signature of a statement: by which key, when as its signer says, and the signature in base 64."""

    keyid: str = Field(pattern=r"^[0-9a-f]{16}$")
    signed_at: Moment
    sig: str = Field(max_length=200)


class ManifestEnvelope(Value):
    """A statement and its signatures; without any it is taken as long as nodes allow unsigned ones."""

    statement: Statement
    signatures: tuple[ManifestSignature, ...] = Field(default=(), max_length=8)


class TransferFact(Payload):
    """Fields shared by all facts about one node fetching one artifact.

    Attributes:
        transfer: its id.
        node: the node that fetches.
        model: the model, or the lane of a data set.
        bytes_by_source: payload bytes that came from each node.
        seconds: since the transfer began.
        reason: why it failed, or changed its transport.
    """

    transfer: str
    artifact: Sha256
    node: Name
    transport: str
    model: Name
    version: Version
    bytes_by_source: dict[str, int] = {}
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    reason: str | None = None


class TransferStarted(TransferFact):
    """A node began to fetch an artifact."""


class TransferVerified(TransferFact):
    """Every byte of the artifact is on the node and proven."""


class TransferFailed(TransferFact):
    """A node could not get the artifact; `reason` says why and what happens next.

    Attributes:
        final: what arrived can never be right, and is not fetched again until somebody asks for it.
    """

    final: bool = False


class TransferMoved(TransferFact):
    """A transfer goes on by another transport, `transport`; `reason` says what was wrong with the last one.

    Attributes:
        from_transport: the one that was left.
        bytes_kept: proven bytes that are not fetched again.
    """

    from_transport: str
    bytes_kept: int = Field(ge=0)


class Checks(Stored):
    """What was proven at installation: `ok`, `by pieces root`, `confirmed`, or `not tested (…)`."""

    size: str
    sha256: str
    format: str


class VersionInstalled(Payload):
    """A verified version is visible at its path on a node.

    Attributes:
        checks: what was proven.
        bytes: size of its files together.
        transport: how the bytes came; `none` when the node had them.
        seconds: from the start of the transfer to the installation.
        path: folder of the version on the node.
    """

    model: Name
    version: Version
    artifact: Sha256
    node: Name
    checks: Checks
    bytes: int = Field(default=0, ge=0)
    transport: str = "none"
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    path: str | None = None


class VersionActivated(Payload):
    """A node's pointer moved.

    Attributes:
        generation: of the slot order that was obeyed.
        slot: `production` or `canary`.
        hook: what became of the node's hook: `ok in 0.12 s`, `failed: exit 3: …`, `unchanged` (what is served stayed
            the same), `superseded by generation 9`; None: there is none.
    """

    model: Name
    version: Version
    artifact: Sha256
    node: Name
    generation: int = Field(ge=1)
    slot: str
    hook: str | None = None


class VersionReserved(Payload):
    """A version was given its content for ever; `origin` is the node that holds it."""

    model: Name
    version: Version
    artifact: Sha256
    origin: Name


class SlotOrdered(Payload):
    """A slot order: what every node that wants the model shall serve.

    Attributes:
        slot: `production` or `canary`.
        generation: grows by one with every order about the model.
        previous: the version that was in the slot before, and stays on every node.
        not_after: when the order expires (RFC 3339).
    """

    model: Name
    slot: str
    version: Version
    artifact: Sha256
    generation: int = Field(ge=1)
    previous: Version | None = None
    not_after: str | None = None


class DistributionOrdered(Payload):
    """A version is brought to the nodes that match `to`, and kept there until `until`; nobody serves it for that."""

    model: Name
    kind: Literal["model", "dataset"] = "model"
    version: Version
    artifact: Sha256
    origin: Name
    to: tuple[Addressee, ...]
    until: Moment | None = None


class VersionRemoved(Payload):
    """A version was removed from a node, because nothing pinned it there any more.

    Attributes:
        bytes: what became free with it.
        reason: who asked for it, and why; or that the disk was full.
    """

    model: Name
    version: Version
    artifact: Sha256
    node: Name
    bytes: int = Field(default=0, ge=0)
    reason: str | None = None


class IntegrityFailed(Payload):
    """Bytes on a node are not what their name says; they were quarantined and are fetched again.

    Attributes:
        path: of the file, relative to the folder of its version.
        expected: SHA-256 that it should have.
        actual: SHA-256 that it has, or what was found instead.
        source: the node that the bytes came from, when that is known.
    """

    node: Name
    model: Name
    version: Version
    artifact: Sha256
    path: str
    expected: str
    actual: str
    source: str | None = None


class PeerBanned(Payload):
    """A source sent wrong bytes; they were thrown away, and this node asks it for nothing more of the artifact.

    Attributes:
        node: the node that noticed.
        peer: the node that sent them, or its address when that belongs to none.
        reason: what was wrong with them.
        bytes_wasted: bytes received in vain, until it was banned.
    """

    node: Name
    peer: str = Field(min_length=1, max_length=300)
    artifact: Sha256
    transport: str
    reason: str
    bytes_wasted: int = Field(default=0, ge=0)


class EventRejected(Payload):
    """An event was refused; nothing it asked for was done.

    Attributes:
        event: id of the refused event.
        subject: where it was published.
        reason: what was wrong, for a person.
        field: the field at fault, when there is one.
        winner: who holds what the event asked for, when it lost a claim.
        next_step: what to do now.
    """

    event: str
    subject: str
    reason: str
    field: str | None = None
    winner: str | None = None
    next_step: str
    node: str | None = None


class DaemonState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    DRAINING = "draining"
    STOPPED = "stopped"


class NodeStarted(Payload):
    """A daemon is ready on a node."""

    node: Name
    daemon: str
    version: str
    endpoints: Endpoints
    labels: dict[str, str] = {}
    wants: Wants = Wants()


class NodeStopped(NodeStarted):
    """A daemon ended in order."""


ArtifactAvailable.model_rebuild()
