"""Facts about decisions of the registry: written in the batch that decides, so that history and notification agree."""

from typing import Literal

from pydantic import Field

from fleetcast.events.content import Stored
from fleetcast.events.ids import ArtifactOrNone, Name, Sha256, Version
from fleetcast.events.lifecycle import ArchiveRule, Phase, StageName
from fleetcast.events.payloads import Moment, Payload


class GateVerdict(Stored):
    """What one gate said: `insufficient` is neither pass nor fail."""

    gate: str
    verdict: Literal["pass", "fail", "insufficient"]
    required: str
    actual: str
    next_step: str = ""


class StageChanged(Payload):
    """A version came to another stage.

    Attributes:
        artifact: `none` for a version that has no bytes yet.
        by: who asked for it.
        n: the audit record that holds the decision: `fleetcast explain MODEL n`.
    """

    model: Name
    version: Version
    artifact: ArtifactOrNone
    from_stage: StageName
    to_stage: StageName
    by: str
    reason: str | None = None
    n: int = Field(ge=1)


class PromotionRefused(Payload):
    """A version was not let into a stage; nothing changed.

    Attributes:
        gates: all of them, the ones that passed too.
    """

    model: Name
    version: Version
    stage: StageName
    by: str
    reason: str
    gates: tuple[GateVerdict, ...] = ()
    next_step: str = ""
    n: int = Field(ge=1)


class RolloutChanged(Payload):
    """A rollout came to another phase.

    Attributes:
        percent: of the nodes, while it is a canary.
        generation: of the slot order that it led to; 0: none yet.
        reason: why it halted or ended.
    """

    model: Name
    version: Version
    artifact: Sha256
    rollout: str
    target: StageName
    phase: Phase
    percent: int | None = None
    generation: int = 0
    reason: str | None = None
    n: int = Field(ge=1)


class EvidenceRecorded(Payload):
    """Something was said about a version that gates or people read.

    Attributes:
        fields: names of the facts and flags that were set.
    """

    model: Name
    version: Version
    fields: tuple[str, ...]
    by: str
    reason: str | None = None
    n: int = Field(ge=1)


class ApprovalRecorded(Payload):
    """Somebody agreed that a version goes to a stage."""

    model: Name
    version: Version
    stage: StageName
    by: str
    expires_at: Moment
    reason: str | None = None
    n: int = Field(ge=1)


class FreezeChanged(Payload):
    """A model (`_fleet`: all of them) was frozen or thawed."""

    model: Name | Literal["_fleet"]
    frozen: bool
    until: Moment | None = None
    by: str
    reason: str
    n: int = Field(ge=1)


class TrustChanged(Payload):
    """What is known of how a model's promotions end was counted anew (docs/playbooks.md says how).

    Attributes:
        score: (kept promotions + 1) / (promotions + 2), 0 to 1.
        score_low, score_high: the 95 % interval of the share of promotions that are kept.
    """

    model: Name
    promotions: int = Field(ge=0)
    rollbacks: int = Field(ge=0)
    false_alarms: int = Field(ge=0)
    score: float = Field(ge=0, le=1)
    score_low: float = Field(ge=0, le=1)
    score_high: float = Field(ge=0, le=1)
    by: str
    n: int = Field(ge=1)


class DrainChanged(Payload):
    """A node was taken out of service, or back in: while it is drained it counts for nothing, and still holds and shows
    what is ordered.

    Attributes:
        until: when the registry takes it back in; None: when somebody does.
    """

    node: Name
    drained: bool
    until: Moment | None = None
    by: str
    reason: str
    n: int = Field(ge=1)


class ArchiveChanged(Payload):
    """A version goes to the archive, or comes back from it.

    Attributes:
        node: the one that keeps its bytes.
        phase: `ordered`; `kept`: the archive has every byte; `asked_back`; `restored`; `restore_refused`: see reason.
        folder: below the node's `<data>/archive`.
    """

    model: Name
    version: Version
    artifact: Sha256
    node: Name
    phase: Literal["ordered", "kept", "asked_back", "restored", "restore_refused"]
    rule: ArchiveRule
    folder: str
    by: str
    reason: str | None = None
    n: int = Field(ge=1)
