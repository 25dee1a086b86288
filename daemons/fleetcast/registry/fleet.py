"""What nodes report, held against what slots order: who counts, who serves what, who is behind, who a stranger. Pure.

"Production" of a model means: N of M nodes report the ordered artifact at the ordered generation, and that the serving
process was told of it where a hook does that. M are the nodes whose wants match, that were heard from within a day and
are not drained; nodes of a canary are among the M and not the N.
"""

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from fleetcast.events.content import Kind
from fleetcast.events.payloads import DaemonState, Wants
from fleetcast.events.state import CanaryForm, ModelStatus, NodeStatus, SlotEntry, SlotState
from fleetcast.events.wants import wants

REMEMBERED_SECONDS = 24 * 3600.0
"""A node that was heard from within this time counts, whether or not it is there now."""


class Lag(StrEnum):
    """Why a node does not serve what is ordered."""

    NOT_VERIFIED = "not verified"
    OLD_GENERATION = "old generation"
    OTHER_VERSION = "other version"
    HOOK_RUNS = "hook runs"
    HOOK_FAILED = "hook failed"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Sighting:
    """A node's newest heartbeat, and how old it is.

    Attributes:
        silent: it should have been heard from again by now, or it has stopped.
        lines: what it says about models and lanes, by kind and name.
    """

    status: NodeStatus
    age_seconds: float
    silent: bool = False
    lines: Mapping[tuple[str, str], ModelStatus] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Looked up for every model of every node: a list would make a picture of the fleet quadratic in models.
        object.__setattr__(self, "lines", {(m.kind, m.model): m for m in reversed(self.status.models)})

    @property
    def node(self) -> str:
        return self.status.node

    def line(self, kind: Kind, name: str) -> ModelStatus | None:
        """What it says about a model or lane."""
        return self.lines.get((kind.value, name))

    def holds(self, artifact: str) -> bool:
        """Whether it reports the artifact as installed, which it does only of proven bytes."""
        return any(v.artifact == artifact for m in self.status.models for v in m.installed)


@dataclass(frozen=True, slots=True)
class Served:
    """What `current` of a model holds on a node, and the generation of the slot order that it follows there."""

    version: str
    artifact: str
    generation: int


@dataclass(frozen=True, slots=True)
class Straggler:
    """A node that does not serve what is ordered for it; `detail` says it in words."""

    node: str
    lag: Lag
    detail: str

    def __str__(self) -> str:
        return f"{self.node}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Stranger:
    """A node that serves what no slot names."""

    node: str
    served: Served

    def __str__(self) -> str:
        return f"{self.node}: serves {self.served.version} at generation {self.served.generation}, which no slot names"


@dataclass(frozen=True, slots=True)
class ProductionCount:
    """How far a slot order's production has come: N of M.

    Attributes:
        serving: the N.
        wanting: the M.
        canaries: those of the M that the order assigns to the canary instead.
        stragglers: the rest of the M, each with its reason.
        strangers: nodes that serve what no slot names, whether or not they want the model.
    """

    serving: tuple[str, ...]
    wanting: tuple[str, ...]
    canaries: tuple[str, ...]
    stragglers: tuple[Straggler, ...]
    strangers: tuple[Stranger, ...]

    @property
    def complete(self) -> bool:
        """Every node that shall serve production does; nobody doing so is not completion."""
        return bool(self.serving) and not self.stragglers


