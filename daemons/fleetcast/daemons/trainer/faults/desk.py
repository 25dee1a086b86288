"""The desk of faults: the end of a run's process becomes a judgement, and the node's record knows of it first.

The node's record is written before the run's: a trainer that dies between the two judges again after its restart, and
comes to the same; the other way round a broken GPU could be given the next run.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import structlog

from fleetcast.daemons.trainer.faults import kernel
from fleetcast.daemons.trainer.faults.book import QuarantineBook
from fleetcast.daemons.trainer.faults.guidance import found
from fleetcast.daemons.trainer.faults.judging import Judgement, judge
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.daemons.trainer.supervision.spec import Exit
from fleetcast.events.gpus import Gpu
from fleetcast.events.runs import FaultClass
from fleetcast.events.training import TrainingRunState

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

KERNEL_SLACK_SECONDS: Final = 300.0
"""A run that ended while the daemon was away is judged so much later at most, for the kernel's messages to be its."""


class FaultDesk:
    """Judges the ends of this node's runs."""

    def __init__(
        self,
        book: QuarantineBook,
        *,
        node: str,
        now: Callable[[], datetime],
        gpus: Callable[[], tuple[Gpu, ...]] = tuple,
        arch_list: Callable[[], tuple[str, ...]] = tuple,
        read_kernel: Callable[[float], tuple[str, ...]] = kernel.read,
    ) -> None:
        self._book = book
        self._node = node
        self._now = now
        self._gpus = gpus
        self._arch_list = arch_list
        self._read_kernel = read_kernel

    async def judge(
        self,
        run: TrainingRunState,
        lane: LaneDefinition,
        exit: Exit,  # noqa: A002
        *,
        env: Mapping[str, str],
        using: tuple[int, ...] = (),
        others: int | None = None,
    ) -> Judgement:
        """What is made of *exit* of *run*, which this node owns; the same again when it is asked again.

        Args:
            env: the environment of its process.
            using: indices of the GPUs that it computed on; empty: not known, or none.
            others: how many other nodes could take it on a GPU now; None: not known.

        Raises:
            ValueError: it ended as it should.
            BusUnavailable: the node's record could not be written.
            RecordDamaged: it cannot be read.
        """
        gpus = tuple(gpu for gpu in self._gpus() if not using or gpu.index in using)
        what, now = found(env, gpus, self._arch_list()), self._now()

        def judged() -> Judgement:
            lines = self._read_kernel(exit.seconds + KERNEL_SLACK_SECONDS)
            mine = kernel.of_gpus(lines, [gpu.pci for gpu in gpus if gpu.pci])
            return judge(run, lane, exit, node=self._node, kernel=mine, found=what, others=others, now=now)

        # Reads the kernel's messages, and the table of signatures once.
        made = await asyncio.to_thread(judged)
        if made.fault.fault_class is not FaultClass.PREEMPTED:
            await self._book.record(self._node, made.on_node, made.decision.quarantine, gpu=made.fault.gpu)
        log.warning(
            "run.fault",
            run=run.run,
            claim=run.claim,
            fault_class=made.fault.fault_class.value,
            signature=made.fault.signature,
            remedy=made.decision.remedy.value,
            reason=made.fault.reason,
            decided=made.decision.detail,
            guidance=made.guidance,
        )
        return made
