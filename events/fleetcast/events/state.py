"""Values kept in `FC_REGISTRY` and in the bucket `fc_nodes`, and the subjects that they are kept under."""

import base64
import hashlib
from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from fleetcast.events.content import Content, Kind, Stored
from fleetcast.events.gpus import Gpu, RunOnNode
from fleetcast.events.ids import Name, Sha256, Version
from fleetcast.events.payloads import (
    Checks,
    ContentRef,
    DaemonState,
    Endpoints,
    ManifestEnvelope,
    ObjectRef,
    Origin,
    Wants,
)


def _short_digest(text: str) -> str:
    """26 base-32 characters of a SHA-256: a subject token for a text that may not be one itself."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:26].lower()


def slot_subject(name: str, kind: Kind = Kind.MODEL) -> str:
    """Where the slots of a model, or the newest data set of a lane, are kept. A lane may have the id of a model."""
    return f"fc.reg.state.{'lane' if kind is Kind.DATASET else 'slot'}.{name}"


def version_subject(name: str, version: str, kind: Kind = Kind.MODEL) -> str:
    """Where a version is kept. Data sets and models are told apart by a `/`, which no version contains."""
    return f"fc.reg.state.version.{name}.{_short_digest(f'dataset/{version}' if kind is Kind.DATASET else version)}"


def distribution_subject(name: str, version: str, kind: Kind = Kind.MODEL) -> str:
    """Where it is kept which nodes a version is brought to; named like the version itself."""
    return version_subject(name, version, kind).replace(".version.", ".distribution.", 1)


def chain_subject(model: str) -> str:
    return f"fc.reg.state.chain.{model}"


def request_subject(model: str, request: str) -> str:
    """Where the outcome of a request is kept: created in the same batch, so that a repeated request finds it."""
    return f"fc.reg.state.request.{model}.{_short_digest(request)}"


def log_subject(model: str, number: int) -> str:
    return f"fc.reg.log.{model}.{number:08d}"


class Cause(Stored):
    """The event that a decision follows from, and its sequence in `FC_EVENTS`, which orders decisions."""

    event: str
    sequence: int = Field(ge=0)
    by: str
    correlation: str


class SlotEntry(Stored):
    """A version in a slot."""

    version: Version
    artifact: Sha256


class CanaryForm(StrEnum):
    """What a canary's percentage is of: nodes, which serve nothing else, or requests, which the servers on all nodes
    split by `slots.json`."""

    NODES = "nodes"
    REQUESTS = "requests"


class CanaryEntry(SlotEntry):
    """A version served by `percent` of the wanting nodes.

    Attributes:
        nodes: the ones whose `current` points to it, chosen when the order was written, so that all nodes agree; none:
            its form is requests.
    """

    percent: int = Field(ge=1, le=100)
    nodes: tuple[Name, ...] = ()

    @property
    def form(self) -> CanaryForm:
        """What the percentage is of."""
        return CanaryForm.NODES if self.nodes else CanaryForm.REQUESTS


class SlotState(Stored):
    """What is served of a model, or which data set of a lane is the newest; `generation` only grows.

    Attributes:
        former: versions that were production before, the newest first, at most 5, `previous` among them.
    """

    schema_: int = Field(default=1, alias="schema")
    model: Name
    kind: Kind = Kind.MODEL
    generation: int = Field(ge=1)
    production: SlotEntry | None
    previous: SlotEntry | None = None
    canary: CanaryEntry | None = None
    former: tuple[SlotEntry, ...] = ()
    cause: Cause
    at: str

    def is_canary_node(self, node: str) -> bool:
        """Whether `current` follows the canary on *node*, rather than production."""
        return self.canary is not None and node in self.canary.nodes


class VersionState(Stored):
    """One version's content for ever, with all that a late node needs to fetch it.

    Attributes:
        content: what it is made of; None: it is the object `content_ref`, because it is too large for a message.
        kind: `dataset` or `model`: whose version it is; a bundle is a version of a model.
        format_check: what the origin's format tests said: `ok` or `not tested (…)`; empty: an older origin.
        envelope: its manifest, where it is signed.
    """

    schema_: int = Field(default=1, alias="schema")
    model: Name
    version: Version
    artifact: Sha256
    content: Content | None = None
    content_ref: ContentRef | None = None
    kind: Kind = Kind.MODEL
    origin: Origin
    metainfo_b64: str | None = None
    metainfo_ref: ObjectRef | None = None
    cause: Cause
    at: str
    run_id: str | None = None
    metrics: dict[str, object] | None = None
    metadata: dict[str, object] | None = None
    format_check: str = ""
    envelope: ManifestEnvelope | None = None

    @model_validator(mode="before")
    @classmethod
    def _kind_of_older_records(cls, value: object) -> object:
        """Records from before there was content by reference say their kind in their content only."""
        if isinstance(value, dict) and "kind" not in value:
            content = value.get("content")
            said = content.get("kind") if isinstance(content, dict) else getattr(content, "kind", None)
            return {**value, "kind": Kind.DATASET if said == Kind.DATASET else Kind.MODEL}
        return value

    @model_validator(mode="after")
    def _has_content(self) -> "VersionState":
        if (self.content is None) == (self.content_ref is None):
            raise ValueError("exactly one of content and content_ref is needed")
        return self


class DistributionState(Stored):
    """Where a version is to be besides the nodes that want it, and until when they keep it; its content is what the
    registry reserved for the version.

    Attributes:
        to: patterns over names and labels of nodes (`wants.addressed`).
        until: when it need not be kept any more (RFC 3339); None: never.
    """

    schema_: int = Field(default=1, alias="schema")
    model: Name
    kind: Kind = Kind.MODEL
    version: Version
    artifact: Sha256
    origin: Name
    to: tuple[str, ...]
    until: str | None = None
    cause: Cause
    at: str


class ChainState(Stored):
    """Number and digest of the newest audit record of a model."""

    n: int = Field(ge=0)
    sha256: str


class AuditRecord(Stored):
    """One decision: who, what, why, and the digest of the record before it.

    Attributes:
        evidence: what the decision was made from: `gates` (results), `inputs` (as they were then) and `policy`, enough
            to make it again; None: it needed none.
    """

    n: int = Field(ge=1)
    model: str
    action: str
    request: str
    actor: str
    reason: str | None = None
    before: dict[str, object] | None
    after: dict[str, object] | None
    evidence: dict[str, object] | None = None
    at: str
    prev_sha256: str


class RungStatus(Stored):
    """One rung of a transfer's ladder: what became of it, and why.

    Attributes:
        state: `waiting`, `running`, `done`, `failed`, `stalled` or `skipped`.
        reason: why it was skipped, left, or chosen.
        received_bytes: payload that it brought, what was thrown away included.
    """

    transport: str
    state: str
    reason: str = ""
    received_bytes: int = 0
    seconds: float = 0.0


class TransferStatus(Stored):
    """One transfer as its node sees it: rates in bytes per second, sizes in bytes, times in seconds.

    Attributes:
        rungs: the ladder, in the order in which it is climbed; `transport` is the rung that runs now.
        choice: why the ladder has this order, in one line for people.
        slow: why the transfer is slow, in one line that names disk, link, sources or verification; None: it is not.
    """

    transfer: str
    artifact: Sha256
    model: Name
    version: Version
    node: Name
    state: str
    transport: str
    bytes_total: int
    bytes_done: int
    bytes_verified: int = 0
    rate_bytes_per_second: float = 0.0
    eta_seconds: float | None = None
    peers: int = 0
    bytes_by_source: dict[str, int] = {}
    bytes_uploaded: int = 0
    rungs: tuple[RungStatus, ...] = ()
    choice: str = ""
    slow: str | None = None
    reason: str | None = None
    started_at: str
    seconds: float = 0.0


class InstalledVersion(Stored):
    """A version on a node."""

    version: Version
    artifact: Sha256
    bytes: int
    checks: Checks
    transport: str
    seconds: float
    installed_at: str


class HookStatus(Stored):
    """How far a node's activation hook is for what `current` holds.

    Attributes:
        state: `waiting` for its turn or its next attempt, `running`, `ok`, or `failed`.
        version, generation: what it tells the serving process.
        attempts: made so far.
        detail: how the last one ended.
        at: since when.
    """

    state: Literal["waiting", "running", "ok", "failed"]
    version: Version
    generation: int
    attempts: int = 0
    detail: str = ""
    at: str


class ModelStatus(Stored):
    """A model on a node: what its pointers say and what is installed.

    Attributes:
        generation: of the slot order that the pointers follow; 0: none yet.
        artifact: what `current` holds.
        follows: the slot that `current` follows.
        canary: version of the canary, where it is here: behind `current`, or behind `canary` beside it.
        hook: how far the serving process was told of it; None: there is no hook for the model.
    """

    model: Name
    kind: str = "model"
    generation: int = 0
    current: Version | None = None
    artifact: Sha256 | None = None
    follows: Literal["production", "canary"] | None = None
    previous: Version | None = None
    canary: Version | None = None
    path: str
    installed: tuple[InstalledVersion, ...] = ()
    hook: HookStatus | None = None


class NodeStatus(Stored):
    """A node's heartbeat: its key in `fc_nodes` is `<node>.<daemon>`.

    Attributes:
        spool_entries: records of its spools that wait for NATS.
        spool_lost: records of its spools that were damaged, or dropped for want of space, since the daemon began.
        drained: whether it knows itself to be out of service; the registry's record is what counts.
        left_out: how many of its models are not in `models`, because the report would be larger than NATS takes.
        disk_free: bytes free where its data is; None: nobody looked.
        metrics: URL of the daemon's metrics; None: it serves none.
        keyring: edition of the key ring that it goes by; None: it checks no signatures, or knows no ring.
        gpus: of its machine; trainers say it, as all that follows.
        arch_list: architectures that the training library was built for; empty: not known.
        runs: that it has in hand.
        limits: runs that it takes at once, by class.
        quarantine: why it takes no runs, and until when; empty: it takes some.
        reclaim_deadline: when its machine is taken away (RFC 3339).
        lanes: digests of the lanes that its trainer knows, by lane: those with another one have another definition.
    """

    node: Name
    daemon: str
    version: str
    state: DaemonState
    status: str
    pid: int
    started_at: str
    at: str
    endpoints: Endpoints
    labels: dict[str, str]
    wants: Wants
    data: str
    transports: tuple[str, ...] = ()
    models: tuple[ModelStatus, ...] = ()
    left_out: int = 0
    transfers: tuple[TransferStatus, ...] = ()
    spool_entries: int = 0
    spool_lost: int = 0
    drained: bool = False
    gpus: tuple[Gpu, ...] = ()
    arch_list: tuple[str, ...] = ()
    runs: tuple[RunOnNode, ...] = ()
    limits: dict[str, int] = {}
    disk_free: int | None = None
    metrics: str | None = None
    keyring: int | None = None
    quarantine: str = ""
    reclaim_deadline: str | None = None
    lanes: dict[str, str] = {}


class PeerNotice(Stored):
    """What a node says on `fc.peer.<artifact16>`: it joined the swarm, holds it all, left, or answers a newcomer."""

    artifact: Sha256
    node: Name
    endpoints: Endpoints
    complete: bool
    left: bool = False
    answer: bool = False


def peer_subject(artifact: str) -> str:
    return f"fc.peer.{artifact[:16]}"


def progress_subject(node: str) -> str:
    return f"fc.progress.{node}"
