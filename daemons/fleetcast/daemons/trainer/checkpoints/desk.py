"""Answers what is asked about checkpoints: pins, and bringing one to another node."""

import structlog

from fleetcast.daemons.runtime.requests import read_request, refusals
from fleetcast.daemons.trainer.checkpoints.commands import (
    REQUESTS,
    BringCheckpoint,
    CheckpointAnswer,
    PinCheckpoint,
    UnpinCheckpoint,
)
from fleetcast.daemons.trainer.checkpoints.courier import NotBrought
from fleetcast.daemons.trainer.checkpoints.keeper import Checkpoints

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer.checkpoints")


class CheckpointDesk:
    """One trainer's answers; served at `CHECKPOINTS_SUBJECT` by any, at `bring_subject(node)` by the node's own."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints

    async def answer(self, body: bytes) -> bytes:
        """The answer to one request.

        Raises:
            ServiceError: it is none.
        """
        asked = read_request(REQUESTS.validate_json, body)
        with refusals():
            return (await self._do(asked)).model_dump_json().encode()

    async def _do(self, asked: PinCheckpoint | UnpinCheckpoint | BringCheckpoint) -> CheckpointAnswer:
        try:
            match asked:
                case PinCheckpoint():
                    await self._checkpoints.pin(asked.run, asked.path, f"{asked.reason} ({asked.by})")
                    return CheckpointAnswer(outcome="done", message=f"{asked.path} is kept")
                case UnpinCheckpoint():
                    await self._checkpoints.unpin(asked.run, asked.path)
                    return CheckpointAnswer(outcome="done", message=f"{asked.path} is left to the lane's policy")
                case BringCheckpoint():
                    version = await self._checkpoints.bring(asked.run, asked.path, asked.to)
                    log.info("checkpoint.asked_for", run=asked.run, path=asked.path, to=asked.to)
                    return CheckpointAnswer(outcome="done", version=version)
        except KeyError:
            return CheckpointAnswer(outcome="unknown", message=f"run {asked.run} has no checkpoint {asked.path}")
        except NotBrought as refused:
            return CheckpointAnswer(outcome="refused", message=str(refused))
