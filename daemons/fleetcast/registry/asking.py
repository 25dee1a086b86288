"""The registry as an origin uses it: it asks the registry daemon where one keeps the registry, and writes itself, by
the same compare-and-swap, where none ever ran."""

import time

import structlog

from fleetcast.bus import Bus
from fleetcast.events.content import Kind
from fleetcast.events.lifecycle import AUTHORITY_SUBJECT, AuthorityState, StageName
from fleetcast.events.state import Cause, DistributionState, SlotEntry, SlotState, VersionState
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import Answer, AnyCommand, Distribute, Order, Promote, Reserve
from fleetcast.registry.description import described
from fleetcast.registry.errors import NoKeeper, VersionTaken
from fleetcast.registry.ledger import Ledger
from fleetcast.registry.registry import Registry
from fleetcast.registry.rules import Reserved, SlotOutcome

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.registry")

AUTHORITY_SECONDS = 60.0
"""How long it is remembered that a daemon keeps the registry: one that gives it up does so once in a fleet's life."""


class OriginRegistry(Registry):
    """Reads as `Registry`; decisions go to whoever keeps the registry."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        self._authority = Ledger(bus)
        self._client = RegistryClient(bus, actor=f"/fleet/{bus.node}/{bus.daemon}")
        self._kept = False
        self._looked_at = float("-inf")

    async def is_kept(self) -> bool:
        """Whether a registry daemon keeps the registry.

        Raises:
            TransportFailed: the bus does not answer.
        """
        if not self._kept or time.monotonic() - self._looked_at > AUTHORITY_SECONDS:
            found = await self._authority.find(AUTHORITY_SUBJECT, AuthorityState)
            self._kept = found.value is not None and found.value.mode == "daemon"
            self._looked_at = time.monotonic()
        return self._kept

    async def reserve_version(self, state: VersionState, *, request: str, actor: str) -> Reserved:
        """As `Registry.reserve_version`.

        Raises:
            DescriptionInvalid: what is said about the version cannot be.
            VersionTaken, BusUnavailable: as there.
        """
        described(state.metrics, state.metadata, run_id=state.run_id)
        if not await self.is_kept():
            return await super().reserve_version(state, request=request, actor=actor)
        answer = await self._ask(Reserve(state=state), request, actor)
        kept = VersionState.model_validate(answer.state)
        if answer.outcome == "conflict":
            raise VersionTaken(kept)
        return Reserved(kept, created=not answer.repeated)

    async def order_slot(
        self,
        model: str,
        entry: SlotEntry,
        *,
        cause: Cause,
        request: str,
        actor: str,
        reason: str | None = None,
        kind: Kind = Kind.MODEL,
    ) -> SlotOutcome:
        """As `Registry.order_slot`."""
        if not await self.is_kept():
            return await super().order_slot(
                model, entry, cause=cause, request=request, actor=actor, reason=reason, kind=kind
            )
        command = Order(model=model, kind=kind, entry=entry, cause=cause)
        answer = await self._ask(command, request, actor, reason)
        state = SlotState.model_validate(answer.state)
        if answer.outcome == "superseded":
            return SlotOutcome("superseded", state)
        return SlotOutcome("repeated" if answer.repeated else "moved", state)

    async def order_distribution(self, wanted: DistributionState, *, request: str, actor: str) -> DistributionState:
        """As `Registry.order_distribution`."""
        if not await self.is_kept():
            return await super().order_distribution(wanted, request=request, actor=actor)
        answer = await self._ask(Distribute(state=wanted), request, actor)
        return DistributionState.model_validate(answer.state)

    async def ask_to_serve(
        self, model: str, version: str, *, stage: StageName, cause: Cause, request: str, actor: str
    ) -> Answer:
        """Ask the registry daemon that a version be served, as an event asks."""
        command = Promote(model=model, version=version, stage=stage, cause=cause)
        return await self._ask(command, request, actor)

    async def _ask(self, command: AnyCommand, request: str, actor: str, reason: str | None = None) -> Answer:
        """Ask until there is an answer: what a producer has published must not be lost because a daemon is away."""
        said = False
        while True:
            try:
                return await self._client.transition(command, request=request, actor=actor, reason=reason)
            except NoKeeper as away:
                if not said:
                    log.warning("registry.away", do=command.do, reason=str(away), next_step="fleetcast run registry")
                said = True
