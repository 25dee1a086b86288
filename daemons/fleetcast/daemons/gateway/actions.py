"""What the gateway asks of others: registrations, decisions, rollbacks, snapshots. It decides nothing itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from fleetcast.bus import Bus
from fleetcast.daemons.gateway.entries import Deployment, PerformanceSnapshot, Registration, announcement, entry_shown
from fleetcast.daemons.gateway.problems import Refused
from fleetcast.events.state import SlotState
from fleetcast.registry import monitoring
from fleetcast.registry.api.calls import Calls
from fleetcast.registry.api.entries import checked_name, percent_of, split
from fleetcast.registry.api.values import Change, DeploymentStage, RegistrationFailed
from fleetcast.registry.commands import Rollback
from fleetcast.registry.monitoring import rollback_request
from fleetcast.registry.picture.live import Fleet
from fleetcast.registry.picture.nodes import NodeView, rollout, rollout_document

REGISTER_SECONDS: Final = 45.0
"""How long a registration waits for the origin, which copies, hashes and tests the file."""
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a request: the body of the answer, and whether it goes on by itself (202)."""

    body: Document
    goes_on: bool = False


class Actions:
    """One request each; made anew for every caller, who stands in the record."""

    def __init__(self, bus: Bus, fleet: Fleet, *, caller: str, serving_seconds: float) -> None:
        self._bus = bus
        self._fleet = fleet
        self._actor = f"/fleet/{bus.node}/gateway/{caller}"
        self._serving_seconds = serving_seconds
        self.calls = Calls(bus, actor=self._actor)

    # -- versions

    async def register(self, entry: Registration) -> Done:
        """A new version, with its bytes or without.

        Raises:
            Refused: it cannot begin like that.
            RegistrationFailed, DescriptionInvalid, RegistryRefused, NoKeeper: as the Python API says.
        """
        if entry.deploy_status is not DeploymentStage.DEVELOPMENT:
            raise Refused(
                422,
                "stage",
                f"{entry.reference} cannot begin at {entry.deploy_status}: a version is registered at development",
                next_step=f"PATCH /api/model-registry/models/{entry.model_id}/deployment",
            )
        if entry.artifact_path is not None:
            return await self._register_file(entry, entry.artifact_path)
        command = announcement(entry, node=self._bus.node)
        await self.calls.ask(command, "registered over the gateway")
        return Done(entry_shown(await self.calls.get(entry.reference, None)))

    async def _register_file(self, entry: Registration, path: str) -> Done:
        if not PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise Refused(
                422,
                "invalid",
                f"artifact_path is {path[:200]!r}: give an absolute path on the node that holds it",
            )
        node = entry.node or self._bus.node
        try:
            known = await self.calls.register(entry, path, node=node, seconds=REGISTER_SECONDS)
        except RegistrationFailed as late:
            if not isinstance(late.__cause__, TimeoutError):
                raise
            return Done({"model_id": entry.model_id, "version": entry.version, "message": str(late)}, goes_on=True)
        return Done(entry_shown(known))

    async def deploy(self, model_id: str, order: Deployment) -> Done:
        """A version is to come to a stage; gates decide.

        Raises:
            GateRefused, RegistryConflict, RegistryRefused, ModelNotFound, AmbiguousVersion, NoKeeper: as the Python API
                says.
        """
        percent = _percent(order.canary_percentage)
        change = await self.calls.move(model_id, order.version, order.status, percent, order.reason)
        body = {
            "status": order.status.value,
            "model_id": change.model_id,
            "version": change.version,
            "canary_percentage": order.canary_percentage,
            **_change(change),
        }
        if order.status is not DeploymentStage.ROLLBACK:
            return Done(body, goes_on=change.outcome == "started")
        settled = change.outcome == "done" and await self._served(change.model_id, change.generation)
        return Done({**body, "deployment": self.deployment(change.model_id)}, goes_on=not settled)

    async def roll_back(self, model_id: str, *, reason: str, target: str | None) -> Done:
        """Serve a former version again, and wait a moment for the nodes.

        Raises:
            RegistryRefused, RegistryConflict, ModelNotFound, NoKeeper: as the Python API says.
        """
        model, bad = split(model_id, None)
        checked_name(model)
        if bad is not None:
            raise Refused(422, "invalid", f"a rollback is of a model: {model}, not of {model_id[:100]}")
        answer = await self.calls.ask(Rollback(model=model, to=target), reason)
        settled = answer.outcome == "done" and await self._served(model, answer.generation)
        serving = self._fleet.slot(model)
        production = serving.production.version if serving and serving.production else answer.version
        body = {
            "status": "rolled_back" if settled else "rolling_back",
            "model_id": model,
            "reason": reason,
            "target_version": production if settled else (target or answer.version),
            "message": answer.message,
            "generation": answer.generation,
            "n": answer.n,
        }
        return Done({**body, "deployment": self.deployment(model)}, goes_on=not settled)

    def deployment(self, model: str) -> Document:
        """What is ordered of a model, and how far the nodes are; raises Refused: nothing was ever ordered."""
        slot = self._fleet.slot(model)
        if slot is None:
            raise Refused(
                404, "not-found", f"nothing of {model[:80]} was ever ordered", next_step="/api/model-registry/models"
            )
        progress = rollout(slot, self._fleet.nodes)
        previous = slot.previous.version if slot.previous else None
        return {**rollout_document(progress), "previous": previous}

    async def _served(self, model: str, generation: int) -> bool:
        """Whether all nodes that can be asked report what is ordered, within the time that an answer may take. One
        that is away is named, and holds up nothing."""

        def look() -> bool | None:
            slot = self._fleet.slot(model)
            if slot is None or slot.generation < generation:
                return None
            return True if _settled(slot, self._fleet.nodes) else None

        try:
            return await self._fleet.until(look, self._serving_seconds)
        except TimeoutError:
            return False

    # -- how they perform

    async def check(
        self, model_id: str, window_minutes: int, *, remediate: bool, reason: str | None = None
    ) -> Document:
        """Seed 003's rollback check; with *remediate* the rollback is asked for, once per slot order.

        Raises:
            NoMonitor: nobody answers.
            ModelNotFound: nothing of that name is served.
        """
        model, _ = split(model_id, None)
        checked_name(model)
        answer = await monitoring.ask(self._bus, {"ask": "triggers", "model": model, "window_minutes": window_minutes})
        body = {
            "model_id": model_id,
            "should_rollback": answer["should_rollback"],
            "reasons": answer["reasons"],
            "window_minutes": answer["window_minutes"],
            "auto_remediate": remediate,
            "version": answer["version"],
            "severity": answer["severity"],
            "mode": answer["mode"],
        }
        if remediate and answer["should_rollback"]:
            event = rollback_request(answer, source=self._actor, reason=reason)
            await self._bus.publish(event)
            body |= {"requested": event.id, "next": f"fleetcast why {event.id}"}
        return body

    async def record(self, model_id: str, snapshot: PerformanceSnapshot) -> Document:
        """A snapshot is published; whoever judges reads it from the stream.

        Raises:
            Refused: it is about another model than the path.
        """
        model, version = split(model_id, None)
        checked_name(model)
        said = {model, model_id}
        if snapshot.model_id not in {"", *said} or version not in {None, snapshot.version}:
            raise Refused(
                422,
                "invalid",
                f"the snapshot is about {snapshot.model_id}@{snapshot.version}, and the path about {model_id[:100]}",
            )
        about = snapshot.model_copy(update={"model_id": model})
        kept = await self.calls.snapshot(about, self._bus.node)
        return {"status": "recorded", "model_id": model, "version": snapshot.version, **kept}


def _settled(slot: SlotState, nodes: Sequence[NodeView]) -> bool:
    """Whether every node that is there serves what is ordered for it."""
    alive = {node.name for node in nodes if node.alive}
    return not any(each.node in alive for each in rollout(slot, nodes).behind)


def _change(change: Change) -> Mapping[str, Any]:
    return {
        "deploy_status": change.deploy_status.value if change.deploy_status else None,
        "outcome": change.outcome,
        "message": change.message,
        "generation": change.generation,
        "n": change.n,
        "gates": [gate.model_dump(mode="json") for gate in change.gates],
    }


def _percent(given: float | None) -> int | None:
    try:
        return percent_of(given)
    except ValueError as error:
        raise Refused(422, "invalid", str(error)) from error
