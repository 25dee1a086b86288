"""A node's checkpoints: committed under the run's claim, resumed from, brought, pinned and deleted.

checkpoints = Checkpoints(bus, store, data, node=node, now=clock.now)
folder = await checkpoints.prepare(run, definition)      # after the claim, before the process
resume = await checkpoints.resume(run)                   # path to go on from, or None
watch = CheckpointWatch(checkpoints, run, definition)    # while the process runs: watch.run(); after it: settle()
"""

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError
from fleetcast.bus.streams import EVENTS, NODES_BUCKET
from fleetcast.daemons.trainer.checkpoints import cadence, durable, places, records
from fleetcast.daemons.trainer.checkpoints.cadence import Advice
from fleetcast.daemons.trainer.checkpoints.courier import Courier, NotBrought
from fleetcast.daemons.trainer.checkpoints.parcel import ParcelRefused
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.folders import rules as folders
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import Cause, NodeStatus
from fleetcast.events.training import CheckpointRecord, TrainingRunState

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer.checkpoints")

FETCH_SECONDS: Final = 600.0
"""How long a checkpoint may take to come: 10 GB at 20 MB/s."""


@dataclass(frozen=True, slots=True)
class Resume:
    """What a run goes on from.

    Attributes:
        path: file or folder on this node; None: from scratch.
        record: its record; None: from scratch.
        passed_over: why newer checkpoints are not taken, one line each.
        lost: there were checkpoints, and none of them can be had here now. To start from scratch would silently throw
            work away: let another node try, or the same one later.
    """

    path: Path | None = None
    record: CheckpointRecord | None = None
    passed_over: tuple[str, ...] = ()

    @property
    def lost(self) -> bool:
        return self.path is None and bool(self.passed_over)


