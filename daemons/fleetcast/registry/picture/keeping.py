"""Who keeps the fleet's registry: a daemon that is there, one that should be and is away, or nobody ever."""

from collections.abc import Sequence
from dataclasses import dataclass

from fleetcast.bus import Bus
from fleetcast.bus.errors import NotFound
from fleetcast.events.lifecycle import AUTHORITY_SUBJECT, AuthorityState
from fleetcast.registry.ledger import Ledger
from fleetcast.registry.picture.amounts import ago
from fleetcast.registry.picture.nodes import NodeView

START_ONE = "fleetcast run registry    (on one or two nodes)"


@dataclass(frozen=True)
class Keeping:
    """What is known of the registry daemons.

    Attributes:
        authority: None: none has ever run here.
        daemons: that have been heard from, by node.
    """

    authority: AuthorityState | None
    daemons: tuple[NodeView, ...] = ()

    @property
    def asked(self) -> bool:
        """Whether decisions are for a daemon to make."""
        return self.authority is not None and self.authority.mode == "daemon"

    @property
    def alive(self) -> tuple[NodeView, ...]:
        return tuple(each for each in self.daemons if each.alive)

    @property
    def away(self) -> bool:
        """Nothing can be registered or promoted: who decides is not there."""
        return self.asked and not self.alive

    @property
    def sentence(self) -> str:
        """One line for people."""
        if not self.asked:
            return "no daemon keeps the registry: origins write it themselves, and no gate is asked"
        gates = self.authority.gates if self.authority else ""
        judged = f"gates {gates}" if gates else "no gates: whoever promotes decides"
        if self.away:
            return f"the registry's daemon is away: {_away(self.daemons)}; nothing is registered or promoted meanwhile"
        by = ", ".join(f"{each.name} ({each.status.status})" for each in self.alive)
        return f"the registry is kept by {by}; {judged}"

    @property
    def problems(self) -> tuple[str, ...]:
        """What is degraded; empty: all is well."""
        return (self.sentence,) if self.away else ()

    def document(self) -> dict[str, object]:
        """The same in JSON."""
        return {
            "kept": self.asked,
            "away": self.away,
            "gates": self.authority.gates if self.authority else "",
            "daemons": [
                {
                    "node": each.name,
                    "state": each.state,
                    "age_seconds": round(each.age_seconds, 3),
                    "status": each.status.status,
                }
                for each in self.daemons
            ],
        }


def _away(daemons: Sequence[NodeView]) -> str:
    return (
        "; ".join(f"{d.name} is {d.state}, last heard {ago(d.age_seconds)}" for d in daemons) or "none was heard from"
    )


async def authority(bus: Bus) -> AuthorityState | None:
    """Who writes the registry; None: no registry daemon has ever run."""
    try:
        return (await Ledger(bus).find(AUTHORITY_SUBJECT, AuthorityState)).value
    except NotFound:
        return None
