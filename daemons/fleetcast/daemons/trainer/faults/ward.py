"""Looks after the GPUs of this node: reads what they say, has them probed when nobody computes on them, ends the node's
quarantine when they pass, and finds GPUs for runs that fell back to the CPU."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import structlog

from fleetcast.bus.errors import BusError
from fleetcast.daemons.trainer.faults import quarantine as rules
from fleetcast.daemons.trainer.faults.book import QuarantineBook
from fleetcast.daemons.trainer.faults.guidance import found, problems
from fleetcast.daemons.trainer.faults.probe import Probed, probe
from fleetcast.daemons.trainer.faults.returning import Candidate, may_return
from fleetcast.daemons.trainer.gpus import GpuReader
from fleetcast.daemons.trainer.gpus.reading import SIMULATED
from fleetcast.events.gpus import Gpu
from fleetcast.events.training import TrainingPhase, TrainingRunState
from fleetcast.registry.commands import stamp
from fleetcast.registry.errors import RecordDamaged

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

AFTER_FAULT_SECONDS: Final = 60.0
"""Between a probe and the next one."""
UNANSWERED_SECONDS: Final = 3600.0
"""Where there is neither torch nor a driver, between looks whether there is one by now."""
_PLAYED: Final = Probed(True, "simulated")


class Ward:
    """The GPUs of this node and what is known against them.

    Attributes:
        arch_list: what the training library was built for; empty: not known.
        known: set once they were read for the first time.
        changed: called when the heartbeat has something new to say.
    """

    def __init__(
        self,
        book: QuarantineBook,
        *,
        node: str,
        now: Callable[[], datetime],
        busy: Callable[[], bool],
        labels: Mapping[str, str] | None = None,
        python: str = sys.executable,
        look_seconds: float = 10.0,
        read: Callable[[], Awaitable[tuple[Gpu, ...]]] | None = None,
        ask: Callable[[], Awaitable[Probed]] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """*busy*: whether a run computes on a GPU of this node now; *python*: the interpreter of the jobs."""
        self.arch_list: tuple[str, ...] = ()
        self.known = asyncio.Event()
        self.changed: Callable[[], None] = lambda: None
        self._book = book
        self._node = node
        self._now = now
        self._busy = busy
        self._look_seconds = look_seconds
        self._read = read or GpuReader(labels).read
        self._ask = ask or (lambda: probe(python))
        self._env = os.environ if env is None else env
        self._seen: tuple[Gpu, ...] = ()
        self._fault = self._mute = ""
        self._proven_at = ""
        self._next_probe = 0.0

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs of this node with all that is known for and against them; for its heartbeat."""
        warning = "; ".join(problems(found(self._env, self._seen, self.arch_list)))
        update = {"warning": warning, "proven_at": self._proven_at}
        told = tuple(
            gpu.model_copy(update=update | {"fault": "; ".join(filter(None, (gpu.fault, self._mute, self._fault)))})
            for gpu in self._seen
        )
        return self._book.marked(self._node, told)

    @property
    def quarantine(self) -> str:
        """Why this node gets no runs at all, and until when; empty: it does. For its heartbeat."""
        return self._book.said(self._node)

    async def run(self) -> None:
        """Look again and again until cancelled."""
        await self._book.known.wait()
        while True:
            await self.look()
            await asyncio.sleep(self._look_seconds)

    async def look(self) -> None:
        """Read the GPUs, probe them if that is due, and end the node's quarantine if it is over."""
        before = self.gpus
        try:
            self._seen, self._mute = await self._read(), ""
        except TimeoutError:
            if not self._mute:
                log.warning("gpus.mute", gpus=len(self._seen))
            # Once it answers again it is to be proven anew.
            self._mute, self._proven_at = "the driver does not answer", ""
        if not self._mute:
            await self._probe_if_due()
        try:
            await self._end_quarantine()
        except (BusError, RecordDamaged) as problem:
            log.info("quarantine.not_ended", reason=str(problem))
        self.known.set()
        if self.gpus != before:
            self.changed()

    async def _probe_if_due(self) -> None:
        """Once at the start, after a fault of this node, and again while they fail."""
        if self._busy() or asyncio.get_running_loop().time() < self._next_probe or not self._is_due():
            return
        said = await self._ask() if any(gpu.vendor != SIMULATED for gpu in self._seen) else _PLAYED
        wait = UNANSWERED_SECONDS if said.ok is None else AFTER_FAULT_SECONDS
        self._next_probe = asyncio.get_running_loop().time() + wait
        self.arch_list = said.arch_list or self.arch_list
        self._fault = f"failed the probe: {said.detail}" if said.ok is False else ""
        # A GPU that nobody can ask may be used, and is not proven: no run that fell back returns to it.
        self._proven_at = stamp(self._now()) if said.ok else ""
        log.info("gpus.probed", ok=said.ok, detail=said.detail, arch_list=list(said.arch_list))

    def _is_due(self) -> bool:
        if not self._seen:
            return False
        if not self._proven_at:
            return True
        record = self._book.of(self._node)
        last = record.last_fault if record is not None else None
        proven = datetime.fromisoformat(self._proven_at)
        waits = record is not None and rules.is_due(record, self._now())
        return waits or (last is not None and datetime.fromisoformat(last.at) >= proven)

    async def _end_quarantine(self) -> None:
        record = self._book.of(self._node)
        if record is None or not rules.is_due(record, self._now()):
            return
        fault = self._mute or self._fault
        if self._seen and record.gpu and (fault or not self._is_proven_since(record.until)):
            if fault:
                await self._book.extend(self._node, fault)
            return
        await self._book.leave(self._node, by="trainer")

    def _is_proven_since(self, until: str | None) -> bool:
        if not self._proven_at or until is None:
            return False
        return datetime.fromisoformat(self._proven_at) >= datetime.fromisoformat(until)


def candidate(node: str, reason: str, gpus: Sequence[Gpu]) -> Candidate:
    """A node as somewhere to return to; *reason*: why it may not take the run, *gpus*: those that it would use."""
    # The least proven of them counts.
    proven = min((gpu.proven_at for gpu in gpus), default="")
    return Candidate(
        node=node,
        reason=reason,
        problems=tuple(dict.fromkeys(gpu.warning for gpu in gpus if gpu.warning)),
        probe=True if proven else None,
        probed_at=datetime.fromisoformat(proven) if proven else None,
    )


async def bring_back(
    runs: Sequence[TrainingRunState],
    *,
    now: Callable[[], datetime],
    candidates: Callable[[TrainingRunState], Sequence[Candidate]],
    leave_cpu: Callable[[TrainingRunState, str], Awaitable[None]],
) -> None:
    """Have each degraded run of *runs* that may go back to a GPU leave the CPU.

    Args:
        runs: that this node owns.
        candidates: nodes that may have a GPU for a run.
        leave_cpu: stops the run after a save and puts it back into the queue, to be claimed on a GPU; gets the reason.
    """
    for run in runs:
        if run.phase is not TrainingPhase.DEGRADED:
            continue
        made = may_return(run, candidates(run), now())
        if made.ok:
            log.info("run.returns", run=run.run, node=made.node)
            await leave_cpu(run, f"a GPU of {made.node} is proven well")
        else:
            log.debug("run.stays_on_cpu", run=run.run, reasons=list(made.reasons))