class Checkpoints:
    """Owner of the checkpoints of all runs on this node."""

    def __init__(
        self,
        bus: Bus,
        store: RunStore,
        data: Path,
        *,
        node: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        fetch_seconds: float = FETCH_SECONDS,
    ) -> None:
        self.bus = bus
        self.store = store
        self.data = data
        self.node = node
        self.now = now
        self.courier = Courier(bus, data, node=node, now=now)
        self._fetch_seconds = fetch_seconds

    # -- before the process

    def folder(self, run: str, definition: LaneDefinition) -> Path:
        """Where a run writes its checkpoints on this node."""
        return places.checkpoint_folder(self.data, run, definition)

    async def prepare(self, run: TrainingRunState, definition: LaneDefinition) -> Path:
        """The folder for checkpoints, made ready for a new claim of this node.

        In a folder of the run's own, what an older claim of this node left behind is set aside when another node had
        the run since: it belongs to a past that the run does not have. It is kept, in `stale-<claim>`.

        Raises:
            OSError: the folder cannot be made.
        """
        folder = self.folder(run.run, definition)
        before = run.attempts[-2].node if len(run.attempts) > 1 else self.node
        own = definition.checkpoints.folder is None
        if own and before != self.node:
            await asyncio.to_thread(_set_aside, folder, self._mine(run), run.claim)
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        return folder

    async def resume(self, run: TrainingRunState) -> Resume:
        """What the run goes on from: the newest committed checkpoint that is whole, fetched where another node has it.

        Never the highest number: what was not committed under a claim may be of any age, or half there.
        """
        passed = []
        # What the record points to comes first, whatever lies beside it.
        order = [c for c in (run.checkpoint,) if c is not None]
        order += [c for c in run.checkpoints if not any(records.is_same(c, o) for o in order)]
        for record in order:
            try:
                path = await self.ensure_here(run.run, record)
            except (NotBrought, OSError) as lost:
                passed.append(str(lost))
                log.warning("checkpoint.passed_over", run=run.run, path=record.path, node=record.node, reason=str(lost))
                continue
            return Resume(path, record, tuple(passed))
        return Resume(passed_over=tuple(passed))

    async def ensure_here(self, run: str, record: CheckpointRecord) -> Path:
        """A committed checkpoint on this node, whole.

        Raises:
            NotBrought: it is damaged here, and no other node brings it.
            OSError: there is no space for it.
        """
        damage = ""
        if record.node == self.node:
            damage = await asyncio.to_thread(durable.damage, record)
            if not damage:
                return Path(record.path)
        if record.version is not None and (here := await self.courier.unpacked(run, record.version)) is not None:
            return here
        if damage and not set(record.nodes) - {self.node}:
            raise NotBrought(damage)
        path, version = await self.courier.fetch(run, record, timeout_seconds=self._fetch_seconds)
        await self._note_here(run, version)
        return path

    async def _note_here(self, run: str, version: str) -> None:
        """This node holds a version now, and can bring it to others."""
        try:
            order = await self.courier.order(run, version)
            if order is not None:
                await self.note_copy(run, self.node, version, order.artifact)
        except (BusError, KeyError) as away:
            log.info("checkpoint.copy_not_noted", run=run, node=self.node, reason=str(away))

    def cadence(self, run: TrainingRunState, definition: LaneDefinition, others: Sequence[TrainingRunState]) -> Advice:
        """How often the run should save; *others*: runs of the lane, whose failures tell about its nodes."""
        cost = cadence.save_cost(run.checkpoints)
        if cost is None:
            cost = next((c for each in others if (c := cadence.save_cost(each.checkpoints)) is not None), None)
        known = {each.run: each for each in (*others, run)}
        return cadence.advise(
            cost, cadence.mtbf(known.values(), self.now()), definition.checkpoints.max_lost_work_seconds
        )

    # -- while it runs

    async def commit(self, run: str, claim: int, record: CheckpointRecord) -> TrainingRunState:
        """Have the run go on from *record* from now on.

        Raises:
            ClaimLost: another claim holds the run; the checkpoint is nobody's.
            BusUnavailable: not stored before the publish deadline.
            RecordDamaged: what is there cannot be read.
        """

        def decide(there: TrainingRunState) -> TrainingRunState | None:
            kept = records.with_committed(there, record)
            newest = kept[0]
            if kept == there.checkpoints and there.checkpoint == newest:
                return None
            return rules.with_checkpoint(there, newest, kept, self.now())

        return (await self.store.change_held(run, claim, decide)).run

    async def note_copy(self, run: str, node: str, version: str, artifact: str) -> None:
        """Another node holds a version; whoever owns the run, it is true. Errors as `commit`, but for the claim."""
        await self.note_copies(run, ((node, version, artifact),))

    async def note_copies(self, run: str, held: Sequence[tuple[str, str, str]]) -> None:
        """As `note_copy`, of several at once: each is node, version and artifact."""

        def decide(there: TrainingRunState) -> TrainingRunState | None:
            kept = there.checkpoints
            for node, version, artifact in held:
                kept = tuple(records.held_by(c, node, version, artifact) for c in kept)
            if kept == there.checkpoints:
                return None
            return _pointing(there, kept)

        await self.store.change(run, decide)

    async def note_version(self, run: str, record: CheckpointRecord, version: str) -> None:
        """A checkpoint was packed as *version*; errors as `note_copy`."""

        def decide(there: TrainingRunState) -> TrainingRunState | None:
            kept = records.changed(there, record, lambda c: c.model_copy(update={"version": version}))
            return None if kept == there.checkpoints else _pointing(there, kept)

        await self.store.change(run, decide)

    async def prune(
        self, run: str, claim: int, definition: LaneDefinition, *, besides: CheckpointRecord | None = None
    ) -> list[str]:
        """Delete what need not be kept; the record first, so that it never names what is gone. Errors as `commit`.

        Args:
            besides: stays as well: the process of the claim was started to go on from it, and may not have read it yet.

        Returns:
            Paths that were deleted on this node.
        """
        policy = records.retention_of(definition)
        others_bytes = await self._others_bytes(run, definition) if policy.quota_bytes is not None else 0
        gone: list[CheckpointRecord] = []

        def decide(there: TrainingRunState) -> TrainingRunState | None:
            expendable = (j.record for j in records.expendable(there, policy, others_bytes=others_bytes))
            gone[:] = [each for each in expendable if besides is None or not records.is_same(each, besides)]
            return records.without(there, gone) if gone else None

        kept = (await self.store.change_held(run, claim, decide)).run
        return await self._gone(kept, gone, definition)

    async def tidy(self, definition: LaneDefinition) -> list[str]:
        """Delete what runs of a lane left on this node that ended before the newest few did; returns and errors as
        `prune`."""
        runs = [run for run in await self.store.runs() if run.lane == definition.name]
        deleted = []
        for run, going in records.outlived(runs, definition).items():
            mine = [record for record in going if record.node == self.node]
            if mine:
                kept = (await self.store.change(run, lambda there, gone=mine: records.without(there, gone))).run  # type: ignore[misc]
                deleted += await self._gone(kept, mine, definition)
        over = {run.run for run in records.long_over(runs, definition)}
        await asyncio.to_thread(_clear, [places.run_folder(self.data, run) for run in over])
        return deleted

    async def forget(self, run: str, folder: Path) -> bool:
        """Take the checkpoints in a folder of this node out of the record of a run that has ended, before the folder
        goes: a record never names what is gone. False: the folder has to stay, the record changed. Errors as
        `note_copy`, and KeyError: there is no such run."""
        gone: list[CheckpointRecord] = []

        def decide(there: TrainingRunState) -> TrainingRunState | None:
            gone[:] = folders.lying_in(there, folder, self.node)
            free = there.ended_at is not None and not folders.pinned(there, self.node)
            return records.without(there, gone) if free and gone else None

        kept = (await self.store.change(run, decide)).run
        if kept.ended_at is None or folders.pinned(kept, self.node):
            return False
        await self._give_back(run, gone, kept)
        return True

    async def _gone(
        self, kept: TrainingRunState, gone: Sequence[CheckpointRecord], definition: LaneDefinition
    ) -> list[str]:
        gone = [record for record in gone if not any(records.is_same(record, c) for c in kept.checkpoints)]
        mine = [record for record in gone if record.node == self.node]
        deleted = await asyncio.to_thread(_delete, mine, self.folder(kept.run, definition))
        if deleted:
            log.info("checkpoints.deleted", run=kept.run, paths=deleted, kept=len(kept.checkpoints))
        await self._give_back(kept.run, gone, kept)
        return deleted

    async def _others_bytes(self, run: str, definition: LaneDefinition) -> int:
        """Bytes of the lane's other runs on this node."""
        others = [r for r in await self.store.runs() if r.lane == definition.name and r.run != run]
        return sum(c.size for r in others for c in r.checkpoints if c.node == self.node)

    async def release_copies(self, run: TrainingRunState) -> None:
        """Give back copies of all but the newest checkpoint that other nodes hold, and of all when the run ended."""
        copied = [c for c in run.checkpoints if c.version is not None and len(c.nodes) > 1]
        keep = copied[:1] if run.ended_at is None else []
        gone = [c for c in copied if c not in keep and not c.pins]
        versions = await self._give_back(run.run, gone, run)

        def decide(there: TrainingRunState) -> TrainingRunState:
            kept = (records.held_here_only(c) if c.version in versions else c for c in there.checkpoints)
            return _pointing(there, tuple(kept))

        if versions:
            await self.store.change(run.run, decide)

    async def _give_back(self, run: str, gone: Sequence[CheckpointRecord], kept: TrainingRunState) -> set[str]:
        """Have other nodes drop versions that nobody needs any more; those that they were told of."""
        needed = {c.version for c in kept.checkpoints[:1]} if kept.ended_at is None else set()
        versions = {c.version for c in gone if c.version is not None} - needed
        if not versions:
            return set()
        try:
            sequence = await self.bus.last_sequence(EVENTS)
            for version in versions:
                cause = Cause(
                    event=kept.cause.event,
                    sequence=sequence,
                    by=f"/fleet/{self.node}/trainer",
                    correlation=kept.cause.correlation,
                )
                await self.courier.give_back(run, version, cause)
        except BusError as away:
            # They end by themselves.
            log.info("checkpoints.not_given_back", run=run, versions=sorted(versions), reason=str(away))
            return set()
        return versions

    # -- pins and other nodes

    async def pin(self, run: str, path: str, why: str) -> TrainingRunState:
        """Keep a checkpoint whatever the lane's policy says; errors as `note_copy`, and:

        Raises:
            KeyError: there is no such run, or no such checkpoint.
        """
        return await self._change(run, path, lambda c: records.pinned(c, why))

    async def unpin(self, run: str, path: str) -> TrainingRunState:
        """Leave a checkpoint to the lane's policy again; errors as `pin`."""
        return await self._change(run, path, records.unpinned)

    async def _change(
        self, run: str, path: str, change: Callable[[CheckpointRecord], CheckpointRecord]
    ) -> TrainingRunState:
        def decide(there: TrainingRunState) -> TrainingRunState | None:
            record = records.find(there, path)
            if record is None:
                raise KeyError(path)
            kept = records.changed(there, record, change)
            return None if kept == there.checkpoints else _pointing(there, kept)

        return (await self.store.change(run, decide)).run

    async def bring(self, run: str, path: str, to: str) -> str:
        """Have a checkpoint of a run, which lies here, distributed to a node; its version.

        Raises:
            NotBrought: it is not here, is damaged, or is none of the run's.
            TransportFailed: the bus does not answer.
        """
        kept = await self.store.find(run)
        record = None if kept is None else records.find(kept.run, path)
        if record is None:
            raise NotBrought(f"run {run} has no checkpoint {path}")
        source, packed = await asyncio.to_thread(self._source, run, record)
        try:
            sent = await self.courier.send(run, source, [to], reason=f"run {run} goes on there", packed_as=packed)
        except (ParcelRefused, OSError) as refused:
            raise NotBrought(str(refused)) from refused
        await self.note_version(run, record, sent.parcel.version)
        return sent.parcel.version

    def _source(self, run: str, record: CheckpointRecord) -> tuple[Path, bool]:
        """Where a checkpoint lies here, and whether it is packed."""
        damage = f"{record.path} lies on {record.node}"
        if record.node == self.node:
            try:
                damage = durable.damage(record)
            except OSError as lost:
                damage = str(lost)
        if not damage:
            return Path(record.path), False
        if record.version is not None and (here := self.courier.arrived(run, record.version)) is not None:
            return here, True
        raise NotBrought(damage)

    async def push(self, run: str, record: CheckpointRecord, before: Sequence[str], copies: int) -> tuple[str, ...]:
        """Have a new checkpoint brought to other nodes at once, so that it outlives this one; the nodes. None where no
        other trainer is there.

        Raises:
            ParcelRefused: it changed meanwhile: the next one will be brought.
            OSError: there is no space to pack it.
            TransportFailed: the bus does not answer.
        """
        to = records.copies_for(await self._trainers(), record, before, copies)
        if to:
            sent = await self.courier.send(run, Path(record.path), to, reason=f"checkpoint of run {run}")
            await self.note_version(run, record, sent.parcel.version)
        return tuple(to)

    async def _trainers(self) -> list[str]:
        """Nodes whose trainers are there and would take a run: those with a GPU first."""
        found = []
        for entry in await self.bus.kv_entries(NODES_BUCKET):
            if not entry.key.endswith(".trainer"):
                continue
            with contextlib.suppress(ValueError):
                status = NodeStatus.model_validate_json(entry.data)
                leaving = status.reclaim_deadline is not None or bool(status.quarantine)
                if status.state is not DaemonState.STOPPED and not leaving and status.node != self.node:
                    has_gpu = bool(status.gpus) or status.labels.get("gpu", "none") != "none"
                    found.append((not has_gpu, status.node))
        return [node for _, node in sorted(found)]

    def _mine(self, run: TrainingRunState) -> frozenset[str]:
        return frozenset(c.path for c in run.checkpoints if c.node == self.node)