@dataclass(frozen=True, slots=True)
class CanaryCount:
    """How far a slot order's canary has come: N of K.

    Attributes:
        form: whether K nodes serve nothing else, or all wanting nodes split requests.
        percent: as ordered.
        serving: the N: nodes whose `current` holds it, or which have it ready for servers that split requests.
        assigned: the K.
        stragglers: the others of the K, each with its reason.
    """

    form: CanaryForm
    percent: int
    serving: tuple[str, ...]
    assigned: tuple[str, ...]
    stragglers: tuple[Straggler, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedBy:
    """Who serves a version: the answer to whether a promotion or a rollback has arrived.

    Attributes:
        generation: at this one or a later one.
        serving: the N.
        expected: the M: nodes that want the model and shall serve the version; drained ones are none of them.
        lagging: nodes of the M that could be heard and do not serve it, each with its reason.
        unreachable: nodes of the M that are silent or stopped, and were not serving it when they were heard last.
        drained: nodes that want the model and are out of service.
    """

    model: str
    version: str
    generation: int
    serving: tuple[str, ...]
    expected: tuple[str, ...]
    lagging: tuple[Straggler, ...]
    unreachable: tuple[Straggler, ...]
    drained: tuple[str, ...]

    @property
    def done(self) -> bool:
        """Every node that can be reached serves it, and at least one does: who is unreachable is named, and blocks
        nothing."""
        return bool(self.serving) and not self.lagging

    @property
    def complete(self) -> bool:
        """Every node serves it."""
        return self.done and not self.unreachable

    @property
    def sentence(self) -> str:
        """`2 of 3 nodes serve hex8@42 at generation 8; node-3: silent since …; drained: node-4`."""
        head = f"{len(self.serving)} of {len(self.expected)} nodes serve {self.model}@{self.version}"
        rest = [str(each) for each in (*self.lagging, *self.unreachable)]
        rest += [f"drained: {', '.join(self.drained)}"] if self.drained else []
        return "; ".join([f"{head} at generation {self.generation}", *rest])

    def document(self) -> dict[str, object]:
        """In JSON."""
        return {
            "model": self.model,
            "version": self.version,
            "generation": self.generation,
            "serving": list(self.serving),
            "expected": list(self.expected),
            "lagging": [_straggler_document(s) for s in self.lagging],
            "unreachable": [_straggler_document(s) for s in self.unreachable],
            "drained": list(self.drained),
            "done": self.done,
        }


class FleetView:
    """The fleet as its newest heartbeats show it; *drained*: nodes that are out of service, as the registry says."""

    def __init__(self, sightings: Iterable[Sighting], drained: Collection[str] = ()) -> None:
        known = [s for s in sightings if s.status.daemon == "distributor" and s.age_seconds <= REMEMBERED_SECONDS]
        self._sightings = {s.node: s for s in sorted(known, key=lambda s: s.node)}
        self._drained = frozenset(drained)
        self._counted = _by_wants(s for s in self._in_service(True) if s.status.state is not DaemonState.DRAINING)
        self._out = _by_wants(self._in_service(False))

    @cached_property
    def _served(self) -> Mapping[tuple[str, str], Mapping[str, Served]]:
        """What is served of every model on which node: who draws the fleet asks for every model, and only once for
        each node then."""
        found: dict[tuple[str, str], dict[str, Served]] = {}
        for name, seen in self._sightings.items():
            for key, line in seen.lines.items():
                if (what := served(line)) is not None:
                    found.setdefault(key, {})[name] = what
        return found

    def _in_service(self, yes: bool) -> Iterable[Sighting]:
        return (s for name, s in self._sightings.items() if (name not in self._drained) is yes)

    @classmethod
    def at(
        cls,
        now: datetime,
        statuses: Iterable[NodeStatus],
        *,
        silent_after_seconds: float,
        drained: Collection[str] = (),
    ) -> "FleetView":
        """The fleet at a moment, by what nodes say of when they spoke."""
        seen = []
        for status in statuses:
            age = max(0.0, (now - datetime.fromisoformat(status.at)).total_seconds())
            silent = age > silent_after_seconds or status.state is DaemonState.STOPPED
            seen.append(Sighting(status, age, silent))
        return cls(seen, drained)

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self._sightings)

    @property
    def sightings(self) -> tuple[Sighting, ...]:
        """All of them, by name of their nodes."""
        return tuple(self._sightings.values())

    @property
    def out_of_service(self) -> frozenset[str]:
        """Nodes that are drained."""
        return self._drained

    def wanting(self, model: str, kind: Kind = Kind.MODEL) -> tuple[str, ...]:
        """The M of "N of M", in order."""
        return _wanting(self._counted, kind, model)

    def obeyed(self, model: str) -> int:
        """The highest generation that a node follows for a model; 0: none does."""
        lines = (sighting.line(Kind.MODEL, model) for sighting in self._sightings.values())
        return max((line.generation for line in lines if line is not None), default=0)

    def drained(self, model: str, kind: Kind = Kind.MODEL) -> tuple[str, ...]:
        """Nodes that want the model and are out of service, in order."""
        return _wanting(self._out, kind, model)

    def alone(self, node: str) -> tuple[str, ...]:
        """The models that no other node serves that counts and was heard lately, in order."""
        seen = self._sightings.get(node)
        if seen is None or seen.silent:
            return ()
        rest = [s for name, s in self._sightings.items() if name not in self._drained | {node} and not s.silent]
        others = {model for s in rest for model in _served_models(s.status)}
        return tuple(sorted(_served_models(seen.status) - others))

    def holders(self, artifact: str) -> tuple[str, ...]:
        """Nodes that report the artifact as installed and verified, in order; silent ones included."""
        return tuple(sorted(s.node for s in self._sightings.values() if s.holds(artifact)))

    def serving(self, model: str, kind: Kind = Kind.MODEL) -> dict[str, Served]:
        """What every node that serves the model serves, whether or not it wants it."""
        return dict(self._served.get((kind.value, model), {}))

    def production_count(self, slot: SlotState) -> ProductionCount:
        """How far production of *slot* has come."""
        wanted, entry = self.wanting(slot.model, slot.kind), slot.production
        canaries = tuple(n for n in wanted if slot.is_canary_node(n))
        expected = [n for n in wanted if n not in canaries] if entry is not None else []
        behind = [s for n in expected if entry is not None and (s := self._behind(n, slot, entry)) is not None]
        late = {s.node for s in behind}
        return ProductionCount(
            serving=tuple(n for n in expected if n not in late),
            wanting=wanted,
            canaries=canaries,
            stragglers=tuple(behind),
            strangers=self._strangers(slot),
        )

    def canary_count(self, slot: SlotState) -> CanaryCount | None:
        """How far the canary of *slot* has come; None: there is none."""
        canary = slot.canary
        if canary is None:
            return None
        by_node = canary.form is CanaryForm.NODES
        drawn = (n for n in sorted(canary.nodes) if n not in self._drained)
        assigned = tuple(drawn) if by_node else self.wanting(slot.model, slot.kind)
        found = [self._behind(n, slot, canary, beside=not by_node) for n in assigned]
        behind = tuple(s for s in found if s is not None)
        late = {s.node for s in behind}
        return CanaryCount(canary.form, canary.percent, tuple(n for n in assigned if n not in late), assigned, behind)

    def served_by(self, slot: SlotState, *, version: str | None = None, generation: int | None = None) -> ServedBy:
        """As the function `served_by`."""
        entry = _entry_of(slot, version)
        wanted = version or (slot.production.version if slot.production else "")
        at = slot.generation if generation is None else generation
        trying = slot.canary is not None and entry is not None and slot.canary.artifact == entry.artifact
        expected = tuple(n for n in self.wanting(slot.model, slot.kind) if trying == slot.is_canary_node(n))
        behind = [self._unserved(n, slot, wanted, entry, at) for n in expected]
        late = {s.node: s for s in behind if s is not None}
        return ServedBy(
            model=slot.model,
            version=wanted,
            generation=at,
            serving=tuple(n for n in expected if n not in late),
            expected=expected,
            lagging=tuple(s for s in late.values() if s.lag is not Lag.SILENT),
            unreachable=tuple(s for s in late.values() if s.lag is Lag.SILENT),
            drained=self.drained(slot.model, slot.kind),
        )

    def _unserved(
        self, name: str, slot: SlotState, version: str, entry: SlotEntry | None, generation: int
    ) -> Straggler | None:
        if entry is None:
            return Straggler(name, Lag.OTHER_VERSION, f"no slot of {slot.model} names {version}")
        return self._behind(name, slot, entry, generation=generation)

    def _behind(
        self, name: str, slot: SlotState, entry: SlotEntry, *, beside: bool = False, generation: int | None = None
    ) -> Straggler | None:
        """Why a node does not serve an entry of a slot; None: it does. *beside*: having it ready is enough."""
        seen = self._sightings.get(name)
        held = seen.line(slot.kind, slot.model) if seen else None
        what = served(held)
        at = held.generation if held else 0
        wanted = slot.generation if generation is None else generation
        if at >= wanted and held is not None:
            ready = held.canary == entry.version and _artifact_of(held, entry.version) == entry.artifact
            if (beside and ready) or (not beside and what is not None and what.artifact == entry.artifact):
                untold = _untold(name, held)
                if untold is None or (seen is not None and not seen.silent):
                    return untold
        if seen is None:
            return Straggler(name, Lag.SILENT, "not heard from within a day")
        if seen.silent:
            return Straggler(name, Lag.SILENT, f"silent since {seen.status.at}")
        if held is None and seen.status.left_out:
            unsaid = f"has no room in its heartbeat to say whether it has {entry.version}"
            return Straggler(name, Lag.NOT_VERIFIED, unsaid)
        if not seen.holds(entry.artifact):
            return Straggler(name, Lag.NOT_VERIFIED, f"has not verified {entry.version}")
        if at < wanted:
            serves = f"serves {what.version} at generation {at}" if what else "serves nothing yet"
            return Straggler(name, Lag.OLD_GENERATION, serves)
        serves = f"serves {what.version}" if what else "serves nothing"
        return Straggler(name, Lag.OTHER_VERSION, f"{serves} at generation {at}")

    def _strangers(self, slot: SlotState) -> tuple[Stranger, ...]:
        named = {e.artifact for e in (slot.production, slot.previous, slot.canary) if e is not None}
        serving = self.serving(slot.model, slot.kind)
        return tuple(Stranger(n, what) for n, what in serving.items() if what.artifact not in named)


