"""Looks at one run's checkpoints while its process runs: what is durable is committed, what need not be kept is
deleted, and the newest is brought to another node.

A checkpoint is noticed because the job says so, or because it lies in the lane's folder. The folder is looked at as
often as a person would; what the job says is read from the stream, also what it said before this daemon was started.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from fleetcast.bus import Entry
from fleetcast.bus.errors import BusError
from fleetcast.bus.streams import EVENTS
from fleetcast.daemons.trainer.checkpoints import durable, places, records
from fleetcast.daemons.trainer.checkpoints.durable import Seen
from fleetcast.daemons.trainer.checkpoints.keeper import Checkpoints
from fleetcast.daemons.trainer.checkpoints.parcel import ParcelRefused
from fleetcast.daemons.trainer.claims.rules import ClaimLost
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.events import names
from fleetcast.events.envelope import EventInvalid, new_event
from fleetcast.events.payloads import DistributionOrdered, Payload, VersionInstalled
from fleetcast.events.runs import RunCheckpointSaved, RunEpochLogged
from fleetcast.events.training import CheckpointRecord, TrainingRunState
from fleetcast.registry.commands import stamp
from fleetcast.registry.errors import RecordDamaged

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer.checkpoints")

LOOK_SECONDS: Final = 1.0
"""Between looks at the folder: a checkpoint that nobody announced is committed two looks after it is complete."""
WORD_SECONDS: Final = 3.0
"""A job that speaks of its checkpoints is waited for this long: its word comes by the spool, a moment after the file,
and only it knows the step."""
LAST_WORD_SECONDS: Final = 1.0
"""The same after its end, when another node waits for the run."""
FAILED_SECONDS: Final = 5.0
"""Before a watch begins anew that failed."""
OTHERS: Final = "watched.json"
"""What lay in a lane's folder before the run came, beside the run's other files."""


@dataclass
class _Known:
    """What the job has said.

    Attributes:
        announced: the newest announcement of each path.
        metrics: of each epoch.
        epoch: the newest.
        speaks: whether it says anything of itself.
    """

    announced: dict[str, RunCheckpointSaved] = field(default_factory=dict)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    epoch: int = 0
    speaks: bool = False


class CheckpointWatch:
    """One run under one claim of this node.

    Attributes:
        saved: set whenever a checkpoint was committed.
        newest: what the run would go on from; None: from scratch.
        commits: how many were committed under this claim by this watch.
    """

    def __init__(self, checkpoints: Checkpoints, run: TrainingRunState, definition: LaneDefinition) -> None:
        self.saved = asyncio.Event()
        self.newest: CheckpointRecord | None = run.checkpoint
        self._begun_from = run.checkpoint
        self.commits = 0
        self._of = checkpoints
        self._run, self._claim = run.run, run.claim
        self._correlation = run.cause
        self._definition = definition
        self._folder = checkpoints.folder(run.run, definition)
        self._shared = definition.checkpoints.folder is not None
        self._known = _Known()
        self._seen: dict[Path, Seen] = {}
        self._first_seen: dict[tuple[int, ...], float] = {}
        self._done = {Path(c.path): c for c in run.checkpoints if c.node == checkpoints.node}
        self._others: dict[str, list[int]] | None = None
        self._said: set[str] = set()
        self._look = asyncio.Event()
        self._looking = asyncio.Lock()
        self._copied: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()
        self._to_push: asyncio.Queue[CheckpointRecord] = asyncio.Queue()
        self._copies_on: tuple[str, ...] = tuple(run.checkpoint.nodes[1:]) if run.checkpoint is not None else ()

    async def run(self) -> None:
        """Watch until cancelled. What nobody has thought of is told and outlived: a run whose checkpoints nobody
        commits would lose all its work with its node.

        Raises:
            ClaimLost: another claim holds the run.
        """
        while True:
            try:
                await self._watch()
            except ExceptionGroup as several:
                lost = several.subgroup(ClaimLost)
                if lost is not None:
                    # Whoever waits for this knows the loss by its own name, and ends the process for it.
                    raise lost.exceptions[0] from several
                log.exception("checkpoints.watch_failed", run=self._run, again_seconds=FAILED_SECONDS)
            await asyncio.sleep(FAILED_SECONDS)

    async def _watch(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(), name=f"checkpoints of {self._run}: events")
            tasks.create_task(self._copy(), name=f"checkpoints of {self._run}: copies")
            tasks.create_task(self._note_copies(), name=f"checkpoints of {self._run}: holders")
            tasks.create_task(self._tidy(), name=f"checkpoints of {self._run}: tidying")
            while True:
                await self._try()
                self._look.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._look.wait()

    async def settle(self) -> CheckpointRecord | None:
        """The process has ended: commit what it left, whole; what the run goes on from.

        Raises:
            ClaimLost: another claim holds the run.
            BusUnavailable: it could not be committed.
        """
        await self._catch_up()
        until = time.monotonic() + LAST_WORD_SECONDS
        while self._known.speaks and time.monotonic() < until and await self._lacks_a_word():
            await asyncio.sleep(LAST_WORD_SECONDS / 10)
            await self._catch_up()
        await self._commit_all(quiet=True)
        return self.newest

    async def _lacks_a_word(self) -> bool:
        """Whether there is a checkpoint of which its job has said nothing yet."""
        async with self._looking:
            found = await asyncio.to_thread(self._survey, quiet=True)
        return any(str(seen.path) not in self._known.announced for seen in found)

    async def _try(self) -> None:
        try:
            await self._commit_all(quiet=False)
        except (BusError, RecordDamaged, OSError) as problem:
            # What was not committed is found again at the next look.
            log.warning("checkpoints.not_committed", run=self._run, reason=str(problem))

    # -- what lies there

    async def _commit_all(self, *, quiet: bool) -> None:
        async with self._looking:
            found = await asyncio.to_thread(self._survey, quiet=quiet)
            for seen in found:
                await self._commit(seen)

    def _survey(self, *, quiet: bool) -> list[Seen]:
        """Durable checkpoints that are not committed, the oldest first."""
        others = self._others_there()
        announced = {Path(path): said for path, said in self._known.announced.items()}
        places_ = {*durable.candidates(self._folder), *(p for p in announced if p.is_relative_to(self._folder))}
        found = []
        for path in places_:
            seen = durable.see(path)
            if seen is None or list(seen.stamp) == others.get(path.name) or self._is_done(seen):
                continue
            said = announced.get(path)
            same = path in self._seen and self._seen[path].stamp == seen.stamp
            verdict = durable.judge(seen, announced_bytes=said.size if said is not None else None, quiet=quiet or same)
            self._seen[path] = seen
            if verdict.durable:
                # A job that tells of it does so a moment later, and only the job knows the step.
                if said is not None or quiet or (same and not self._is_waited_for(seen)):
                    found.append(seen)
            elif quiet or (same and not self._is_waited_for(seen)):
                self._say_once(path, verdict.why)
        return sorted(found, key=lambda seen: (seen.changed_ns, seen.path))

    def _others_there(self) -> dict[str, list[int]]:
        """What lay in a lane's folder, which runs share, before this run came: it is not this run's."""
        if not self._shared:
            return {}
        if self._others is None:
            note = places.run_folder(self._of.data, self._run) / OTHERS
            try:
                self._others = dict(json.loads(note.read_text()))
            except (OSError, ValueError):
                present = [durable.see(path) for path in durable.candidates(self._folder)]
                mine = {str(path) for path in self._done}
                self._others = {
                    s.path.name: list(s.stamp) for s in present if s is not None and str(s.path) not in mine
                }
                note.parent.mkdir(parents=True, exist_ok=True)
                note.write_text(json.dumps(self._others))
        return self._others

    def _is_waited_for(self, seen: Seen) -> bool:
        first = self._first_seen.setdefault(seen.stamp, time.monotonic())
        return self._known.speaks and time.monotonic() < first + WORD_SECONDS

    def _is_done(self, seen: Seen) -> bool:
        done = self._done.get(seen.path)
        return done is not None and (done.size, done.changed_ns) == (seen.size, seen.changed_ns)

    def _say_once(self, path: Path, why: str) -> None:
        if (note := f"{path} {why}") not in self._said:
            self._said.add(note)
            log.info("checkpoint.not_taken", run=self._run, path=str(path), reason=why)

    async def _commit(self, seen: Seen) -> None:
        record = await asyncio.to_thread(self._record, seen)
        if record is None:
            return
        run = await self._of.commit(self._run, self._claim, record)
        self._done[seen.path] = record
        self.newest = run.checkpoint
        self.commits += 1
        self.saved.set()
        log.info(
            "checkpoint.committed",
            run=self._run,
            claim=self._claim,
            path=record.path,
            step=record.step,
            epoch=record.epoch,
            bytes=record.size,
        )
        if str(seen.path) not in self._known.announced:
            await self._announce(record)
        await self._of.prune(self._run, self._claim, self._definition, besides=self._begun_from)
        self._to_push.put_nowait(record)

    def _record(self, seen: Seen) -> CheckpointRecord | None:
        """The record of what was seen, made to last; None: it is another one by now."""
        said = self._known.announced.get(str(seen.path))
        sha256 = durable.digest(seen.path)
        durable.make_last(seen.path)
        again = durable.see(seen.path)
        if again is None or again.stamp != seen.stamp:
            return None
        if said is not None and (said.size != seen.size or (said.sha256 and sha256 and said.sha256 != sha256)):
            said = None  # it was said of what lay here before
        epoch = said.epoch if said is not None else self._known.epoch
        metrics = {**self._known.metrics.get(epoch, {}), **(said.metrics if said is not None else {})}
        return CheckpointRecord(
            path=str(seen.path),
            node=self._of.node,
            step=said.step if said is not None else None,
            epoch=epoch,
            claim=self._claim,
            size=seen.size,
            sha256=sha256,
            at=stamp(self._of.now()),
            metric=records.metric_of(self._definition, metrics),
            save_seconds=said.save_seconds if said is not None else None,
            nodes=(self._of.node,),
            changed_ns=seen.changed_ns,
        )

    async def _announce(self, record: CheckpointRecord) -> None:
        """Tell the fleet of a checkpoint that its job did not tell of."""
        payload = RunCheckpointSaved(
            run_id=self._run,
            node=self._of.node,
            claim=self._claim,
            epoch=record.epoch,
            step=record.step,
            path=record.path,
            size=record.size,
            sha256=record.sha256,
        )
        event = new_event(payload, source=f"/fleet/{self._of.node}/trainer")
        self._known.announced[record.path] = payload
        try:
            await self._of.bus.publish(event, deadline_seconds=5.0)
        except BusError as away:
            log.info("checkpoint.not_told", run=self._run, path=record.path, reason=str(away))

    # -- what is said

    def _subjects(self) -> tuple[str, ...]:
        run, line = self._run, places.line_of(self._run)
        wanted = {
            "run.checkpoint.saved": run,
            "run.epoch.logged": run,
            "version.installed": line,
            "distribution.ordered": line,
        }
        return tuple(names.find(name).subject(key) for name, key in wanted.items())

    async def _listen(self) -> None:
        async for entry in self._of.bus.tail(EVENTS, self._subjects(), follow=True):
            if (payload := _payload(entry)) is not None:
                await self._take(payload)

    async def _catch_up(self) -> None:
        """What the job has said until now."""
        try:
            async with asyncio.timeout(10.0):
                subject = names.find("run.checkpoint.saved").subject(self._run)
                async for entry in self._of.bus.tail(EVENTS, (subject,)):
                    if isinstance(payload := _payload(entry), RunCheckpointSaved):
                        await self._take(payload)
        except (BusError, TimeoutError) as away:
            log.warning("checkpoints.events_missed", run=self._run, reason=str(away))

    async def _take(self, payload: Payload) -> None:
        known = self._known
        if isinstance(payload, RunCheckpointSaved):
            if payload.claim in {None, self._claim} and payload.node == self._of.node:
                self._hear(payload)
        elif isinstance(payload, RunEpochLogged):
            known.speaks = True
            known.metrics[payload.epoch] = dict(payload.metrics)
            known.epoch = payload.epoch
        elif isinstance(payload, VersionInstalled):
            # Each costs several questions: one who listens to the job must not wait for them.
            self._copied.put_nowait((payload.node, payload.version, payload.artifact))
        elif isinstance(payload, DistributionOrdered) and payload.origin == self._of.node:
            await self._of.courier.taken(payload.version)

    def _hear(self, said: RunCheckpointSaved) -> None:
        known = self._known
        before = known.announced.get(said.path)
        if before == said:
            return  # said again, or said by this watch itself
        if before is not None and before.step is not None and said.step is None and before.size == said.size:
            return  # said by this watch, which knows less, while the job's own word was on its way
        known.speaks = True
        known.announced[said.path] = said
        known.epoch = said.epoch
        done = self._done.get(Path(said.path))
        if done is not None and done.size == said.size and done.step is None and said.step is not None:
            del self._done[Path(said.path)]  # committed before it was said which step it is
        self._look.set()

    async def _note_copies(self) -> None:
        """Keep the record of who holds what: all that came meanwhile at once, as when a daemon reads again what was
        said before it was started."""
        while True:
            held = [await self._copied.get()]
            while not self._copied.empty():
                held.append(self._copied.get_nowait())
            await self._noted(held)

    async def _noted(self, held: Sequence[tuple[str, str, str]]) -> None:
        try:
            await self._of.note_copies(self._run, held)
            if (kept := await self._of.store.find(self._run)) is not None:
                await self._of.release_copies(kept.run)
        except (BusError, RecordDamaged, KeyError) as problem:
            nodes = sorted({node for node, _, _ in held})
            log.info("checkpoint.copy_not_noted", run=self._run, nodes=nodes, reason=str(problem))

    async def _tidy(self) -> None:
        """A new run is the moment to delete what runs before it left."""
        try:
            await self._of.tidy(self._definition)
        except (BusError, RecordDamaged, KeyError, OSError) as problem:
            log.info("checkpoints.not_tidied", lane=self._definition.name, reason=str(problem))

    # -- other nodes

    async def _copy(self) -> None:
        """Bring the newest checkpoint to other nodes; one that was overtaken meanwhile is left out."""
        copies = self._definition.checkpoints.copies
        while True:
            record = await self._to_push.get()
            while not self._to_push.empty():
                record = self._to_push.get_nowait()
            if not copies:
                continue
            try:
                self._copies_on = await self._of.push(self._run, record, self._copies_on, copies) or self._copies_on
            except (ParcelRefused, OSError, BusError, RecordDamaged, KeyError) as problem:
                log.warning("checkpoint.not_sent", run=self._run, path=record.path, reason=str(problem))


def _payload(entry: Entry) -> Payload | None:
    try:
        return entry.event().payload
    except EventInvalid:
        return None
