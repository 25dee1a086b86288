"""What each role may say to NATS, as data: subjects that it may publish to and hear.

Three accounts keep them apart. `FC` has the streams, and in it are the daemons. `ASK` has whoever asks and looks: its
members reach single subjects of FC as services, because a permission holds for where a message goes, and not for where
its answer is to go. Inside one account, whoever may ask anything could have the server's answer stored as the state of
a model (tried). `SYS` is NATS's own.

A subject is allowed where it is listed; a consumer whose name is listed as somebody else's is refused even where all
names of its stream are allowed. Nobody may delete or purge a stream. Nobody is allowed to answer whatever it receives
(`allow_responses`): who sends a message would then choose what its receiver may publish to, and a permission to answer
is stronger than a refusal (tried).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fleetcast.bus.streams import (
    AUDIT,
    CANARY,
    DEAD,
    EVENTS,
    LEASES_BUCKET,
    META_BUCKET,
    NODES_BUCKET,
    PASSING,
    REGISTRY,
    REMEDY,
    STREAMS,
    TRAINING,
    WORK,
)
from fleetcast.events.names import find
from fleetcast.events.signing import RING_SUBJECT


class Role(StrEnum):
    """What a key may be used for."""

    DEPLOY = "deploy"
    CONTROL = "control"
    NODE = "node"
    TRAINER = "trainer"
    PUBLISHER = "publisher"
    EVALUATOR = "evaluator"
    PROMOTER = "promoter"
    OPERATOR = "operator"
    ON_CALL = "on-call"
    SYSTEM = "system"


class Account(StrEnum):
    """Where subjects mean the same to all members."""

    FLEET = "FC"
    ASKING = "ASK"
    SYSTEM = "SYS"


ABOUT: Final = {
    Role.DEPLOY: "declares streams and consumers (fleetcast fleet setup); holds no daemon",
    Role.CONTROL: "the daemons of the whole fleet: registry, monitor, remedy, notifier, gateway",
    Role.NODE: "the distributor of one node",
    Role.TRAINER: "distributor and trainer of one node that trains",
    Role.PUBLISHER: "training and export jobs: asks for a promotion, reports runs and performance",
    Role.EVALUATOR: "reports games, ratings and evidence about versions",
    Role.PROMOTER: "promotes, approves and resumes",
    Role.OPERATOR: "people who run the fleet: everything that a command asks of a daemon",
    Role.ON_CALL: "people who look: reads everything, changes nothing",
    Role.SYSTEM: "the servers themselves: nats server report, account limits",
}

_R = Role
WORKERS: Final = frozenset({_R.NODE, _R.TRAINER})
DAEMONS: Final = frozenset({_R.CONTROL, *WORKERS})
ASKERS: Final = frozenset({_R.PUBLISHER, _R.PROMOTER, _R.OPERATOR, *DAEMONS})
JOBS: Final = frozenset({_R.PUBLISHER, _R.OPERATOR, *WORKERS})
NOBODY: Final[frozenset[Role]] = frozenset()
"""Of facts that only come with the record that they tell of, in one batch of FC_REGISTRY, FC_REMEDY or FC_TRAINING."""

EVENT_ROLES: Final[dict[str, frozenset[Role]]] = {
    "model.promoted": ASKERS,
    "model.registered": ASKERS,
    "export.completed": JOBS,
    "distribution.requested": frozenset({_R.OPERATOR, *DAEMONS}),
    "artifact.available": WORKERS,
    "transfer.started": WORKERS,
    "transfer.moved": WORKERS,
    "transfer.verified": WORKERS,
    "transfer.failed": WORKERS,
    "version.reserved": NOBODY,
    "version.installed": WORKERS,
    "version.activated": WORKERS,
    "version.removed": WORKERS,
    "slot.ordered": NOBODY,
    "distribution.ordered": NOBODY,
    "stage.changed": NOBODY,
    "promotion.refused": NOBODY,
    "rollout.changed": NOBODY,
    "evidence.recorded": NOBODY,
    "approval.recorded": NOBODY,
    "freeze.changed": NOBODY,
    "archive.changed": NOBODY,
    "node.drain.changed": NOBODY,
    "hook.failed": WORKERS,
    "hook.recovered": WORKERS,
    "model.rollback.requested": frozenset({_R.OPERATOR, _R.CONTROL}),
    "model.retrain.requested": frozenset({_R.OPERATOR, _R.CONTROL}),
    "verdict.changed": NOBODY,
    "incident.raised": frozenset({_R.OPERATOR, *DAEMONS}),
    "incident.cleared": frozenset({_R.OPERATOR, *DAEMONS}),
    "incident.opened": NOBODY,
    "incident.changed": NOBODY,
    "trust.changed": NOBODY,
    "playbook.requested": frozenset({_R.OPERATOR, _R.CONTROL}),
    "playbook.run.changed": NOBODY,
    "notification.failed": frozenset({_R.CONTROL}),
    "backup.taken": frozenset({_R.OPERATOR, _R.CONTROL}),
    "integrity.failed": WORKERS,
    "peer.banned": WORKERS,
    "event.rejected": DAEMONS,
    "letter.settled": frozenset({_R.OPERATOR, _R.CONTROL}),
    "node.started": WORKERS,
    "node.stopped": WORKERS,
    "run.started": JOBS,
    "run.epoch.logged": JOBS,
    "run.metrics.logged": JOBS,
    "run.checkpoint.saved": JOBS,
    "run.degraded": JOBS,
    "run.fault.recorded": JOBS,
    "run.finished": JOBS,
    "run.moved": NOBODY,
    "run.fallback": frozenset({_R.TRAINER}),
    "run.returned": frozenset({_R.TRAINER}),
    "run.node.allowed": NOBODY,
    "lane.triggered": frozenset({_R.OPERATOR, _R.CONTROL, _R.TRAINER}),
    "lane.changed": NOBODY,
    "node.quarantined": NOBODY,
    "node.reclaim.notice": frozenset({_R.OPERATOR, *WORKERS}),
}
"""Who may publish an event straight to FC_EVENTS. Jobs on a node write to its spool, and speak with the node's role."""

