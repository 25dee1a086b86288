import pytest

from fleetcast.bus import ConsumerSpec, Reject, Retry
from fleetcast.bus.outcome import Again, Dead, Done, Outcome, decide

SPEC = ConsumerSpec("FC_EVENTS", max_deliver=3)


def after(error: BaseException | None, attempt: int = 1, *, confirmed: bool = False) -> Outcome:
    return decide(error, attempt=attempt, confirmed=confirmed, spec=SPEC, uniform=lambda low, high: high)


def test_a_handler_that_returns_is_done() -> None:
    assert after(None) == Done()


def test_retry_says_when() -> None:
    outcome = after(Retry(2.5))

    assert isinstance(outcome, Again)
    assert outcome.delay_seconds == 2.5


def test_a_negative_delay_is_now() -> None:
    outcome = after(Retry(-1))

    assert isinstance(outcome, Again)
    assert outcome.delay_seconds == 0


@pytest.mark.parametrize("attempt", [1, 3])
def test_reject_is_dead_at_once_with_its_reason_field_and_next_step(attempt: int) -> None:
    assert Dead("no such path", "path", "fix it") == after(Reject("no such path", "path", "fix it"), attempt)


def test_any_other_failure_waits_longer_each_time() -> None:
    first, second = after(OSError("disk"), 1), after(OSError("disk"), 2)

    assert isinstance(first, Again)
    assert isinstance(second, Again)
    assert second.delay_seconds == 2 * first.delay_seconds
    assert first.reason == "OSError: disk"


@pytest.mark.parametrize("error", [OSError("disk"), Retry(1)])
def test_the_last_attempt_ends_as_a_dead_letter_that_says_what_failed(error: Exception) -> None:
    outcome = after(error, 3)

    assert isinstance(outcome, Dead)
    assert "3 deliveries" in outcome.reason
    assert str(error) in outcome.reason
    assert "dlq retry" in outcome.next_step


def test_a_failure_after_the_confirmation_is_not_forgotten() -> None:
    # The server has the acknowledgement and will not deliver again: only a dead letter is left.
    outcome = after(OSError("disk"), 1, confirmed=True)

    assert isinstance(outcome, Dead)
    assert "confirmed" in outcome.reason