def served_by(
    view: FleetView, slot: SlotState, *, version: str | None = None, generation: int | None = None
) -> ServedBy:
    """Who serves *version* of a model at *generation* or later, who lags and why, who is unreachable or drained.

    Args:
        slot: the newest order of the model.
        version: default: what it has in production.
        generation: default: the order's.
    """
    return view.served_by(slot, version=version, generation=generation)


def _served_models(status: NodeStatus) -> set[str]:
    """The models of which a node says that `current` holds something."""
    return {m.model for m in status.models if m.current and m.kind != Kind.DATASET.value}


def _entry_of(slot: SlotState, version: str | None) -> SlotEntry | None:
    if version is None:
        return slot.production
    named = (slot.production, slot.canary, slot.previous, *slot.former)
    return next((e for e in named if e is not None and e.version == version), None)


def _untold(name: str, held: ModelStatus) -> Straggler | None:
    """Why the process that serves on a node may not know yet what `current` holds; None: it was told, or nobody tells
    it."""
    hook = held.hook
    if hook is None or (hook.state == "ok" and hook.version == held.current):
        return None
    if hook.state == "failed" and hook.version == held.current:
        return Straggler(name, Lag.HOOK_FAILED, f"its hook for {hook.version} failed: {hook.detail}")
    return Straggler(name, Lag.HOOK_RUNS, f"its hook for {held.current} has not ended yet")


