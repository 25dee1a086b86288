"""Events between the stream and their handler: parsed, or refused with a reason that reaches whoever sent them."""

from collections.abc import Awaitable, Callable

import structlog

from fleetcast.bus import tracing
from fleetcast.bus.consume import Delivery, Handler, Reject
from fleetcast.bus.publish import Receipt
from fleetcast.events.envelope import Event, EventInvalid, new_event, parse, rejection
from fleetcast.events.ids import is_name
from fleetcast.events.names import UNKNOWN_KEY
from fleetcast.events.payloads import EventRejected

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.bus")

EventHandler = Callable[[Event, Delivery], Awaitable[None]]
Publish = Callable[[Event], Awaitable[Receipt]]


class _Origin:
    """What an `event.rejected` follows from: an event that may not even have parsed."""

    def __init__(self, event_id: str) -> None:
        self.id = event_id
        self.correlationid = event_id


def read_event(delivery: Delivery) -> Event:
    """The event in a delivery.

    Raises:
        EventInvalid: there is none.
    """
    return parse(
        delivery.data,
        subject=delivery.subject,
        headers=delivery.headers,
        stream=delivery.stream,
        sequence=delivery.sequence,
        time=delivery.time,
    )


def event_handler(
    handler: EventHandler, publish: Publish, *, reject_source: str, node: str, report_invalid: bool
) -> Handler:
    """A handler of deliveries around a handler of events.

    What does not parse is a dead letter and an `event.rejected` when *report_invalid* is set; other consumers of the
    same messages pass it over, so that one fault is told once. A `Reject` of the handler is told in the same way by
    every consumer: the ids are derived, so that the stream keeps one.
    """

    async def handle(delivery: Delivery) -> None:
        try:
            event = read_event(delivery)
        except EventInvalid as e:
            if not report_invalid:
                log.info("event.skipped", subject=delivery.subject, sequence=delivery.sequence, reason=e.reason)
                return
            payload, key = rejection(e, node=node)
            await publish(new_event(payload, source=reject_source, cause=_Origin(e.event_id), key=key))
            raise Reject(e.reason, e.field, e.next_step) from e
        with (
            structlog.contextvars.bound_contextvars(correlation_id=event.correlationid, event_id=event.id),
            tracing.span_of(event, doing="handle", node=node),
        ):
            tracing.remember(event.id)
            try:
                await handler(event, delivery)
            except Reject as e:
                await publish(_rejected(event, e, reject_source, node))
                raise

    return handle


def _rejected(event: Event, refusal: Reject, source: str, node: str) -> Event:
    payload = EventRejected(
        event=event.id,
        subject=event.subject,
        reason=refusal.reason,
        field=refusal.field,
        winner=refusal.winner,
        next_step=refusal.next_step or "fleetcast dlq ls",
        node=node,
    )
    return new_event(payload, source=source, cause=event, key=event.key if is_name(event.key) else UNKNOWN_KEY)
