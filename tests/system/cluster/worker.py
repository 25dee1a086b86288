"""`python -m tests.system.cluster.worker URL GROUP HOW`: handles promotions, until it is killed.

The effect of each is one derived event, whose id follows from its cause: done twice, it is there once. HOW `rightly`:
acknowledged when the effect is stored. HOW `hastily` is the broken variant: acknowledged first, then done.
"""

import asyncio
import logging
import random
import sys

from tests.benchmarks._report import quiet_logs

from fleetcast.bus import ConsumerSpec, Delivery, connect
from fleetcast.bus.testing import fast_settings
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.payloads import ModelPromoted, ModelRegistered

SUBJECT = "fc.ev.model.promoted.*"
EFFECTS = "fc.ev.model.registered.*"
WORK_SECONDS = 0.2
"""What handling one takes at most: so that a kill finds some in hand."""
AT_ONCE = 32


def effect_of(event: Event) -> Event:
    """What handling *event* leaves in the stream."""
    promoted = event.payload
    assert isinstance(promoted, ModelPromoted)
    done = ModelRegistered(
        model=promoted.model, version=promoted.version, path=promoted.path, node=promoted.node, run_id=event.id
    )
    return new_event(done, source="/campaign/worker", cause=event)


def cause_of(effect: Event) -> str:
    """The id of the event that was handled."""
    assert isinstance(effect.payload, ModelRegistered)
    return effect.payload.run_id or ""


async def work(url: str, group: str, how: str) -> None:
    """Handle until killed."""
    spec = ConsumerSpec(
        stream="FC_EVENTS",
        subjects=(SUBJECT,),
        durable=group,
        concurrency=AT_ONCE,
        ack_wait_seconds=5,
        max_deliver=1000,
    )
    async with connect(fast_settings(url, replicas=3), node="worker", daemon="campaign") as bus:

        async def handle(event: Event, delivery: Delivery) -> None:
            if how == "hastily":
                await delivery.confirm()
            await asyncio.sleep(random.uniform(0, WORK_SECONDS))
            await bus.publish(effect_of(event))

        print("ready", flush=True)
        await bus.consume_events(spec, handle, reject_source="/campaign/worker")


if __name__ == "__main__":
    quiet_logs(logging.CRITICAL)
    asyncio.run(work(*sys.argv[1:4]))
