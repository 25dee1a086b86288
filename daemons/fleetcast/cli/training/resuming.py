"""`fleetcast resume NAME`: a model's halted rollout, or a paused lane; the two may have one name."""

from fleetcast.bus import Bus
from fleetcast.bus.errors import NotFound
from fleetcast.bus.streams import REGISTRY, TRAINING
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.problems import Exit, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.training.lanes import change
from fleetcast.daemons.trainer.ledger import read
from fleetcast.events.ids import is_name
from fleetcast.events.lifecycle import Phase, RolloutState, rollout_subject
from fleetcast.events.training import LaneState, lane_subject


def run(call: Call, name: str, *, abandon: bool, lane: bool, reason: str | None, dry_run: bool) -> Exit:
    """Let a paused lane start runs again, or a halted rollout go on."""
    from fleetcast.cli.registry.promoting import resume

    if lane and abandon:
        raise usage("--abandon ends a rollout, a lane has none", next_step=f"fleetcast resume {name} --abandon")
    if lane or (not abandon and is_name(name) and run_async(_is_lane_meant(target(call), name))):
        return change(call, "resume", name, reason=reason, dry_run=dry_run)
    return resume(call, name, abandon=abandon, reason=reason, dry_run=dry_run)


async def _is_lane_meant(aim: Target, name: str) -> bool:
    async with connected(aim) as bus:
        if not await _is_paused(bus, name):
            return False
        entry = await bus.last(REGISTRY, rollout_subject(name))
        if entry is not None and read(RolloutState, entry).phase is Phase.HALTED:
            raise usage(
                f"{name} is a paused lane, and a model whose rollout halted",
                next_step=f"fleetcast resume {name} --lane --reason TEXT, or fleetcast resume {name} --abandon",
            )
        return True


async def _is_paused(bus: Bus, lane: str) -> bool:
    try:
        entry = await bus.last(TRAINING, lane_subject(lane))
    except NotFound:
        return False
    return entry is not None and read(LaneState, entry).paused is not None
