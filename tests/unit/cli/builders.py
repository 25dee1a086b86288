"""Values that tests of the command line are made from."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from fleetcast.daemons.testing import heartbeat
from fleetcast.events.content import Kind
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.payloads import Checks, DaemonState, Endpoints, Payload, Wants
from fleetcast.events.state import (
    Cause,
    InstalledVersion,
    ModelStatus,
    NodeStatus,
    SlotEntry,
    SlotState,
    TransferStatus,
)

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
ARTIFACT = "a" * 64
CHECKS = Checks(size="ok", sha256="ok", format="ok")


def event(
    payload: Payload, *, after: float = 0.0, cause: Event | None = None, sequence: int | None = None, name: str = ""
) -> Event:
    made = new_event(
        payload,
        source="/fleet/node-1/test",
        cause=cause,
        event_id=name or None,
        time=NOW + timedelta(seconds=after),
        discriminator=str(after),
    )
    return replace(made, sequence=sequence)


def held(model: str, version: str | None, generation: int, kind: str = "model") -> ModelStatus:
    installed = (
        (
            InstalledVersion(
                version=version,
                artifact=ARTIFACT,
                bytes=1,
                checks=CHECKS,
                transport="bittorrent",
                seconds=1.0,
                installed_at=NOW.isoformat(),
            ),
        )
        if version
        else ()
    )
    return ModelStatus(
        model=model, kind=kind, generation=generation, current=version, path="/data", installed=installed
    )


def transfer(
    node: str, *, state: str = "fetching", version: str = "2", done: int = 40, **more: object
) -> TransferStatus:
    fields: dict[str, object] = {
        "transfer": f"t-{node}-{version}",
        "artifact": ARTIFACT,
        "model": "hex8",
        "version": version,
        "node": node,
        "state": state,
        "transport": "bittorrent",
        "bytes_total": 100,
        "bytes_done": done,
        "started_at": NOW.isoformat(),
    }
    return TransferStatus.model_validate(fields | more)


def node(
    name: str,
    *models: ModelStatus,
    age: float = 1.0,
    state: DaemonState = DaemonState.READY,
    wants: Wants | None = None,
    transfers: tuple[TransferStatus, ...] = (),
) -> NodeStatus:
    return heartbeat(
        name,
        at=(NOW - timedelta(seconds=age)).isoformat(),
        version="0.1.0",
        state=state,
        status="1 version of 1 model, no transfer",
        started_at=NOW.isoformat(),
        endpoints=Endpoints(bt="127.0.0.1:6881", http="http://127.0.0.1:6880/secret"),
        wants=wants or Wants(),
        models=models,
        transfers=transfers,
    )


def slot(model: str, version: str, generation: int, kind: Kind = Kind.MODEL) -> SlotState:
    return SlotState(
        model=model,
        kind=kind,
        generation=generation,
        production=SlotEntry(version=version, artifact=ARTIFACT),
        previous=None,
        cause=Cause(event="cause", sequence=1, by="/fleet/node-1/cli", correlation="cause"),
        at=NOW.isoformat(),
    )
