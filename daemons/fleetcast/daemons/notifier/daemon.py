"""The notifier daemon, wired."""

import os

import structlog

from fleetcast.bus import Bus, Service, connect, declare
from fleetcast.config.settings import Settings
from fleetcast.daemons import metrics
from fleetcast.daemons.metrics.readings.notices import NoticeReading
from fleetcast.daemons.notifier.channels import open_channel
from fleetcast.daemons.notifier.desk import NOTIFIER_SUBJECT, NotifierDesk
from fleetcast.daemons.notifier.intake import GROUP, Intake
from fleetcast.daemons.notifier.ledger import Ledger
from fleetcast.daemons.notifier.sender import Sender
from fleetcast.daemons.runtime import Daemon, Stage, run_daemon
from fleetcast.daemons.runtime.beat import VERSION, Heartbeat, until_closed
from fleetcast.daemons.runtime.readiness import say_ready

log = structlog.get_logger("fleetcast.notifier")


def main(settings: Settings) -> int:
    """Run the notifier until it is told to stop; returns the process's exit code."""
    return run_daemon("notifier", settings, run)


async def run(daemon: Daemon) -> None:
    """The body of the daemon."""
    settings = daemon.settings
    if not settings.notifier.channels:
        log.warning("channels.none", reason="nobody is told of anything; [notifier.channels.NAME] names a channel")
    async with connect(settings.bus, node=daemon.node, daemon="notifier") as bus:
        await declare(bus, settings.bus.replicas)
        await _live(daemon, bus)


async def _live(daemon: Daemon, bus: Bus) -> None:
    settings = daemon.settings.notifier
    ledger = Ledger(bus)
    channels = {name: open_channel(name, settings) for name in settings.channels}
    desk = NotifierDesk(ledger, settings, channels, daemon.node)
    beat = Heartbeat(daemon, bus, lambda: sentence(ledger, tuple(channels)))
    async with daemon.roots() as roots:
        roots.start("bus", until_closed(bus), stage=Stage.SUPPORT)
        roots.start("ledger", ledger.watch(), stage=Stage.SUPPORT)
        await ledger.known.wait()
        for name, channel in channels.items():
            roots.start(f"channel-{name}", Sender(bus, ledger, settings, name, channel).run())
        intake = Intake(bus, ledger, settings)
        roots.start("intake", intake.run())
        await intake.listening()
        reading = NoticeReading(ledger, channels)
        roots.start("metrics", metrics.serve(daemon, bus, reading.read), stage=Stage.SUPPORT)
        roots.start("heartbeat", beat.run(), stage=Stage.SUPPORT)
        service = await bus.serve(_service(daemon, desk))
        await say_ready(daemon, bus, beat.sentence)
    await service.stop()
    await beat.stopped()


def _service(daemon: Daemon, desk: NotifierDesk) -> Service:
    return Service(
        name="fleetcast-notifier",
        version=VERSION,
        description="tells people what happened, and says which of its channels work",
        metadata={"node": daemon.node, "daemon": "notifier", "pid": str(os.getpid())},
        endpoints={"ask": (NOTIFIER_SUBJECT, desk.answer)},
        group=GROUP,
    )


def sentence(ledger: Ledger, channels: tuple[str, ...]) -> str:
    """What the notifier does right now, for people."""
    if not channels:
        return "no channel: nobody is told of anything"
    failing = [name for name in channels if (box := ledger.outbox(name).value) and box.failing_since]
    if failing:
        return f"{', '.join(failing)} cannot be reached"
    waiting = sum(1 for each in ledger.topics if each.wishes)
    count = f"{len(channels)} channel{'' if len(channels) == 1 else 's'}"
    return f"{count}, {waiting} to be told of" if waiting else f"{count}, everything told"