def _pointing(run: TrainingRunState, kept: tuple[CheckpointRecord, ...]) -> TrainingRunState:
    """The run with these checkpoints, and its pointer on the same one as before."""
    to = run.checkpoint
    if to is not None:
        to = next((c for c in kept if records.is_same(c, to)), to)
    return run.model_copy(update={"checkpoints": kept, "checkpoint": to})


def _set_aside(folder: Path, committed: frozenset[str], claim: int) -> None:
    """Move what is not committed out of the way."""
    aside = folder.parent / f"stale-{claim}"
    for path in durable.candidates(folder):
        if str(path) not in committed:
            aside.mkdir(parents=True, exist_ok=True)
            path.rename(aside / path.name)
            log.warning("checkpoint.set_aside", path=str(path), to=str(aside))


def _clear(folders: Sequence[Path]) -> None:
    """Delete what runs that are long over left: also what they never committed, and what was brought here for them."""
    for folder in folders:
        for each in (*folder.glob("stale-*"), folder / "brought", folder / "checkpoints"):
            shutil.rmtree(each, ignore_errors=True)


def _delete(gone: Sequence[CheckpointRecord], folder: Path) -> list[str]:
    """Delete checkpoints in *folder* that are what was recorded; another file under the same name stays."""
    deleted = []
    for record in gone:
        path = Path(record.path)
        seen = durable.see(path)
        if seen is None or seen.size != record.size or not path.is_relative_to(folder):
            continue
        if record.changed_ns and seen.changed_ns != record.changed_ns:
            continue
        try:
            shutil.rmtree(path) if seen.is_folder else path.unlink()
        except OSError as left:
            log.warning("checkpoint.not_deleted", path=record.path, reason=str(left))
            continue
        deleted.append(record.path)
    return deleted
