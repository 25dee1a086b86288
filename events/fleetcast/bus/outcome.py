"""What follows from a handler's answer: a pure decision."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from fleetcast.bus.consume import ConsumerSpec, Reject, Retry


@dataclass(frozen=True, slots=True)
class Done:
    """Acknowledge."""


@dataclass(frozen=True, slots=True)
class Again:
    """Deliver again after `delay_seconds`."""

    delay_seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    """Write a dead letter and end the deliveries."""

    reason: str
    field: str | None = None
    next_step: str = ""


Outcome = Done | Again | Dead


def describe(error: BaseException) -> str:
    """An exception for a person who does not see the trace."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def decide(
    error: BaseException | None,
    *,
    attempt: int,
    confirmed: bool,
    spec: ConsumerSpec,
    uniform: Callable[[float, float], float] = random.uniform,
) -> Outcome:
    """What to do with a message after delivery number *attempt*.

    *error*: what the handler raised, None when it returned; *confirmed*: it acknowledged before it ended.
    """
    retry_hint = "repair the cause, then fleetcast dlq retry"
    if error is None:
        return Done()
    if isinstance(error, Reject):
        return Dead(error.reason, error.field, error.next_step)
    if confirmed:
        # The server will not deliver it again; the dead letter is all that is left of the failure.
        return Dead(f"failed after it was confirmed: {describe(error)}", None, retry_hint)
    if attempt >= spec.max_deliver:
        return Dead(f"gave up after {attempt} deliveries: {describe(error)}", None, retry_hint)
    if isinstance(error, Retry):
        return Again(max(error.delay_seconds, 0.0), str(error))
    return Again(spec.backoff.delay(attempt, uniform), describe(error))