COMMAND_ROLES: Final[dict[str, frozenset[Role]]] = {
    "promote": frozenset({_R.PROMOTER, _R.OPERATOR, *DAEMONS}),
    "rollback": frozenset({_R.OPERATOR, _R.CONTROL}),
    "move": frozenset({_R.OPERATOR, _R.CONTROL}),
    "archive_kept": WORKERS,
    "returned": WORKERS,
    "announce": frozenset({_R.OPERATOR, _R.CONTROL, _R.EVALUATOR}),
    "describe": frozenset({_R.OPERATOR, _R.EVALUATOR, *DAEMONS}),
    "evaluate": frozenset({_R.OPERATOR, _R.EVALUATOR, _R.CONTROL}),
    "approve": frozenset({_R.OPERATOR, _R.PROMOTER}),
    "freeze": frozenset({_R.OPERATOR, _R.CONTROL}),
    "drain": frozenset({_R.OPERATOR, _R.CONTROL}),
    "resume": frozenset({_R.OPERATOR, _R.PROMOTER, _R.CONTROL}),
    "trust": frozenset({_R.CONTROL}),
    "reserve": WORKERS,
    "order": WORKERS,
    "distribute": frozenset({_R.OPERATOR, *DAEMONS}),
    "advance": NOBODY,
    "adopt": frozenset({_R.CONTROL}),
}
"""Who may ask the registry for what; `advance` is the registry daemon's own, and answered to nobody."""

DURABLES: Final[dict[str, tuple[str, frozenset[Role]]]] = {
    "intake": (EVENTS, WORKERS),
    "lanes": (EVENTS, frozenset({_R.TRAINER})),
    "trainers-gpu": (WORK, frozenset({_R.TRAINER})),
    "trainers-cpu": (WORK, frozenset({_R.TRAINER})),
    "trainers-control": (WORK, frozenset({_R.TRAINER})),
    "incidents": (EVENTS, frozenset({_R.CONTROL})),
    "playbooks": (EVENTS, frozenset({_R.CONTROL})),
    "playbooks-told": (EVENTS, frozenset({_R.CONTROL})),
    "notifier": (EVENTS, frozenset({_R.CONTROL})),
}
"""Consumers that share work, by name: stream, and whose daemons declare and use them. A node has one more, of its own:
`origin-NAME`."""

