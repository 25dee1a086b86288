"""What heartbeats and slots say about a fleet, as pure functions: who counts, who is ready, what is wrong."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from fleetcast.events.content import Kind
from fleetcast.events.lifecycle import DrainState
from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import CanaryForm, ModelStatus, NodeStatus, SlotState, TransferStatus
from fleetcast.registry.fleet import FleetView, Lag, Sighting, Straggler, Stranger
from fleetcast.registry.picture.amounts import ago, moment, percent

LOST_AFTER_HEARTBEATS = 3
"""A node whose newest heartbeat is older than so many heartbeat distances is lost (DESIGN section 4)."""


DONE = frozenset({"installed", "superseded"})
"""States of a transfer that need nobody's attention any more."""


@dataclass(frozen=True)
class NodeView:
    """A node as the fleet sees it.

    Attributes:
        status: its newest heartbeat.
        age_seconds: how old that is.
        lost: it should have been heard from again by now.
        drain: why it is out of service; None: it is in service.
    """

    status: NodeStatus
    age_seconds: float
    lost: bool
    drain: DrainState | None = None

    @property
    def name(self) -> str:
        return self.status.node

    @property
    def state(self) -> str:
        """Its own word, `drained` where it is out of service, or `lost`."""
        if self.drain is not None and self.alive:
            return "drained"
        return "lost" if self.lost else self.status.state.value

    @property
    def out_of_service(self) -> str | None:
        """Since when, by whom and why; None: it is in service."""
        if self.drain is None:
            return None
        until = f" until {self.drain.until}" if self.drain.until else ""
        return f"{self.name} is out of service{until}, by {self.drain.by} at {self.drain.at}: {self.drain.reason}"

    @property
    def alive(self) -> bool:
        """Whether it can be expected to act now."""
        return not self.lost and self.status.state is not DaemonState.STOPPED

    def line(self, kind: Kind, name: str) -> ModelStatus | None:
        """What it says about the model or lane *name*."""
        return next((m for m in self.status.models if m.model == name and m.kind == kind.value), None)


def views(
    statuses: Iterable[NodeStatus],
    *,
    now: datetime,
    heartbeat_seconds: float,
    daemon: str = "distributor",
    drains: Mapping[str, DrainState] | None = None,
) -> tuple[NodeView, ...]:
    """Views of all nodes that *daemon* speaks for, by name; *drains*: what is recorded of being out of service."""
    limit = heartbeat_seconds * LOST_AFTER_HEARTBEATS
    seen = []
    for status in statuses:
        if status.daemon != daemon:
            continue
        age = max(0.0, (now - moment(status.at)).total_seconds())
        silent = age > limit and status.state is not DaemonState.STOPPED
        drain = (drains or {}).get(status.node)
        seen.append(NodeView(status, age, silent, drain if drain is not None and drain.drained else None))
    return tuple(sorted(seen, key=lambda view: view.name))


def node_document(node: NodeView) -> dict[str, object]:
    """A node in JSON."""
    status = node.status.model_dump(mode="json", exclude={"transfers", "drained"})
    drain = node.drain.model_dump(mode="json", by_alias=True) if node.drain else None
    return status | {"state": node.state, "age_seconds": round(node.age_seconds, 3), "drain": drain}


@dataclass(frozen=True)
class Waiting:
    """A node that does not serve what is ordered yet, and why; `lag`: in short, the same words for every fleet."""

    node: str
    reason: str
    lag: Lag


@dataclass(frozen=True)
class CanaryProgress:
    """How far a slot order's canary has come.

    Attributes:
        version, percent, form: what is ordered, and what the percentage is of.
        ready: nodes that serve it, or have it ready for servers that split requests: the N of N of K.
        waiting: the others of the K.
    """

    version: str
    percent: int
    form: CanaryForm
    ready: tuple[str, ...]
    waiting: tuple[Waiting, ...]

    @property
    def wanted(self) -> int:
        """K: how many nodes the order assigns to it."""
        return len(self.ready) + len(self.waiting)


@dataclass(frozen=True)
class Rollout:
    """How far a slot order has come.

    Attributes:
        kind, model, version, generation: what is ordered for production.
        ready: nodes that serve it at that generation, the N of N of M.
        wanted: the M: how many nodes want the model, those of the canary included and drained ones not.
        waiting: the nodes that shall serve production and do not.
        canary: None: there is none.
        strangers: nodes that serve what no slot names.
        drained: nodes that want the model and are out of service.
    """

    kind: Kind
    model: str
    version: str
    generation: int
    ready: tuple[str, ...]
    wanted: int
    waiting: tuple[Waiting, ...]
    canary: CanaryProgress | None = None
    strangers: tuple[Stranger, ...] = ()
    drained: tuple[str, ...] = ()

    @property
    def behind(self) -> tuple[Waiting, ...]:
        """Every node that does not serve what is ordered for it; a canary that is missing is only its own."""
        return (*self.waiting, *(self.canary.waiting if self.canary else ()))

    @property
    def complete(self) -> bool:
        """Every node serves what is ordered for it; nobody wanting it is not completion."""
        return not self.behind and bool(self.ready or (self.canary and self.canary.ready))


