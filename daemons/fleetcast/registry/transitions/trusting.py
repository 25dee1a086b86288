"""What is kept of how far a model can be trusted."""

from fleetcast.events.decisions import TrustChanged
from fleetcast.events.lifecycle import TrustState, trust_subject
from fleetcast.registry.commands import Transition, Trust
from fleetcast.registry.gates.trust import interval, score, sentence
from fleetcast.registry.transitions.view import Decision, View, refuse


def rate(view: View, transition: Transition, command: Trust) -> Decision:
    """The numbers as they were counted now.

    Raises:
        Refusal: they are those that are kept, or older.
    """
    before = view.trust
    state = TrustState(**command.model_dump(exclude={"do"}), at=view.at)
    if before is not None and (before.counted > state.counted or _same(before, state)):
        refuse(view, f"trust in {view.model} is {sentence(before, view.now)} already", code="nothing")
    low, high = interval(state)
    return Decision(
        action="trust.changed",
        reason=transition.reason,
        writes={trust_subject(view.model): state},
        before=before.model_dump(mode="json", by_alias=True) if before else None,
        after=state.model_dump(mode="json", by_alias=True),
        facts=lambda n: (
            TrustChanged(
                model=view.model,
                promotions=state.promotions,
                rollbacks=state.rollbacks,
                false_alarms=state.false_alarms,
                score=score(state),
                score_low=low,
                score_high=high,
                by=transition.actor,
                n=n,
            ),
        ),
        answer=view.answer("done", f"trust in {view.model} is {sentence(state, view.now)}"),
    )


def _same(before: TrustState, after: TrustState) -> bool:
    changing = {"at", "counted"}
    return before.model_dump(exclude=changing) == after.model_dump(exclude=changing)