NAMES: Final = tuple(spec.name for spec in STREAMS)
READABLE: Final = tuple(name for name in NAMES if name not in {WORK, CANARY})
BACKED_UP: Final = tuple(name for name in NAMES if name not in PASSING)
ANSWERS: Final = ("_INBOX.>", "_R_.>")
"""Where answers go: to members of the own account, and through the server to those of another."""
LOOKING: Final = (
    "fc.svc.registry.query",
    "fc.svc.registry.archival",
    "fc.svc.monitor.query",
    "fc.svc.remedy.incidents.read",
    "fc.svc.remedy.playbooks.read",
    "fc.svc.trainer.lanes.read",
)
CONTROL_DAEMONS: Final = ("registry", "monitor", "remedy", "notifier", "gateway", "archivist", "exporter", "evaluator")


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a key may do.

    Attributes:
        publish: subjects that it may publish to.
        refused: of these, those that it may not after all.
        hear: subjects that it may subscribe to.
    """

    publish: tuple[str, ...]
    refused: tuple[str, ...]
    hear: tuple[str, ...]


def account_of(role: Role) -> Account:
    """Where a role's keys live."""
    if role is Role.SYSTEM:
        return Account.SYSTEM
    return Account.FLEET if role in {Role.DEPLOY, *DAEMONS} else Account.ASKING


def permissions(role: Role, name: str, nodes: Iterable[str] = ()) -> Permissions:
    """What the key *name* of a role may do; *name* `*` stands for any (what an account lets through).

    *nodes*: all nodes there are, whose own consumers are closed to everybody but nodes: to name them to each of a few
    hundred nodes as well would make a server read a file of many megabytes.
    """
    if role is Role.SYSTEM:
        return Permissions((">",), (), (">",))
    inbox = f"_INBOX.{name}.>"
    return Permissions(
        tuple(dict.fromkeys(_publish(role, name))),
        (*_refused(role, name), *_refused_of_nodes(role, nodes)),
        (inbox, *_hear(role)),
    )


def events_of(role: Role) -> Iterator[str]:
    """Subjects of the events that a role may publish, both spellings."""
    for name, roles in EVENT_ROLES.items():
        # Operators publish dead letters once more, whoever sent them first; so does the gateway that they ask.
        if role in roles or (roles and role in {Role.OPERATOR, Role.CONTROL}):
            yield from find(name).filters()


def commands_of(role: Role) -> Iterator[str]:
    """Subjects of the commands that a role may give the registry."""
    return (f"fc.svc.registry.transition.{verb}" for verb, roles in COMMAND_ROLES.items() if role in roles)


def _publish(role: Role, name: str) -> Iterator[str]:
    yield from ("$JS.API.INFO", *(f"$JS.API.STREAM.INFO.{stream}" for stream in NAMES))
    yield from events_of(role)
    yield from commands_of(role)
    yield from _BY_ROLE[role](name)


def _reading(streams: Iterable[str]) -> Iterator[str]:
    """What it takes to read streams: single messages, and consumers in memory whose names nobody knows before."""
    for stream in streams:
        yield f"$JS.API.STREAM.MSG.GET.{stream}"
        yield from (f"$JS.API.CONSUMER.{verb}.{stream}.*" for verb in ("CREATE", "INFO", "DELETE", "MSG.NEXT"))


def _own_durables(role: Role) -> Iterator[str]:
    for durable, (stream, roles) in DURABLES.items():
        if role in roles:
            yield from _using(stream, durable)


def _using(stream: str, durable: str) -> Iterator[str]:
    yield from (f"$JS.API.CONSUMER.{verb}.{stream}.{durable}" for verb in ("CREATE", "INFO", "MSG.NEXT"))
    yield f"$JS.ACK.{stream}.{durable}.>"