def wanting(statuses: Iterable[NodeStatus], kind: Kind, name: str) -> tuple[str, ...]:
    """Nodes whose wants match, in order."""
    return tuple(sorted(s.node for s in statuses if wants(s.wants, kind, name)))


_ByWants = Mapping[tuple[tuple[str, ...], tuple[str, ...]], tuple[Wants, Sequence[str]]]
"""Nodes that want the same, by what that is: most nodes of a fleet are alike."""


def _by_wants(sightings: Iterable[Sighting]) -> _ByWants:
    found: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[Wants, list[str]]] = {}
    for seen in sightings:
        wanted = seen.status.wants
        found.setdefault((wanted.models, wanted.lanes), (wanted, []))[1].append(seen.node)
    return found


def _wanting(groups: _ByWants, kind: Kind, name: str) -> tuple[str, ...]:
    return tuple(sorted(node for wanted, nodes in groups.values() if wants(wanted, kind, name) for node in nodes))


def served(held: ModelStatus | None) -> Served | None:
    """What a node says that `current` holds; None: nothing."""
    if held is None or held.current is None:
        return None
    # Nodes of an older fleetcast do not say the artifact; they say it of what is installed.
    artifact = held.artifact or _artifact_of(held, held.current)
    return None if artifact is None else Served(held.current, artifact, held.generation)


def _artifact_of(held: ModelStatus, version: str) -> str | None:
    return next((v.artifact for v in held.installed if v.version == version), None)


def canary_nodes(model: str, generation: int, percent: int, nodes: Sequence[str]) -> tuple[str, ...]:
    """The nodes that a canary of *percent* is served by, in order: of the wanting *nodes* the first in the order of a
    digest, at least one, and never all of them below 100 percent (of a fleet of one there is no such share: it is the
    canary). A larger percentage keeps the nodes of a smaller one under the same generation.

    Raises:
        ValueError: *percent* is not 1 to 100.
    """
    if not 1 <= percent <= 100:
        raise ValueError(f"{percent} percent of the nodes: 1 to 100 can be a canary")
    ranked = sorted(set(nodes), key=lambda node: _rank(model, generation, node))
    share = math.ceil(percent * len(ranked) / 100)
    most = len(ranked) if percent == 100 else max(1, len(ranked) - 1)
    return tuple(sorted(ranked[: min(max(1, share), most)]))


def _rank(model: str, generation: int, node: str) -> str:
    return hashlib.sha256(f"{model}/{generation}/{node}".encode()).hexdigest()


def count_document(count: ProductionCount) -> Mapping[str, object]:
    """A count in JSON."""
    return {
        "serving": list(count.serving),
        "wanting": list(count.wanting),
        "canaries": list(count.canaries),
        "stragglers": [_straggler_document(s) for s in count.stragglers],
        "strangers": [{"node": s.node, **asdict(s.served)} for s in count.strangers],
    }


def _straggler_document(straggler: Straggler) -> dict[str, object]:
    return {"node": straggler.node, "lag": straggler.lag.value, "detail": straggler.detail}
