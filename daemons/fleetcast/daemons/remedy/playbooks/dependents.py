"""Who depends on a model: as the monitor's file says, which this daemon reads as well."""

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from fleetcast.config.errors import ConfigError
from fleetcast.config.settings import Settings
from fleetcast.daemons.monitor.loading import load

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.remedy")


class Dependents:
    """Reads them whenever they are to be told: a file that was changed meanwhile counts, and one that cannot be read
    fails the step, where somebody sees it."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.monitor.policy

    async def of(self, model: str) -> tuple[Mapping[str, Any], ...]:
        """The dependents of a model: name, and one of command, webhook and subject.

        Raises:
            ValueError: the file cannot be used.
        """
        if self._path is None:
            return ()
        try:
            policy = await asyncio.to_thread(load, self._path)
        except ConfigError as e:
            raise ValueError(f"monitor.policy: {e}") from e
        return tuple(each.model_dump(exclude_none=True) for each in policy.for_model(model).dependents)
