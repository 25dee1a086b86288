"""The calls of the Python API over a bus. Reads go to the stream; changes are asked of the registry daemon."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fleetcast.bus import Bus
from fleetcast.bus.errors import NotFound
from fleetcast.bus.streams import EVENTS
from fleetcast.client.ulid import new_ulid
from fleetcast.events.envelope import Event, EventInvalid, new_event, parse
from fleetcast.events.lifecycle import AUTHORITY_SUBJECT, AuthorityState, EntryState, entry_subject
from fleetcast.events.names import find
from fleetcast.events.payloads import ArtifactAvailable, EventRejected, ModelRegistered
from fleetcast.events.state import SlotState, VersionState
from fleetcast.registry import monitoring
from fleetcast.registry.api import entries as rules
from fleetcast.registry.api.values import (
    Change,
    Check,
    DeploymentStage,
    Entries,
    ModelNotFound,
    ModelPerformanceSnapshot,
    ModelRegistryEntry,
    Records,
    RegistrationFailed,
    Table,
    accepted,
)
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import Answer, AnyCommand, Describe
from fleetcast.registry.errors import NoKeeper
from fleetcast.registry.ledger import Ledger
from fleetcast.registry.monitoring import rollback_request
from fleetcast.registry.readmodel.errors import NothingFound
from fleetcast.registry.registry import Registry
from fleetcast.registry.speaking import claim_for, speaker

START_IT: Final = "start one: fleetcast run registry"
_ANSWERS: Final = ("artifact.available", "event.rejected")


@dataclass(frozen=True, slots=True)
class Line:
    """A model as it is now: its versions in the order of their registration, and its slots."""

    model: str
    entries: list[EntryState]
    slot: SlotState | None


class Calls:
    """One call each; made anew for every connection."""

    def __init__(self, bus: Bus, *, actor: str) -> None:
        self._bus = bus
        self._actor = actor
        self._ledger = Ledger(bus)
        self._registry = Registry(bus)
        self._client = RegistryClient(bus, actor=actor)

    # -- read

    async def get(self, model_id: str, version: str | None) -> ModelRegistryEntry:
        """A version: the named one, else production, else the newest.

        Raises:
            ModelNotFound: there is none.
            TransportFailed: NATS does not answer.
        """
        model, version = rules.split(model_id, version)
        line = await self._line(model)
        return rules.entry_of(rules.shown(line.entries, model, version, line.slot), line.slot)

    async def listed(self, wanted: Mapping[str, Any], tags: Iterable[str]) -> Entries:
        """Versions that have all the values that are *wanted*, and all *tags*, by model and registration."""
        found = sorted(await self._all(), key=lambda entry: entry.model_id)
        return Entries(entry for entry in found if rules.matches(entry, wanted, tags))

    async def history(self, model_id: str) -> Records:
        """The decisions about a model, or about one of its versions, oldest first."""
        model, version = rules.split(model_id, None)
        rules.checked_name(model)
        try:
            records = [rules.record_shown(record) for record in await self._registry.history(model)]
        except NotFound:
            records = []
        if not records:
            raise ModelNotFound(f"nothing is known of {model}; next: fleetcast models")
        return Records(record for record in records if version in {None, record["version"]})

    async def compared(self, a: str, b: str) -> Table:
        """Two versions side by side."""
        return Table(rules.difference(await self.get(a, None), await self.get(b, None)))

    async def stats(self) -> Table:
        """How many models and versions there are."""
        return Table(rules.counts(await self._all()))

    async def card_material(self, model_id: str, version: str | None) -> tuple[EntryState, VersionState | None]:
        """What a model card is made of: a version, and its content."""
        model, version = rules.split(model_id, version)
        line = await self._line(model)
        state = rules.shown(line.entries, model, version, line.slot)
        return state, await self._registry.version(model, state.version)

    async def _line(self, model: str) -> Line:
        rules.checked_name(model)
        try:
            entries, versions, slot = await asyncio.gather(
                self._ledger.all((f"fc.reg.state.entry.{model}.*",), EntryState),
                self._registry.versions(model),
                self._registry.slot(model),
            )
        except NotFound:
            return Line(model, [], None)
        slots = {model: slot} if slot else {}
        return Line(model, rules.known_entries(entries, versions, slots), slot)

    async def _all(self) -> list[ModelRegistryEntry]:
        """Every version of every model. Where a daemon keeps the registry all have entries, and their content, which
        is much larger, is not read."""
        try:
            entries, slots, kept = await asyncio.gather(
                self._ledger.all(("fc.reg.state.entry.*.*",), EntryState),
                self._ledger.all(("fc.reg.state.slot.*",), SlotState),
                self._is_kept(),
            )
            versions = [] if kept else await self._registry.versions()
        except NotFound:
            return []
        by_model = {slot.model: slot for slot in slots}
        known = rules.known_entries(entries, versions, by_model)
        return [rules.entry_of(entry, by_model.get(entry.model)) for entry in known]

    async def _is_kept(self) -> bool:
        try:
            found = await self._ledger.find(AUTHORITY_SUBJECT, AuthorityState)
        except NotFound:
            return False
        return found.value is not None and found.value.mode == "daemon"

    # -- register

    async def register(self, entry: ModelRegistryEntry, path: str, *, node: str, seconds: float) -> ModelRegistryEntry:
        """Have the distributor on *node* take *path* as a version, and wait until the fleet knows it.

        Raises:
            RegistrationFailed: no distributor runs there, it refused the file, or it did not answer in time.
            NoKeeper: flags were given, and nobody keeps the registry.
        """
        flags = rules.flags_of(entry)
        kept = await self._is_kept()
        if flags and not kept:
            raise NoKeeper(f"flags need a registry daemon that answers for them, and none ever ran; {START_IT}")
        await self._check_distributor(node)
        event = new_event(_submission(entry, path, node), source=self._actor)
        receipt = await self._bus.publish(event)
        await self._until_taken(event, receipt.sequence, node, seconds)
        if kept:
            await self._complete(entry, flags)
        return await self.get(entry.reference, None)

    async def _check_distributor(self, node: str) -> None:
        try:
            known = await self._bus.kv_get("fc_nodes", f"{node}.distributor")
        except NotFound:
            known = None
        if known is None:
            raise RegistrationFailed(
                f"no distributor runs on {node}, and only the node that holds a file can bring it into the fleet; "
                f"start it there: fleetcast run distributor"
            )

    async def _until_taken(self, event: Event, sequence: int, node: str, seconds: float) -> None:
        """Wait for the origin's offer or its refusal of *event*."""
        subjects = (find(_ANSWERS[0]).subject(event.key), find(_ANSWERS[1]).subject("*"))
        try:
            async with asyncio.timeout(seconds):
                async for entry in self._bus.tail(EVENTS, subjects, start_sequence=sequence, follow=True):
                    if _settles(event, entry.data, entry.subject):
                        return
        except TimeoutError as late:
            raise RegistrationFailed(
                f"{node} has not taken it within {seconds:g} s; it may still do so: fleetcast why {event.id}"
            ) from late

    async def _complete(self, entry: ModelRegistryEntry, flags: Mapping[str, Any]) -> None:
        """Say what the event could not: flags; and facts, of a version whose bytes were registered before."""
        subject = entry_subject(entry.model_id, entry.version)
        known = (await self._ledger.find(subject, EntryState)).value
        if known is None:
            return
        facts = rules.news(rules.facts_of(entry), known.facts)
        metadata = {key: value for key, value in entry.metadata.items() if known.metadata.get(key) != value}
        values = {name: flag.value for name, flag in known.flags.items()}
        fresh = {name: flag for name, flag in flags.items() if values.get(name) is not flag.value}
        if facts.model_fields_set or metadata or fresh:
            command = Describe(model=entry.model_id, version=entry.version, facts=facts, flags=fresh, metadata=metadata)
            await self.ask(command, "said when it was registered")

    # -- change

    async def update(
        self,
        model_id: str,
        version: str | None,
        metadata: Mapping[str, Any],
        flags: Mapping[str, bool],
        reason: str | None,
    ) -> ModelRegistryEntry:
        """Say something about a version; what it becomes.

        Raises:
            ModelNotFound, AmbiguousVersion: it is not clear about which.
            DescriptionInvalid: something cannot be said so; names the field.
            NoKeeper: nobody keeps the registry.
            RegistryRefused: the daemon did not take it.
        """
        facts, said, rest = rules.said_of(metadata, flags)
        line, state = await self._meant(model_id, version)
        command = Describe(model=line.model, version=state.version, facts=facts, flags=said, metadata=rest)
        await self.ask(command, reason)
        return await self.get(line.model, state.version)

    async def move(
        self, model_id: str, version: str | None, stage: DeploymentStage, percent: int | None, reason: str | None
    ) -> Change:
        """Bring a version to a stage.

        Raises:
            GateRefused: a gate said no.
            RegistryConflict: somebody else was quicker.
            RegistryRefused, ModelNotFound, AmbiguousVersion, NoKeeper: as `update`.
        """
        if stage is DeploymentStage.ROLLBACK and rules.split(model_id, version)[1] is None:
            line = await self._line(rules.split(model_id, version)[0])
            served = line.slot and (line.slot.canary or line.slot.production)
            version = served.version if served else None
        line, state = await self._meant(model_id, version)
        command = rules.command_for(line.model, state.version, stage, percent, line.slot)
        return Change.of(await self.ask(command, reason or f"update_deployment_status: {stage}"))

    async def _meant(self, model_id: str, version: str | None) -> tuple[Line, EntryState]:
        model, version = rules.split(model_id, version)
        line = await self._line(model)
        return line, rules.changed(line.entries, model, version, line.slot)

    async def ask(self, command: AnyCommand, reason: str | None) -> Answer:
        """The answer to a command that was not refused; errors as `update` and `move`."""
        if not await self._is_kept():
            raise NoKeeper(f"nobody keeps the registry, so that nothing in it can be changed; {START_IT}")
        try:
            return accepted(await self._client.transition(command, reason=reason))
        except NoKeeper as away:
            raise NoKeeper(f"{away}; {START_IT}") from away

    # -- performance

    async def snapshot(self, taken: ModelPerformanceSnapshot, node: str) -> Table:
        """Publish a snapshot; where it is in FC_PERF."""
        said = taken if taken.node else taken.model_copy(update={"node": node})
        # The same id on every retry of the publication: a snapshot that is stored twice would count twice.
        headers = {"Nats-Msg-Id": new_ulid(), "Content-Type": "application/json"}
        body = said.model_dump_json(exclude_none=True).encode()
        receipt = await self._bus.publish_raw(f"fc.perf.{taken.model_id}", body, headers)
        return Table(subject=f"fc.perf.{taken.model_id}", sequence=receipt.sequence)

    async def triggers(self, model_id: str, window_minutes: int, *, remediate: bool) -> Check:
        """Whether a model should be rolled back; with *remediate* that is asked for, once per slot order.

        Raises:
            NoMonitor: no monitor daemon answers.
            ModelNotFound: nothing of that name is served.
        """
        model, _ = rules.split(model_id, None)
        answer = await self._monitored({"ask": "triggers", "model": model, "window_minutes": window_minutes})
        if answer["should_rollback"] and remediate:
            await self._bus.publish(rollback_request(answer, source=self._actor))
        return Check((answer["should_rollback"], answer["reasons"]))

    async def health(self, model_id: str | None, window_minutes: int | None) -> Table:
        """How a model performs, or all of them; errors as `triggers`."""
        model = rules.split(model_id, None)[0] if model_id is not None else None
        return Table(await self._monitored({"ask": "health", "model": model, "window_minutes": window_minutes}))

    async def _monitored(self, question: Mapping[str, Any]) -> dict[str, Any]:
        if question["model"] is not None:
            rules.checked_name(question["model"])
        try:
            return await monitoring.ask(self._bus, question)
        except NothingFound as nothing:
            raise ModelNotFound(str(nothing)) from nothing


def _submission(entry: ModelRegistryEntry, path: str, node: str) -> ModelRegistered:
    facts = rules.facts_of(entry).model_dump(mode="json", exclude_none=True)
    metrics = facts.pop("evaluation_metrics", None)
    run_id, claim = claim_for(facts.pop("run_id", None), speaker())
    return ModelRegistered(
        model=entry.model_id,
        version=entry.version,
        path=path,
        node=node,
        run_id=run_id,
        claim=claim,
        metrics=metrics,
        metadata={**entry.metadata, **facts} or None,
    )


def _settles(event: Event, data: bytes, subject: str) -> bool:
    """Whether a message says that *event* was taken.

    Raises:
        RegistrationFailed: it says that it was refused.
    """
    try:
        answer = parse(data, subject=subject, stream=EVENTS, sequence=0).payload
    except EventInvalid:
        return False
    if isinstance(answer, EventRejected) and answer.event == event.id:
        winner = f"; winner: {answer.winner}" if answer.winner else ""
        raise RegistrationFailed(f"{answer.reason}{winner}; next: {answer.next_step}")
    return isinstance(answer, ArtifactAvailable) and answer.cause == event.id
