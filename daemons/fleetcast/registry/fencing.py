"""The fence: what a run says in the name of a lane has an effect only under the claim that holds the run now, and each
effect only once (M. Kleppmann, "How to do distributed locking", 2016).

A lease cannot promise that one process runs; a compare-and-swap on the run's record promises that one of them is
believed. `judge` decides; `Fence` reads the record, and writes the commit that no later claim can take back.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from fleetcast.bus import Bus
from fleetcast.bus.streams import TRAINING
from fleetcast.events.envelope import Event
from fleetcast.events.names import TRAINING_PREFIX
from fleetcast.events.payloads import ExportCompleted, ModelRegistered, ModelSubmitted, Payload
from fleetcast.events.runs import RunFact
from fleetcast.events.training import TRAINING_OWNED, Commit, TrainingPhase, TrainingRunState, training_subject
from fleetcast.registry.book import Book, stored
from fleetcast.registry.commands import Transition, stamp

COMMITS_KEPT = 1000
"""A run that had more effects than this forgets its oldest: each takes 150 bytes of a message."""
BRIEF_KEPT = 20
"""The same for what it asks of the registry, which some jobs do with every epoch."""


@dataclass(frozen=True, slots=True)
class Speech:
    """What an event says in the name of a run.

    Attributes:
        run, claim: as it says them.
        what: the effect it asks for, the same in every repetition.
        event: its id.
        once: whether another event may not have the same effect again.
        brief: whether it is said again within seconds or never.
    """

    run: str
    claim: int | None
    what: str
    event: str
    once: bool = True
    brief: bool = False


@dataclass(frozen=True, slots=True)
class Stale:
    """Why an event has no effect.

    Attributes:
        winner: who holds the run, or had the effect.
    """

    reason: str
    winner: str
    next_step: str


def speech(event: Event) -> Speech | None:
    """What an event says in the name of a run; None: it speaks for none."""
    payload = event.payload
    if isinstance(payload, RunFact):
        return Speech(payload.run_id, payload.claim, event.type.name, event.id, once=False)
    if not isinstance(payload, (ModelSubmitted, ExportCompleted)) or payload.run_id is None:
        return None
    # Registered again, the same bytes are the same version, and others are refused: that does no harm.
    once = not isinstance(payload, ModelRegistered)
    return Speech(payload.run_id, payload.claim, f"{event.type.name} {_object(payload)}", event.id, once)


def speech_of(transition: Transition) -> Speech | None:
    """What is asked of the registry in the name of a run; None: in that of none. Asked again it is decided anew."""
    if transition.run_id is None:
        return None
    command = transition.command
    about = f"{command.do} {getattr(command, 'model', '') or ''} {getattr(command, 'version', '') or ''}"
    what = " ".join(about.split())
    return Speech(transition.run_id, transition.claim, what, transition.request, once=False, brief=True)


def judge(run: TrainingRunState | None, said: Speech) -> Stale | None:
    """Whether what is said may have its effect; None: it may. *run*: its record, None: no lane started it."""
    if run is None:
        return None if said.claim is None else _unknown(said)
    if any(commit.event == said.event for commit in run.commits):
        return None
    return _claim(run, said) or _doubled(run, said)


def committed(run: TrainingRunState, said: Speech, now: datetime) -> TrainingRunState:
    """The run with this effect noted; the same value where it was noted before, or speaks under no claim."""
    if said.claim is None or any(commit.event == said.event for commit in run.commits):
        return run
    commit = Commit(claim=said.claim, what=said.what, event=said.event, at=stamp(now), brief=said.brief)
    noted = (*run.commits, commit)
    brief = [each.event for each in noted if each.brief]
    forgotten = frozenset(brief[:-BRIEF_KEPT])
    commits = tuple(each for each in noted if each.event not in forgotten)[-COMMITS_KEPT:]
    return run.model_copy(update={"commits": commits, "n": run.n + 1, "at": commit.at})


class Fence:
    """Looks runs up, and writes what they committed."""

    def __init__(self, bus: Bus) -> None:
        self._book = Book(bus, TRAINING, TRAINING_PREFIX)

    async def check(self, event: Event) -> Stale | None:
        """Whether an event may have its effect now; nothing is written.

        Raises:
            TransportFailed: the bus does not answer.
            RecordDamaged: the run's record cannot be read.
        """
        return await self.check_speech(speech(event))

    async def check_speech(self, said: Speech | None) -> Stale | None:
        """As `check`, for what is said in another way than by an event; None: it is said in no run's name."""
        if said is None:
            return None
        found = await self._book.find(training_subject(said.run), TrainingRunState)
        return judge(found.value, said)

    async def commit(self, event: Event) -> Stale | None:
        """Note the effect of an event in its run's record, before it is had; what was noted stays, whoever claims the
        run later. A repetition of the same event is let through.

        Raises:
            BusUnavailable: it could not be written; whether it was is told by the next try.
            RecordDamaged: the run's record cannot be read.
        """
        return await self.commit_speech(speech(event))

    async def commit_speech(self, said: Speech | None) -> Stale | None:
        """As `commit`, for what is said in another way than by an event; None: it is said in no run's name."""
        return None if said is None else await self._book.until_settled(said.run, lambda: self._commit(said))

    async def _commit(self, said: Speech) -> Stale | None:
        found = await self._book.find(training_subject(said.run), TrainingRunState)
        stale = judge(found.value, said)
        if stale is None and found.value is not None:
            after = committed(found.value, said, datetime.now(UTC))
            if after is not found.value:
                await self._book.write([stored(training_subject(said.run), after, found.sequence)])
        return stale


