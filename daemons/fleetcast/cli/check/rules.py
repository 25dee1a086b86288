"""How bad what was found is, in the words of monitoring plugins. Pure.

https://www.monitoring-plugins.org/doc/guidelines.html: 0 ok, 1 warning, 2 critical, 3 unknown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Final

from fleetcast.events.incidents import IncidentState, Severity
from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import SlotState
from fleetcast.registry.picture.amounts import ago, counted, moment, size
from fleetcast.registry.picture.nodes import NodeView, Rollout
from fleetcast.registry.picture.truth import LEAST_ROOM_BYTES, Truth

CONVERGING_SECONDS: Final = 600.0
"""How long nodes may take to serve what is ordered before somebody should look; large models need minutes."""
MANY_DEAD: Final = 100
"""So many dead letters are not one bad event, but a fault."""


class State(IntEnum):
    """What a plugin's exit code says."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


_RANK: Final = (State.OK, State.WARNING, State.UNKNOWN, State.CRITICAL)
"""From well to bad: not to know is worse than to be warned."""


def worst(states: Iterable[State]) -> State:
    """The worst of them; nothing looked at: unknown."""
    return max(states, key=_RANK.index, default=State.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Measure:
    """A number for graphs; `unit`: `s`, `B`, or empty for a count."""

    name: str
    value: float
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `said`: what was found, a sentence each, the worst first."""

    name: str
    state: State
    said: tuple[str, ...]
    measures: tuple[Measure, ...] = ()


@dataclass(frozen=True, slots=True)
class Slot:
    """How far an order has come, and how old it is, in seconds."""

    rollout: Rollout
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Backup:
    """How old the newest backup is, None: there was none in 90 days; and how old it may become. In seconds."""

    age_seconds: float | None
    recovery_point_seconds: float


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of a fleet.

    Attributes:
        node: the only one that is asked about; None: all of them.
        away: why decisions or remedies are not made: daemons that are missed.
        rooms: free bytes by node.
        backup: None: nobody set backups up.
    """

    rtt_seconds: float
    nodes: tuple[NodeView, ...]
    slots: tuple[Slot, ...]
    dead_letters: int
    incidents: Sequence[IncidentState]
    truth: Truth
    rooms: Sequence[tuple[str, int]]
    undecided: tuple[str, ...] = ()
    unattended: tuple[str, ...] = ()
    backup: "Backup | None" = None
    node: str | None = field(default=None)


def checks(found: Found) -> tuple[Check, ...]:
    """Everything, or what concerns the one node that is asked about."""
    alone = (bus(found), nodes(found), slots(found), incidents(found), disk(found))
    if found.node is not None:
        return alone
    kept = () if found.backup is None else (backup(found.backup),)
    return (*alone, dead_letters(found), daemons(found), streams(found), *kept)


def unreachable(reason: str) -> tuple[Check, ...]:
    """Nothing could be asked."""
    return (Check("bus", State.CRITICAL, (reason,)),)


def bus(found: Found) -> Check:
    """NATS answers."""
    return Check("bus", State.OK, ("NATS answers",), (Measure("rtt", round(found.rtt_seconds, 6), "s"),))


def nodes(found: Found) -> Check:
    """Who is heard from. One that stopped in order is expected to come back; one that fell silent is not."""
    mine = [each for each in found.nodes if found.node in {None, each.name}]
    if found.node is not None and not mine:
        return Check("nodes", State.UNKNOWN, (f"{found.node} was not heard from within a day",))
    up = sum(each.alive for each in mine)
    counts = (Measure("nodes_up", up), Measure("nodes", len(mine)))
    if not mine:
        return Check("nodes", State.CRITICAL, ("no node was heard from",), counts)
    wrong = sorted(((_node_state(each), each) for each in mine), key=lambda pair: -_RANK.index(pair[0]))
    said = tuple(_node_sentence(node) for state, node in wrong if state is not State.OK)
    state = worst(state for state, _ in wrong)
    return Check("nodes", state, said or (f"{counted(up, 'node')} heard",), counts)


def _node_state(node: NodeView) -> State:
    if node.lost:
        return State.CRITICAL
    well = node.alive and node.status.state is not DaemonState.DEGRADED
    return State.OK if well else State.WARNING


def _node_sentence(node: NodeView) -> str:
    if node.alive:
        return f"{node.name} is degraded: {node.status.status}"
    return f"{node.name} is {node.state}, last heard {ago(node.age_seconds)}"


def slots(found: Found) -> Check:
    """Nodes serve what is ordered; for a while after an order, not all of them do."""
    behind = [(slot, _behind(slot, found.node)) for slot in found.slots]
    late = [(slot, names) for slot, names in behind if names]
    counts = (Measure("slots", len(behind)), Measure("slots_behind", len(late)))
    if not late:
        return Check("slots", State.OK, (f"{counted(len(behind), 'slot')} converged",), counts)
    late.sort(key=lambda pair: -pair[0].age_seconds)
    state = State.CRITICAL if late[0][0].age_seconds > CONVERGING_SECONDS else State.WARNING
    return Check("slots", state, tuple(_slot_sentence(slot, names) for slot, names in late), counts)


def _behind(slot: Slot, node: str | None) -> list[str]:
    names = [each.node for each in slot.rollout.behind] + [each.node for each in slot.rollout.strangers]
    return sorted({name for name in names if node in {None, name}})


def _slot_sentence(slot: Slot, names: Sequence[str]) -> str:
    each = slot.rollout
    return f"{each.model}@{each.version} ordered {ago(slot.age_seconds)} is not what {', '.join(names)} serves"


def incidents(found: Found) -> Check:
    """Incidents that have not ended; those of high severity that nothing has helped are critical."""
    mine = [each for each in found.incidents if found.node in {None, each.resource_id, *each.affected}]
    counts = (Measure("incidents", len(mine)),)
    if not mine:
        return Check("incidents", State.OK, ("no open incident",), counts)
    grave = [each for each in mine if each.severity.rank >= Severity.HIGH.rank and each.mitigated_at is None]
    said = tuple(f"{each.severity} incident {each.incident}: {each.title}" for each in (grave or mine))
    return Check("incidents", State.CRITICAL if grave else State.WARNING, said, counts)


def disk(found: Found) -> Check:
    """Room on the nodes' disks."""
    rooms = [(node, free) for node, free in found.rooms if found.node in {None, node}]
    if not rooms:
        return Check("disk", State.UNKNOWN, ("no node says how much room it has",))
    node, least = min(rooms, key=lambda room: room[1])
    counts = (Measure("disk_free_least", least, "B"),)
    state = State.OK
    if least < 2 * LEAST_ROOM_BYTES:
        state = State.CRITICAL if least < LEAST_ROOM_BYTES else State.WARNING
    return Check("disk", state, (f"{size(least)} free on {node}",), counts)


def dead_letters(found: Found) -> Check:
    """Messages that nobody could handle."""
    count = found.dead_letters
    counts = (Measure("dead_letters", count),)
    if not count:
        return Check("dead_letters", State.OK, ("no dead letter",), counts)
    said = f"{counted(count, 'dead letter')}: fleetcast dlq ls"
    return Check("dead_letters", State.CRITICAL if count >= MANY_DEAD else State.WARNING, (said,), counts)


def daemons(found: Found) -> Check:
    """Daemons that serve the whole fleet: without the registry's nothing is decided."""
    said = (*found.undecided, *found.unattended)
    state = State.CRITICAL if found.undecided else State.WARNING if said else State.OK
    return Check("daemons", state, said or ("nobody is missed",))


def streams(found: Found) -> Check:
    """Where everything is stored. Without a leader a stream takes nothing; everything else still can be repaired."""
    truth = found.truth
    led = all(stream.led for stream in truth.streams)
    state = State.OK if not truth.problems else State.WARNING if led else State.CRITICAL
    said = truth.problems or (f"{counted(len(truth.streams), 'stream')}, all current",)
    return Check("streams", state, said, (Measure("stored", truth.storage_bytes, "B"),))


def backup(found: Backup) -> Check:
    """The newest backup is young enough; one too old is no reason to wake anybody, while NATS is well."""
    if found.age_seconds is None:
        return Check("backup", State.WARNING, ("there is no backup: fleetcast backup create",))
    age = (Measure("backup_age", round(found.age_seconds), "s"),)
    old = found.age_seconds > found.recovery_point_seconds
    return Check("backup", State.WARNING if old else State.OK, (f"newest of {ago(found.age_seconds)}",), age)


def aged(rollouts: Iterable[Rollout], orders: Iterable[SlotState], now: datetime) -> tuple[Slot, ...]:
    """How far orders have come, with their ages; a lane may be called like a model."""
    written = {(order.kind, order.model): moment(order.at) for order in orders}
    return tuple(
        Slot(each, max(0.0, (now - written.get((each.kind, each.model), now)).total_seconds())) for each in rollouts
    )
