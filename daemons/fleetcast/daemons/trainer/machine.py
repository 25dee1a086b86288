"""This node as far as runs are concerned, as it is now: what it has, what it has in hand, and what it says of that."""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from fleetcast.config.trainer import TrainerSettings
from fleetcast.daemons.trainer.claims.eligibility import NodeFacts, gpus_for
from fleetcast.daemons.trainer.claims.keeper import Keeper
from fleetcast.daemons.trainer.claims.watching import DISTRIBUTOR, NodeWatch
from fleetcast.daemons.trainer.faults.ward import Ward
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.events.gpus import Gpu
from fleetcast.events.training import TrainingRunState, WorkClass

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

DISK_SECONDS = 10.0


def limits_of(settings: TrainerSettings, gpus: tuple[Gpu, ...]) -> dict[str, int]:
    """Runs that a node takes at once, by class."""
    gpu_runs = settings.gpu_runs if settings.gpu_runs is not None else max(1, len(gpus))
    return {
        WorkClass.GPU.value: gpu_runs,
        WorkClass.CPU.value: settings.cpu_runs,
        WorkClass.CONTROL.value: settings.control_runs,
    }


class Here:
    """This node.

    Attributes:
        deadline: when its machine is taken away (RFC 3339); None: it stays. Said by whoever hears of notices.
        told: called when the heartbeat has something new to say.
    """

    def __init__(
        self,
        node: str,
        settings: TrainerSettings,
        data: Path,
        labels: Mapping[str, str],
        *,
        nodes: NodeWatch,
        ward: Ward,
    ) -> None:
        self.deadline: Callable[[], str | None] = lambda: None
        self._node = node
        self._settings = settings
        self._data = data
        self._labels = labels
        self._nodes = nodes
        self._ward = ward
        self._keeper: Keeper | None = None
        self._disk_free: int | None = None
        self.told: Callable[[], None] = lambda: None

    def changed(self) -> None:
        """The next heartbeat would differ: it is sent now."""
        self.told()

    def holds(self, keeper: Keeper) -> None:
        """What is in hand is told by *keeper*."""
        self._keeper = keeper

    @property
    def busy_on_gpu(self) -> bool:
        """Whether a run computes on a GPU of this node."""
        # Of which nobody knows yet: it may.
        return self._keeper is not None and any(each.gpus is None or each.gpus for each in self._keeper.owned.values())

    def gpus(self, indices: tuple[int, ...]) -> tuple[Gpu, ...]:
        """Those of these indices."""
        return tuple(gpu for gpu in self._ward.gpus if gpu.index in indices)

    def gpus_for(self, lane: LaneDefinition, run: TrainingRunState) -> tuple[int, ...] | None:
        """The GPUs that a run gets which is ours already, and has none yet; None: there are not enough of them."""
        return gpus_for(lane, run, self.facts())

    def facts(self) -> NodeFacts:
        """As the claims want it: what the distributor last said, and what is known here, which is newer."""
        said = self._nodes.status(self._node, DISTRIBUTOR)
        gpus = self._ward.gpus
        return NodeFacts(
            node=self._node,
            labels={**self._labels, **(said.labels if said is not None else {})},
            artifacts=frozenset(v.artifact for line in (said.models if said else ()) for v in line.installed),
            gpus=gpus,
            runs=self._keeper.reported if self._keeper is not None else (),
            limits=limits_of(self._settings, gpus),
            disk_free=self._disk_free,
            drained=said is not None and said.drained,
            quarantine=self._ward.quarantine,
            reclaim_deadline=self.deadline(),
            arch_list=self._ward.arch_list,
        )

    def said(self) -> dict[str, Any]:
        """Its part of the heartbeat."""
        facts = self.facts()
        return {
            "labels": dict(self._labels),
            "gpus": facts.gpus,
            "arch_list": facts.arch_list,
            "runs": facts.runs,
            "limits": dict(facts.limits),
            "disk_free": facts.disk_free,
            "quarantine": facts.quarantine,
            "reclaim_deadline": facts.reclaim_deadline,
        }

    def sentence(self) -> str:
        """What it has in hand, for people."""
        runs = self._keeper.reported if self._keeper is not None else ()
        if not runs:
            return "no run"
        first = runs[0]
        more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        return f"{first.run} {first.phase} on {first.device or 'no device yet'}{more}"

    async def watch_disk(self) -> None:
        """Look at the free space now and then, until cancelled."""
        while True:
            await self.look_at_disk()
            await asyncio.sleep(DISK_SECONDS)

    async def look_at_disk(self) -> None:
        """One look."""
        try:
            self._disk_free = (await asyncio.to_thread(shutil.disk_usage, self._data)).free
        except OSError as fault:
            log.warning("disk.unreadable", path=str(self._data), reason=str(fault))
            self._disk_free = None
