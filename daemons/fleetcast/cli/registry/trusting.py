"""How far a model can be trusted, as `fleetcast info` shows it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fleetcast.bus import Bus
from fleetcast.bus.streams import REGISTRY
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.problems import not_found
from fleetcast.cli.running import run_async
from fleetcast.events.lifecycle import TrustState, trust_subject
from fleetcast.events.state import SlotState
from fleetcast.registry.book import read
from fleetcast.registry.commands import stamp
from fleetcast.registry.gates import trust
from fleetcast.registry.registry import Registry


@dataclass(frozen=True, slots=True)
class Trusted:
    """What is known of a model: its slots, and how its promotions ended."""

    slot: SlotState | None
    trust: TrustState
    now: datetime

    @property
    def sentence(self) -> str:
        return trust.sentence(self.trust, self.now)

    def document(self) -> dict[str, Any]:
        """In JSON."""
        return trust.document(self.trust, self.now)


def trusted(call: Call, model: str) -> Trusted:
    """Counted now, from the audit records.

    Raises:
        Problem: no NATS, or nothing is known of the model.
    """
    known = run_async(_read(target(call), model))
    if known is None:
        raise not_found(f"nothing is known of {model}", next_step="fleetcast models")
    return known


async def _read(aim: Target, model: str) -> Trusted | None:
    async with connected(aim) as bus:
        book = Registry(bus)
        records = await book.history(model)
        if not records:
            return None
        now = datetime.now(UTC)
        state = trust.current(await _stored(bus, model), records, model, stamp(now))
        return Trusted(await book.slot(model), state, now)


async def _stored(bus: Bus, model: str) -> TrustState | None:
    entry = await bus.last(REGISTRY, trust_subject(model))
    return None if entry is None else read(TrustState, entry)
