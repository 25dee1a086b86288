"""What stands between an order and whoever serves by it: whether the node is in service, whether the bytes are still
what was proven, and the hooks that tell the serving process."""

from dataclasses import dataclass

from fleetcast.daemons.distributor.duty import Duty
from fleetcast.daemons.distributor.hooks.desk import HookDesk
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.shelf import Shelf
from fleetcast.daemons.distributor.soundness import Soundness


@dataclass(frozen=True, slots=True)
class Serving:
    """The three, wired to one node."""

    duty: Duty
    soundness: Soundness
    hooks: HookDesk

    @classmethod
    def of(cls, parts: Parts, shelf: Shelf) -> "Serving":
        """What serves on a node; its hooks are shown by its *shelf*."""
        hooks = HookDesk(parts, shelf.renew)
        shelf.hook_of = hooks.status
        return cls(Duty(parts), Soundness(parts), hooks)
