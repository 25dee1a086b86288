"""Dead letters are settled by somebody, for a reason, and the log says so."""

import contextlib
from typing import TYPE_CHECKING

from fleetcast.bus.errors import NotFound
from fleetcast.events.envelope import new_event
from fleetcast.events.ids import derived_id
from fleetcast.events.letters import LetterSettled, Settlement

if TYPE_CHECKING:
    from fleetcast.bus.connection import Bus
    from fleetcast.bus.dead import DeadLetter


async def settle(bus: "Bus", letter: "DeadLetter", outcome: Settlement, *, by: str, reason: str | None) -> None:
    """Publish a dead letter again or drop it, and write down who did and why (`letter.settled`).

    The letter goes last: whoever is interrupted does it again, and nothing is stored twice, because the message and the
    record have ids that follow from the letter.

    Args:
        by: who does it, as the source of events: `/fleet/gpu-1/gateway/ann`.

    Raises:
        NotFound: its message is not stored anywhere any more, or is none that anybody handles.
        AccessDenied: this role may not publish what is in it.
        BusUnavailable: the bus does not answer; calling again is safe.
    """
    record = LetterSettled(
        consumer=letter.consumer or "unknown",
        number=letter.sequence,
        outcome=outcome,
        subject=letter.subject,
        event=letter.event_id,
        by=by,
        reason=reason or None,
    )
    if outcome is Settlement.RETRIED:
        await bus.dead.publish_again(letter)
    identity = derived_id(f"FC_DEAD:{letter.sequence}", outcome.value, f"{letter.at:%Y%m%dT%H%M%S%f}")
    await bus.publish(new_event(record, source=by, event_id=identity))
    with contextlib.suppress(NotFound):
        # Somebody else settled it at the same moment.
        await bus.dead.drop(letter.sequence)
