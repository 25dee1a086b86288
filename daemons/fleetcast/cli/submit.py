"""`fleetcast promote` and `register`: a file or a folder on a node becomes a version of a model."""

from itertools import islice
from pathlib import Path
from typing import TypeVar

from fleetcast.bus import Bus, Receipt, declare
from fleetcast.bus.errors import NotFound
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, absolute, target, traced
from fleetcast.cli.history import STREAM
from fleetcast.cli.live import watched
from fleetcast.cli.problems import Exit, Problem, not_found, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.units import parse_duration, size
from fleetcast.cli.waiting import answers_to, sentence, talker, until_answered, until_taken
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.payloads import ArtifactAvailable, ModelPromoted, ModelRegistered, ModelSubmitted, Payload
from fleetcast.registry.description import ASKED_STAGES
from fleetcast.registry.picture.nodes import Rollout, rollout_document
from fleetcast.registry.speaking import speaker

LOOKED_AT = 20_000
"""Names below a folder that are looked at before it is published; the origin has the last word on how many it takes."""
_P = TypeVar("_P", bound=Payload)
PUBLISH_SECONDS = 15.0
"""A person waits this long for an election to end before the command gives up."""


def promote(
    call: Call,
    model: str,
    version: str,
    file: Path,
    *,
    stage: str | None = None,
    node: str | None,
    reason: str | None,
    wait: bool,
    timeout: str,
    dry_run: bool,
) -> Exit:
    """Publish `model.promoted`, and with *wait* return when it has been done or refused."""
    seconds = parse_duration(timeout, option="--timeout")
    aim = target(call)
    event = submission(aim, ModelPromoted, model, version, file, stage=stage, node=node, reason=reason)
    if dry_run:
        return _show(call, event, "would publish")
    if not wait:
        run_async(_publish(call, aim, event))
        return _show(call, event, "published")
    done = run_async(_publish_and_wait(call, aim, event, model, seconds))
    call.out.document({"event": event.id, "rollout": rollout_document(done)})
    call.out.text(f"{sentence(done)} at generation {done.generation}: {', '.join(done.ready)}")
    return Exit.OK


def register(
    call: Call,
    model: str,
    version: str,
    file: Path,
    *,
    node: str | None,
    reason: str | None,
    wait: bool,
    timeout: str,
    dry_run: bool,
) -> Exit:
    """Publish `model.registered`, and with *wait* return when the registry has the version, or it was refused."""
    seconds = parse_duration(timeout, option="--timeout")
    aim = target(call)
    event = submission(aim, ModelRegistered, model, version, file, node=node, reason=reason)
    if dry_run:
        return _show(call, event, "would publish")
    if not wait:
        run_async(_publish(call, aim, event))
        return _show(call, event, "published")
    taken = run_async(_publish_until_taken(call, aim, event, f"{model}@{version}", seconds))
    call.out.document(
        {"event": event.id, "model": model, "version": version, "artifact": taken.artifact, "node": taken.origin.node}
    )
    call.out.text(f"{model}@{version} is registered, artifact {taken.artifact[:16]}…, origin {taken.origin.node}")
    return Exit.OK


def submission(
    aim: Target,
    kind: type[ModelSubmitted],
    model: str,
    version: str,
    file: Path,
    *,
    stage: str | None = None,
    node: str | None,
    reason: str | None,
) -> Event:
    """The event that submits *file*, which may be a folder.

    Raises:
        Problem: a name cannot be one, or the file cannot be taken from this node.
    """
    fields = {"model": model, "version": version, **held(aim, file, model, version, node=node, reason=reason)}
    if stage is not None:
        if stage not in ASKED_STAGES:
            raise usage(f"no version is promoted to {stage!r}", why=f"stages: {', '.join(ASKED_STAGES)}")
        said = fields.get("metadata")
        fields["metadata"] = {**(said if isinstance(said, dict) else {}), "stage": stage}
    if (own := speaker()) is not None:
        # A command of a lane's job speaks for its run, as the client does.
        fields |= {"run_id": own.run, "claim": own.claim}
    return new_event(checked(kind, fields), source=aim.source)


def held(
    aim: Target, file: Path, model: str, version: str, *, node: str | None, reason: str | None
) -> dict[str, object]:
    """What every event says of a file that a node holds: where it lies, on which node, and why it is sent.

    Raises:
        Problem: the file cannot be taken from this node.
    """
    path = absolute(file)
    if node in {None, aim.node}:
        check_path(aim, path, model, version)
    fields: dict[str, object] = {"path": str(path), "node": node or aim.node}
    return fields | ({"metadata": {"reason": reason}} if reason else {})


