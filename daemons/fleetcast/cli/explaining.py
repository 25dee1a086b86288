"""`fleetcast transfers ID|MODEL@VERSION`: one artifact over the fleet, also when it was fetched hours ago."""

from fleetcast.bus import Bus
from fleetcast.cli import history
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.feeding import Story, choose, picture, stories
from fleetcast.cli.live import Fleet, watched
from fleetcast.cli.pictures import Picture, redraw
from fleetcast.cli.problems import Exit, not_found
from fleetcast.cli.running import run_async
from fleetcast.cli.units import parse_duration
from fleetcast.events.envelope import Event

FACTS = ("transfer.verified", "transfer.failed", "transfer.moved")


def run(call: Call, what: str, *, watch: bool, since: str, limit: int) -> Exit:
    """Explain the transfers of what *what* names; looks back as far as *since*."""
    seconds = parse_duration(since, option="--since")
    seen = run_async(_look(call, target(call), what, seconds, watch=watch, limit=limit))
    call.out.document(seen.document)
    call.out.show(seen.drawn)
    return Exit.OK


async def _look(call: Call, aim: Target, what: str, seconds: float, *, watch: bool, limit: int) -> Picture:
    width = call.out.console().width
    async with connected(aim) as bus, watched(bus, aim.settings.distributor.heartbeat_seconds) as fleet:
        events = await _facts(bus, seconds)
        first = _drawn(_story(fleet, events, what), limit, width)
        if watch:
            await redraw(call.out, fleet, lambda: _drawn(_story(fleet, events, what), limit, width))
        return first


async def _facts(bus: Bus, seconds: float) -> list[Event]:
    return await history.collect(bus, history.subjects(FACTS, None), start_time=history.since(seconds))


def _drawn(story: Story, limit: int, width: int) -> Picture:
    return Picture(story.document(), picture(story, limit=limit, width=width))


def _story(fleet: Fleet, events: list[Event], what: str) -> Story:
    """The story of *what*.

    Raises:
        Problem: nobody fetches or fetched anything of that name.
    """
    found = choose(stories(fleet.transfers, events, _holders(fleet)), what)
    if found is None:
        raise not_found(
            f"no transfer, model or artifact {what!r} was fetched lately",
            why="what an origin has, or a node had already, needs no transfer",
            next_step=f"fleetcast transfers {what} --since 7d, or fleetcast transfers --all",
        )
    return found


def _holders(fleet: Fleet) -> dict[str, list[str]]:
    holders: dict[str, list[str]] = {}
    for node in fleet.nodes:
        for artifact in {v.artifact for m in node.status.models for v in m.installed}:
            holders.setdefault(artifact, []).append(node.name)
    return holders