def _object(payload: Payload) -> str:
    if isinstance(payload, ModelSubmitted):
        return f"{payload.model}@{payload.version}"
    assert isinstance(payload, ExportCompleted)
    return f"{payload.lane} {payload.dataset_id or f'{payload.path} {payload.samples_total}'}"


def _unknown(said: Speech) -> Stale:
    return Stale(
        f"no lane started a run {said.run}, of which claim {said.claim} is said",
        "nobody",
        "leave claim out, or say the run that FLEETCAST_RUN_ID names",
    )


def _claim(run: TrainingRunState, said: Speech) -> Stale | None:
    """Who may speak: the newest claim while it holds the run, and after its end, because what it said travels; of a run
    that was cancelled nobody."""
    step = f"fleetcast runs show {run.run}; whoever holds the run now says it again"
    if run.phase is TrainingPhase.CANCELLED:
        return Stale(f"run {run.run} was cancelled", _holder(run), f"fleetcast runs show {run.run}")
    if said.claim is None:
        if run.ended_at is not None:
            return None
        return Stale(f"run {run.run} was started by a lane, and no claim is said", _holder(run), step)
    if said.claim != run.claim:
        return Stale(f"claim {said.claim} of run {run.run} is over", _holder(run), step)
    if run.phase is TrainingPhase.QUEUED:
        return Stale(f"claim {said.claim} of run {run.run} was taken back", _holder(run), step)
    return None


def _doubled(run: TrainingRunState, said: Speech) -> Stale | None:
    if not said.once:
        return None
    first = next((commit for commit in run.commits if commit.what == said.what), None)
    if first is None:
        return None
    return Stale(
        f"run {run.run} had this effect before: {said.what}",
        f"claim {first.claim}, event {first.event}",
        "nothing: it was accepted once; say another version for other bytes",
    )


def _holder(run: TrainingRunState) -> str:
    if run.phase in TRAINING_OWNED:
        return f"claim {run.claim} on {run.owner}"
    if run.phase is TrainingPhase.CANCELLED:
        return f"nobody: {run.phase_detail}"
    return f"claim {run.claim}, {run.phase.value}"
