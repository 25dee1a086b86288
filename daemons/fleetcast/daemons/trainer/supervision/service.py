"""The logs of runs for whoever asks over the bus: by offsets, so that nothing is said twice and a gap is seen."""

import asyncio
import base64
from pathlib import Path

from pydantic import Field

from fleetcast.bus import ServiceError
from fleetcast.daemons.runtime.requests import read_request
from fleetcast.daemons.trainer.supervision.folder import LOGS, read_state
from fleetcast.daemons.trainer.supervision.reading import Piece, read_last_lines, read_piece
from fleetcast.events.content import Stored
from fleetcast.events.ids import Name

PIECE_BYTES = 192 * 1024
"""Of each log in one answer: two of them, in base64, stay below what a NATS server takes (1 MB)."""
MOST_LINES = 100_000


class LogsRequest(Stored):
    """What is asked.

    Attributes:
        stdout, stderr: offsets to go on from; None: from the beginning of the last `lines` lines.
    """

    run: Name
    stdout: int | None = Field(default=None, ge=0)
    stderr: int | None = Field(default=None, ge=0)
    lines: int = Field(default=200, ge=0, le=MOST_LINES)


class LogPiece(Stored):
    """Part of one log.

    Attributes:
        start: offset of the first byte; greater than was asked for where what lies before is not kept any more.
        end: of the whole log, as it is now.
        data_b64: the bytes as they were written.
    """

    start: int
    end: int
    data_b64: str = ""

    @property
    def data(self) -> bytes:
        """The bytes."""
        return base64.b64decode(self.data_b64)


class LogsAnswer(Stored):
    """What a node has.

    Attributes:
        claim: of the newest start; None: nothing was started yet.
        end: how that ended, in words; None: it has not.
    """

    node: Name
    run: Name
    claim: int | None = None
    end: str | None = None
    stdout: LogPiece
    stderr: LogPiece


class LogDesk:
    """Answers on `events.training.logs_subject(node)`.

    Args:
        runs: folder of the runs of this node, one folder each.
    """

    def __init__(self, runs: Path, node: str) -> None:
        self._runs = runs
        self._node = node

    async def answer(self, body: bytes) -> bytes:
        """Handle a request of the service.

        Raises:
            ServiceError: the request is not one, or this node knows nothing of the run.
        """
        request = read_request(LogsRequest.model_validate_json, body)
        return (await asyncio.to_thread(self._read, request)).model_dump_json().encode()

    def _read(self, request: LogsRequest) -> LogsAnswer:
        folder = self._runs / request.run
        if not folder.is_dir():
            kept = "those of ended runs are kept for trainer.keep_runs_seconds"
            raise ServiceError(404, f"{self._node} has no logs of {request.run}; {kept}")
        # Before the logs: when it says that the run has ended, they are whole.
        state = read_state(folder)
        try:
            pieces = {name: _piece(folder / file, getattr(request, name), request.lines) for name, file in LOGS.items()}
        except OSError as fault:
            raise ServiceError(500, f"{self._node} cannot read the logs of {request.run}: {fault.strerror}") from fault
        return LogsAnswer(
            node=self._node,
            run=request.run,
            claim=state.claim if state else None,
            end=state.exit.text if state and state.exit else None,
            **pieces,
        )


def _piece(path: Path, start: int | None, lines: int) -> LogPiece:
    found: Piece = (
        read_piece(path, start, PIECE_BYTES) if start is not None else read_last_lines(path, lines, PIECE_BYTES)
    )
    return LogPiece(start=found.start, end=found.end, data_b64=base64.b64encode(found.data).decode())
