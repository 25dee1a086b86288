"""When a daemon may say that it is ready, and what its watchdog is fed with: round trips over the bus, and the tries of
its supervision."""

import time
from collections.abc import Callable

from fleetcast.bus import Bus, BusState
from fleetcast.daemons.runtime.lifecycle import Daemon
from fleetcast.daemons.runtime.recent import tell_logs
from fleetcast.transport.failpoints import failpoint

TRY_SECONDS = 60.0
"""A round trip, or a dial to every server, ends sooner, well or not; after this much silence nothing tries any more."""


async def say_ready(daemon: Daemon, bus: Bus, sentence: Callable[[], str]) -> None:
    """Say that start-up is over, once a message was stored on the bus and read back; until then, that this is waited
    for. From then on the watchdog also asks whether somebody still looks after the bus.

    Whoever asks for its log lines is answered from the beginning: they tell what it waits for.

    A bus that goes away later is no reason to start anew: the daemon works on with what it has, and says so.
    """
    await tell_logs(bus, daemon.node, daemon.name)
    if not bus.proven.is_set():
        daemon.status("waiting for NATS to store a message and give it back")
        await bus.proven.wait()
    daemon.progress("bus", lambda: time.monotonic() - bus.tried_at <= TRY_SECONDS)
    daemon.ready(sentence())
    failpoint("daemon.ready.after")


def with_bus(bus: Bus, sentence: str) -> str:
    """*sentence*, with the word that NATS is away in front where it is."""
    return sentence if bus.state is BusState.READY else f"NATS is away; {sentence}"