def _refused(role: Role, name: str) -> Iterator[str]:
    """Consumers of others, where all names of their stream are allowed."""
    if role in {Role.PUBLISHER, Role.DEPLOY}:
        return
    for durable, (stream, roles) in DURABLES.items():
        if stream in READABLE:
            yield f"$JS.API.CONSUMER.DELETE.{stream}.{durable}"
            if role not in roles:
                yield from (f"$JS.API.CONSUMER.{verb}.{stream}.{durable}" for verb in ("CREATE", "MSG.NEXT"))
    if role in WORKERS and name != "*":
        yield f"$JS.API.CONSUMER.DELETE.{EVENTS}.origin-{name}"


def _refused_of_nodes(role: Role, nodes: Iterable[str]) -> Iterator[str]:
    if role not in {Role.PUBLISHER, Role.DEPLOY, *WORKERS}:
        for node in nodes:
            yield from (f"$JS.API.CONSUMER.{verb}.{EVENTS}.origin-{node}" for verb in ("CREATE", "DELETE", "MSG.NEXT"))


def _objects() -> tuple[str, ...]:
    return (f"$O.{META_BUCKET}.C.*", f"$O.{META_BUCKET}.M.*")


def _node(name: str) -> Iterator[str]:
    yield from ANSWERS
    yield from _reading((EVENTS, REGISTRY, TRAINING, f"KV_{NODES_BUCKET}", f"OBJ_{META_BUCKET}"))
    yield f"$JS.API.STREAM.MSG.GET.{CANARY}"
    yield from _own_durables(Role.NODE)
    yield from _using(EVENTS, f"origin-{name}")
    yield from _objects()
    yield from (f"fc.canary.{name}.*", f"$KV.{NODES_BUCKET}.{name}.*", f"fc.progress.{name}", "fc.peer.>")
    yield from ("fc.perf.*", f"{DEAD_PREFIX}>", "fc.svc.registry.query")


def _trainer(name: str) -> Iterator[str]:
    yield from _node(name)
    yield from _reading((REMEDY,))
    yield from _own_durables(Role.TRAINER)
    yield from ("fc.trn.state.>", "fc.trn.fact.>", "fc.work.*.*", f"$KV.{LEASES_BUCKET}.>")
    yield from _reading((f"KV_{LEASES_BUCKET}",))
    yield f"$JS.API.STREAM.MSG.GET.{WORK}"
    yield "fc.svc.trainer.*.checkpoints"


def _control(_name: str) -> Iterator[str]:
    yield from ANSWERS
    yield from _reading(READABLE)
    yield f"$JS.API.STREAM.MSG.GET.{CANARY}"
    yield from _own_durables(Role.CONTROL)
    yield from _objects()
    yield from ("fc.reg.state.>", "fc.reg.log.>", "fc.reg.fact.>", "fc.rem.state.>", "fc.rem.fact.>", "fc.min.*.*")
    yield from (f"$KV.{LEASES_BUCKET}.>", f"{DEAD_PREFIX}>", "fc.svc.>", "fc.drill.>", "fc.perf.*")
    yield f"$JS.API.STREAM.MSG.DELETE.{DEAD}"
    # How far consumers are behind is a metric of the registry daemon.
    yield from (f"$JS.API.CONSUMER.LIST.{stream}" for stream in (EVENTS, TRAINING, WORK))
    # Backups are made by a control machine: it reads everything anyway.
    yield from (f"$JS.API.STREAM.SNAPSHOT.{stream}" for stream in BACKED_UP)
    yield "$JS.SNAPSHOT.ACK.*.*.*.*"
    # What a run asks of the registry is noted in its record.
    yield "fc.trn.state.run.*"
    for daemon in CONTROL_DAEMONS:
        yield from (f"fc.canary.*.{daemon}", f"$KV.{NODES_BUCKET}.*.{daemon}")


def _deploy(_name: str) -> Iterator[str]:
    for stream in NAMES:
        yield from (f"$JS.API.STREAM.{verb}.{stream}" for verb in ("CREATE", "UPDATE"))
        yield f"$JS.API.CONSUMER.INFO.{stream}.*"
        # A consumer whose settings no update can change is removed, and made anew by its daemon.
        yield f"$JS.API.CONSUMER.DELETE.{stream}.*"
    for stream in BACKED_UP:
        # A restore makes streams that are not there; and looks at what it has made.
        yield from (f"$JS.API.STREAM.RESTORE.{stream}", f"$JS.SNAPSHOT.RESTORE.{stream}.*")
    yield from _reading((AUDIT,))
    yield "fc.canary.*.deploy"
    yield f"$JS.API.STREAM.MSG.GET.{CANARY}"
    # Publishers' keys (`fleetcast keys`) are said by whoever installs, and it is told which nodes go by them.
    yield RING_SUBJECT
    yield from _reading((REGISTRY, f"KV_{NODES_BUCKET}"))