def checked(kind: type[_P], fields: dict[str, object]) -> _P:
    """The payload of *fields*, as typed on a command line.

    Raises:
        Problem: one of them cannot be what it is meant to be.
    """
    from pydantic import ValidationError

    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise usage(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error


def check_path(aim: Target, path: Path, model: str, version: str) -> None:
    """Say early what the origin would refuse late; the origin checks again, with the last word.

    Raises:
        Problem: the file is missing, is none, is empty, or lies outside the publish roots of this node; or the metadata
            of a folder is wrong.
    """
    if not path.exists():
        raise not_found(f"{path} does not exist", next_step="give the path of the file or folder that was written")
    if path.is_dir():
        _check_folder(path, model, version)
    elif not path.is_file():
        raise usage(f"{path} is not a file", next_step="promote one file, or a folder of files")
    elif path.stat().st_size == 0:
        raise usage(f"{path} is empty", next_step="write it again, then repeat this")
    _check_roots(aim, path)


def _check_folder(folder: Path, model: str, version: str) -> None:
    from fleetcast.events.bundle import (
        MAX_METADATA_BYTES,
        METADATA_NAMES,
        MetadataRefused,
        check_metadata,
        read_metadata,
    )

    paths = {str(p.relative_to(folder)) for p in islice(folder.rglob("*"), LOOKED_AT) if p.is_file()}
    if not paths:
        raise usage(f"{folder} holds no file", next_step="promote the folder that the files of the version lie in")
    for name in METADATA_NAMES:
        if name not in paths:
            continue
        try:
            with (folder / name).open("rb") as file:
                metadata = read_metadata(name, file.read(MAX_METADATA_BYTES + 1))
            check_metadata(name, metadata, model, version, paths)
        except MetadataRefused as refused:
            raise usage(f"{folder}/{refused}", next_step=refused.next_step) from refused


def _check_roots(aim: Target, path: Path) -> None:
    roots = aim.settings.store.publish_roots
    if roots and not any(path.is_relative_to(root) for root in roots):
        raise Problem(
            "outside_publish_roots",
            f"{path} is outside the folders that {aim.node} publishes from",
            why="publish roots: " + ", ".join(str(root) for root in roots),
            next_step=f"{'cp -r' if path.is_dir() else 'cp'} {path} {roots[0]}/ and promote {roots[0] / path.name}",
        )


async def publish(bus: Bus, aim: Target, event: Event) -> Receipt:
    """Store *event* in the log, making the streams first where no daemon has done so yet."""
    try:
        await bus.last(STREAM, event.subject)
    except NotFound:
        await declare(bus, aim.settings.bus.replicas)
    return await bus.publish(event, deadline_seconds=PUBLISH_SECONDS)


async def _publish(call: Call, aim: Target, event: Event) -> None:
    async with traced(aim) as bus:
        await publish(bus, aim, event)
        await mention_unknown_node(call, bus, event)


async def _publish_and_wait(call: Call, aim: Target, event: Event, model: str, seconds: float) -> Rollout:
    async with traced(aim) as bus:
        receipt = await publish(bus, aim, event)
        await mention_unknown_node(call, bus, event)
        call.out.say(f"published {event.id}; waiting until every node that wants {model} serves it")
        async with (
            watched(bus, aim.settings.distributor.heartbeat_seconds) as fleet,
            answers_to(bus, fleet, event, receipt.sequence) as answers,
        ):
            return await until_answered(fleet, answers, event, model, timeout_seconds=seconds, changed=talker(call.out))


async def _publish_until_taken(call: Call, aim: Target, event: Event, name: str, seconds: float) -> ArtifactAvailable:
    async with traced(aim) as bus:
        receipt = await publish(bus, aim, event)
        await mention_unknown_node(call, bus, event)
        async with (
            watched(bus, aim.settings.distributor.heartbeat_seconds) as fleet,
            answers_to(bus, fleet, event, receipt.sequence) as answers,
        ):
            return await until_taken(fleet, answers, event, name, timeout_seconds=seconds)


async def mention_unknown_node(call: Call, bus: Bus, event: Event) -> None:
    """A node that nobody has heard of is the commonest reason why nothing follows."""
    node = getattr(event.payload, "node", "")
    if await bus.kv_get("fc_nodes", f"{node}.distributor") is None:
        call.out.say(f"note: no distributor has reported as {node} so far; it has to run where the file is")


def _show(call: Call, event: Event, verb: str) -> Exit:
    payload = event.payload
    assert isinstance(payload, ModelSubmitted)
    call.out.document(
        {
            "event": event.id,
            "published": verb == "published",
            "subject": event.subject,
            "data": payload.model_dump(mode="json", exclude_none=True),
        }
    )
    name = f"{payload.model}@{payload.version}"
    path = Path(payload.path)
    amount = f" ({size(path.stat().st_size)})" if path.is_file() else " (a folder)" if path.is_dir() else ""
    call.out.text(f"{verb} {event.type.name} {name} from {payload.node}:{payload.path}{amount}, event {event.id}")
    call.out.say(f"follow it: fleetcast wait {name}   explain it: fleetcast why {event.id}")
    return Exit.OK