def received(transfer: TransferStatus) -> int:
    """Bytes that a transfer has: pieces are proven as they arrive, and a transport's own count may lag behind."""
    return max(transfer.bytes_done, transfer.bytes_verified)


def sighted(nodes: Iterable[NodeView]) -> FleetView:
    """*nodes* as the registry counts them."""
    known = tuple(nodes)
    drained = frozenset(n.name for n in known if n.drain is not None)
    return FleetView((Sighting(n.status, n.age_seconds, silent=not n.alive) for n in known), drained)


def rollout(slot: SlotState, nodes: Sequence[NodeView], fleet: FleetView | None = None) -> Rollout:
    """How far *slot*'s order has come on *nodes*; *fleet*: `sighted` of them, where it is there already."""
    fleet = fleet or sighted(nodes)

    def waiting(stragglers: Sequence[Straggler], version: str) -> tuple[Waiting, ...]:
        if not stragglers:
            return ()
        seen = {node.name: node for node in nodes}
        return tuple(Waiting(s.node, _reason(s, seen.get(s.node), slot, version), s.lag) for s in stragglers)

    count, tried = fleet.production_count(slot), fleet.canary_count(slot)
    version = slot.production.version if slot.production else ""
    canary = None
    if tried is not None and slot.canary is not None:
        behind = waiting(tried.stragglers, slot.canary.version)
        canary = CanaryProgress(slot.canary.version, tried.percent, tried.form, tried.serving, behind)
    return Rollout(
        slot.kind,
        slot.model,
        version,
        slot.generation,
        count.serving,
        len(count.wanting),
        waiting(count.stragglers, version),
        canary,
        count.strangers,
        fleet.drained(slot.model, slot.kind),
    )


def rollout_document(progress: Rollout) -> dict[str, object]:
    """A rollout in JSON."""
    canary = progress.canary
    return {
        "kind": progress.kind.value,
        "model": progress.model,
        "version": progress.version,
        "generation": progress.generation,
        "ready": list(progress.ready),
        "wanted": progress.wanted,
        "waiting": [_waiting_document(each) for each in progress.waiting],
        "canary": None
        if canary is None
        else {
            "version": canary.version,
            "percent": canary.percent,
            "form": canary.form.value,
            "ready": list(canary.ready),
            "waiting": [_waiting_document(each) for each in canary.waiting],
        },
        "strangers": [{"node": s.node, **asdict(s.served)} for s in progress.strangers],
        "drained": list(progress.drained),
        "complete": progress.complete,
    }


def _waiting_document(waiting: Waiting) -> dict[str, object]:
    return {"node": waiting.node, "reason": waiting.reason, "lag": waiting.lag.value}


def _reason(straggler: Straggler, node: NodeView | None, slot: SlotState, version: str) -> str:
    """Why a node is behind, with all that it says about it itself."""
    if node is None:
        return straggler.detail
    if not node.alive:
        return f"{node.state}, last heard {ago(node.age_seconds)}"
    if straggler.lag in {Lag.HOOK_RUNS, Lag.HOOK_FAILED}:
        return straggler.detail
    held = node.line(slot.kind, slot.model)
    if held is not None and any(each.version == version for each in held.installed):
        return "has it, and is about to serve it"
    for transfer in node.status.transfers:
        if transfer.model == slot.model and transfer.version == version and transfer.state not in DONE:
            done = f"{transfer.state} {percent(received(transfer), transfer.bytes_total)} %"
            return f"{done}: {transfer.reason}" if transfer.reason else done
    if held is None or held.current is None:
        return "has no version yet"
    return f"serves {held.current} at generation {held.generation}"


def _named(waiting: Iterable[Waiting]) -> str:
    """`node-2 fetching 40 % (not verified); …`."""
    return "; ".join(f"{each.node} {each.reason} ({each.lag.value})" for each in waiting)


def problems(nodes: Sequence[NodeView], rollouts: Sequence[Rollout], dead_letters: int) -> tuple[str, ...]:
    """What is degraded, one sentence each; empty: all is well."""
    found = [
        f"node {node.name} is {node.state}, last heard {ago(node.age_seconds)}" for node in nodes if not node.alive
    ]
    found += [
        f"node {node.name} is degraded: {node.status.status}"
        for node in nodes
        if node.alive and node.status.state is DaemonState.DEGRADED
    ]
    found += [
        f"{each.model}@{each.version} is on {len(each.ready)} of {each.wanted} nodes: {_named(each.waiting)}"
        for each in rollouts
        if each.waiting
    ]
    found += [
        f"canary {each.model}@{each.canary.version} is on {len(each.canary.ready)} of {each.canary.wanted} nodes: "
        + _named(each.canary.waiting)
        for each in rollouts
        if each.canary and each.canary.waiting
    ]
    found += [f"{each.model} on {stranger}" for each in rollouts for stranger in each.strangers]
    found += [
        f"{transfer.model}@{transfer.version} on {node.name}: transfer failed: {transfer.reason or 'no reason given'}"
        for node in nodes
        if node.alive
        for transfer in node.status.transfers
        if transfer.state == "failed"
    ]
    if not nodes:
        found.append("no node has been heard from")
    if dead_letters:
        found.append(f"{dead_letters} dead letter{'s' if dead_letters > 1 else ''}")
    return tuple(found)