def _publisher(_name: str) -> Iterator[str]:
    yield from (f"$JS.API.STREAM.MSG.GET.{stream}" for stream in (EVENTS, f"KV_{NODES_BUCKET}"))
    yield "fc.perf.*"


def _looking(_name: str) -> Iterator[str]:
    yield from _reading(READABLE)
    yield from (f"$JS.API.CONSUMER.INFO.{stream}.*" for stream in (WORK, CANARY))
    yield from LOOKING
    yield from ("$SRV.>", "fc.svc.distributor.status")


def _evaluator(name: str) -> Iterator[str]:
    yield from _looking(name)
    yield from _objects()


def _on_call(name: str) -> Iterator[str]:
    yield from _looking(name)
    yield LOGS


def _operator(name: str) -> Iterator[str]:
    yield from _on_call(name)
    yield from _objects()
    yield from ("fc.svc.distributor.*", "fc.svc.trainer.>", "fc.svc.remedy.>", "fc.svc.notifier.ask")
    yield from ("fc.perf.*", "fc.drill.perf.*", "fc.canary.*.doctor", f"$JS.API.STREAM.MSG.GET.{CANARY}")
    yield f"$JS.API.STREAM.MSG.DELETE.{DEAD}"


def _hear(role: Role) -> tuple[str, ...]:
    if role in WORKERS:
        services = ("fc.svc.distributor.>",) if role is Role.NODE else ("fc.svc.distributor.>", "fc.svc.trainer.>")
        return ("$SRV.>", "fc.peer.>", LOGS, *services)
    if role is Role.CONTROL:
        return ("$SRV.>", "fc.svc.>", "fc.progress.*", "fc.drill.>")
    if role in {Role.OPERATOR, Role.ON_CALL}:
        return ("fc.progress.*",) if role is Role.ON_CALL else ("fc.progress.*", "fc.drill.perf.*")
    return ()


LOGS: Final = "fc.svc.logs"
DEAD_PREFIX: Final = "fc.dead."
_BY_ROLE: Final = {
    Role.DEPLOY: _deploy,
    Role.CONTROL: _control,
    Role.NODE: _node,
    Role.TRAINER: _trainer,
    Role.PUBLISHER: _publisher,
    Role.EVALUATOR: _evaluator,
    Role.PROMOTER: _looking,
    Role.OPERATOR: _operator,
    Role.ON_CALL: _on_call,
}

STREAMED: Final = ("$JS.API.CONSUMER.MSG.NEXT.", "$SRV.", "fc.svc.distributor.", "fc.svc.trainer.", LOGS)
"""Subjects whose answer is several messages."""
SHOWN: Final = ("fc.progress.*", "fc.drill.perf.*")
"""Subjects of the fleet that those who ask may hear."""


def asked_services() -> tuple[str, ...]:
    """Subjects that the account of the fleet answers to that of those who ask: what any of its roles may publish."""
    subjects = {s for role in Role if account_of(role) is Account.ASKING for s in permissions(role, "*").publish}
    return tuple(sorted(_without_covered(subjects)))


def _without_covered(subjects: Iterable[str]) -> Iterator[str]:
    """*subjects* but those that another one of them includes: two services of one message would store it twice."""
    every = tuple(subjects)
    return (s for s in every if not any(other != s and covers(other, s) for other in every))


def covers(pattern: str, subject: str) -> bool:
    """Whether every subject that *subject* matches is matched by *pattern* (NATS wildcards)."""
    wanted, given = pattern.split("."), subject.split(".")
    for place, part in enumerate(wanted):
        if part == ">":
            return len(given) > place
        if place >= len(given) or given[place] == ">" or (part not in {"*", given[place]}):
            return False
    return len(wanted) == len(given)
