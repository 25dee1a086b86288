"""`fleetcast distribute`: a file on a node is brought to some nodes, and served by none of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleetcast.bus import Bus
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, target, traced
from fleetcast.cli.live import Fleet, watched
from fleetcast.cli.problems import Exit, Problem, not_found, timed_out, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.submit import checked, held, mention_unknown_node, publish
from fleetcast.cli.units import duration, parse_duration, percent, rate, size
from fleetcast.cli.waiting import Answers, answers_to, refused
from fleetcast.events.content import Kind
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.event import rfc3339
from fleetcast.events.payloads import DistributionOrdered, DistributionRequested
from fleetcast.events.wants import addressed
from fleetcast.registry.picture.nodes import DONE, NodeView, received
from fleetcast.registry.picture.pace import newest, slow_nodes

_NUMBERS = re.compile(r"\b\d[\d.]* (?:%|ms|s|m|h|(?:[KMGTP]i)?B(?:/s)?)(?![\w])")
"""Percent, rates, amounts and times: they change all the time and are no news."""


@dataclass(frozen=True)
class Named:
    """What the file becomes: a version of a model, or of a lane's data sets; no version: named by its content."""

    model: str
    version: str | None
    kind: str = "model"


@dataclass(frozen=True)
class Spread:
    """How far a distribution has come.

    Attributes:
        has: nodes that hold it verified.
        lacks: by node, how far it is and what holds it up.
    """

    name: str
    has: tuple[str, ...]
    lacks: tuple[tuple[str, str], ...]

    @property
    def complete(self) -> bool:
        return bool(self.has) and not self.lacks

    @property
    def sentence(self) -> str:
        """`hex8@44: 1 of 2 nodes have it; gpu-2: fetching 40 %, 31.9 MiB/s`."""
        behind = "".join(f"; {node}: {why}" for node, why in self.lacks)
        return f"{self.name}: {len(self.has)} of {len(self.has) + len(self.lacks)} nodes have it{behind}"

    def document(self) -> dict[str, object]:
        """The spread in JSON."""
        return {
            "name": self.name,
            "has": list(self.has),
            "lacks": [{"node": node, "reason": why} for node, why in self.lacks],
            "complete": self.complete,
        }


def run(
    call: Call,
    file: Path,
    *,
    to: Sequence[str],
    named: tuple[str, str] | None,
    lane: str | None,
    keep: str,
    node: str | None,
    reason: str | None,
    wait: bool,
    timeout: str,
    dry_run: bool,
) -> Exit:
    """Publish `distribution.requested`, and with *wait* return when every node that is meant has the file verified."""
    seconds = parse_duration(timeout, option="--timeout")
    aim = target(call)
    event = request(aim, file, to, _what(file, named, lane), _until(keep), node=node, reason=reason)
    meant, spread = run_async(_act(call, aim, event, seconds, wait=wait, dry_run=dry_run))
    payload = event.payload
    assert isinstance(payload, DistributionRequested)
    call.out.document(
        {
            "event": event.id,
            "published": not dry_run,
            "nodes": list(meant),
            "data": payload.model_dump(mode="json", exclude_none=True),
            **({"spread": spread.document()} if spread else {}),
        }
    )
    call.out.text(spread.sentence if spread else _sentence(event, payload, meant, dry_run=dry_run))
    if spread is None and not dry_run:
        call.out.say(f"follow it: fleetcast transfers {payload.model} --watch   explain it: fleetcast why {event.id}")
    return Exit.OK


def _sentence(event: Event, payload: DistributionRequested, meant: Sequence[str], *, dry_run: bool) -> str:
    verb = "would bring" if dry_run else "asked to bring"
    path = Path(payload.path)
    amount = f" ({size(path.stat().st_size)})" if path.is_file() else ""
    until = f", kept until {payload.until}" if payload.until else ""
    what = f"{payload.node}:{payload.path}{amount} as {payload.model}@{payload.version or '(its artifact)'}"
    return f"{verb} {what} to {', '.join(meant)}{until}, event {event.id}"


def _what(file: Path, named: tuple[str, str] | None, lane: str | None) -> Named:
    if named and lane:
        raise usage("--as and --lane exclude each other", next_step="fleetcast distribute --help")
    if lane:
        return Named(lane, None, "dataset")
    if named:
        return Named(*named)
    return Named(default_name(file), None)


def default_name(file: Path) -> str:
    """The id that a file has when nobody names it: its name without suffix, in the letters of an id."""
    name = re.sub(r"[^a-z0-9_-]+", "-", file.name.split(".")[0].lower()).strip("-_")[:48]
    if not name:
        raise usage(f"no id can be made of {file.name!r}", next_step="name it: --as MODEL VERSION")
    return name


def _until(keep: str) -> str | None:
    if keep == "ever":
        return None
    seconds = parse_duration(keep, option="--for")
    return rfc3339(datetime.now(UTC) + timedelta(seconds=seconds))


def request(
    aim: Target,
    file: Path,
    to: Sequence[str],
    what: Named,
    until: str | None,
    *,
    node: str | None,
    reason: str | None,
) -> Event:
    """The event that asks for it.

    Raises:
        Problem: a name cannot be one, or the file cannot be taken from this node.
    """
    fields = {
        "model": what.model,
        "version": what.version,
        "kind": what.kind,
        "to": tuple(to),
        "until": until,
        **held(aim, file, what.model, what.version or "", node=node, reason=reason),
    }
    return new_event(checked(DistributionRequested, fields), source=aim.source)


async def _act(
    call: Call, aim: Target, event: Event, seconds: float, *, wait: bool, dry_run: bool
) -> tuple[tuple[str, ...], Spread | None]:
    payload = event.payload
    assert isinstance(payload, DistributionRequested)
    async with traced(aim) as bus, watched(bus, aim.settings.distributor.heartbeat_seconds) as fleet:
        meant = addressees(payload.to, fleet.nodes)
        if dry_run:
            return meant, None
        receipt = await publish(bus, aim, event)
        await mention_unknown_node(call, bus, event)
        if not wait:
            return meant, None
        call.out.say(f"published {event.id}; waiting until {', '.join(meant)} have it")
        async with answers_to(bus, fleet, event, receipt.sequence) as answers:
            return meant, await _until_there(call, bus, fleet, answers, meant, payload, seconds)


def addressees(to: Sequence[str], nodes: Sequence[NodeView]) -> tuple[str, ...]:
    """The nodes that *to* means now.

    Raises:
        Problem: a pattern means none of them.
    """
    for pattern in to:
        if not any(addressed((pattern,), n.name, n.status.labels) for n in nodes):
            raise _nobody(pattern, nodes)
    return tuple(n.name for n in nodes if addressed(to, n.name, n.status.labels))


def _nobody(pattern: str, nodes: Sequence[NodeView]) -> Problem:
    labels = sorted({f"{label}={value}" for n in nodes for label, value in n.status.labels.items()})
    known = ", ".join(n.name for n in nodes[:20]) or "none"
    more = f" and {len(nodes) - 20} more" if len(nodes) > 20 else ""
    why = f"known nodes: {known}{more}; known labels: {', '.join(labels[:20]) or 'none'}"
    return not_found(f"no node matches {pattern!r}", why=why, next_step="fleetcast status")


async def _until_there(
    call: Call,
    bus: Bus,
    fleet: Fleet,
    answers: Answers,
    meant: tuple[str, ...],
    payload: DistributionRequested,
    seconds: float,
) -> Spread:
    """Wait until every node of *meant* holds what the origin made of the file.

    Raises:
        Problem: it was refused, or time is up.
    """
    last = ""

    def look() -> Spread | None:
        nonlocal last
        if answers.refusal is not None:
            raise refused(answers.refusal)
        ordered = ordered_by(answers)
        found = None if ordered is None else spread(ordered, meant, fleet)
        words = "waiting for the origin to take the file" if found is None else found.sentence
        if (news := _NUMBERS.sub("", words)) != last:
            call.out.say(words)
            last = news
        return found if found is not None and found.complete else None

    try:
        return await fleet.until(look, seconds)
    except TimeoutError:
        ordered = ordered_by(answers)
        why = spread(ordered, meant, fleet).sentence if ordered else f"{payload.node} has not taken the file"
        step = f"fleetcast transfers {payload.model}"
        raise timed_out(f"not everywhere after {seconds:g} s", why=why, next_step=step) from None


def ordered_by(answers: Answers) -> DistributionOrdered | None:
    """The order that the request led to; None: none yet."""
    return next((e.payload for e in answers.events if isinstance(e.payload, DistributionOrdered)), None)


def spread(ordered: DistributionOrdered, meant: Sequence[str], fleet: Fleet) -> Spread:
    """How far an order has come on the nodes that were meant."""
    name = f"{ordered.model}@{ordered.version}"
    views = {node.name: node for node in fleet.nodes}
    has = tuple(node for node in meant if node in views and holds(views[node], ordered))
    open_ones = [t for t in newest(fleet.transfers) if t.artifact == ordered.artifact]
    slow = slow_nodes(open_ones)
    doing = {t.node: t for t in open_ones if t.state not in DONE}
    lacks = []
    for node in meant:
        if node in has:
            continue
        view, transfer = views.get(node), doing.get(node)
        if view is None or not view.alive:
            lacks.append((node, "it is not running"))
        elif transfer is None:
            proven = any(t.node == node and t.state == "installed" for t in open_ones)
            lacks.append((node, "has proven it, and is about to report it" if proven else "has not begun"))
        else:
            left = f", {duration(transfer.eta_seconds)} left" if transfer.eta_seconds else ""
            done = f"{percent(received(transfer), transfer.bytes_total)} %"
            pace = f"{transfer.state} {done}, {rate(transfer.rate_bytes_per_second)}{left}"
            why = transfer.reason or slow.get(node)
            lacks.append((node, f"{pace} by {transfer.transport}" + (f"; {why}" if why else "")))
    return Spread(name, has, tuple(lacks))


def holds(node: NodeView, ordered: DistributionOrdered) -> bool:
    """Whether *node* has installed, and so verified, what was ordered."""
    line = node.line(Kind(ordered.kind), ordered.model)
    return line is not None and any(
        v.version == ordered.version and v.artifact == ordered.artifact for v in line.installed
    )
