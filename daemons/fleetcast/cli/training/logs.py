"""`fleetcast logs RUN`: what a run prints, from the node that has it, over the bus."""

import asyncio
import json
from dataclasses import dataclass, field

from fleetcast.bus import Bus, TransportFailed
from fleetcast.bus.errors import NoResponder, NotFound, ServiceFailed
from fleetcast.bus.streams import TRAINING
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.narrate import printable
from fleetcast.cli.problems import Exit, Problem, not_found
from fleetcast.cli.running import run_async
from fleetcast.daemons.trainer.supervision.service import LogPiece, LogsAnswer, LogsRequest
from fleetcast.events.ids import is_name
from fleetcast.events.training import TRAINING_ENDED, TrainingRunState, logs_subject, training_subject
from fleetcast.registry.book import read

POLL_SECONDS = 0.5
STREAMS = ("stdout", "stderr")
_SHORT = {"stdout": "out", "stderr": "err"}
_LIST = "fleetcast runs    (lists them)"


def run(call: Call, name: str, *, follow: bool, node: str | None, lines: int) -> Exit:
    """Print the last *lines* lines of each log of a run, and with *follow* what comes, until the run has ended."""
    if not is_name(name):
        raise not_found(f"{name} is not the name of a run", next_step=_LIST)
    return run_async(_print(call, target(call), Following(name, follow, node, lines)))


@dataclass
class Following:
    """What is asked for, and how far it has been printed.

    Attributes:
        wanted: the node that was named; None: the one that has the run.
        node: whose logs are being printed.
        at: offset per stream to go on from; None: from the last lines.
        begun: start of a line per stream whose end has not come yet.
        silent: the node does not answer, and that has been said.
    """

    run: str
    follow: bool
    wanted: str | None
    lines: int
    node: str | None = None
    at: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(STREAMS))
    begun: dict[str, bytes] = field(default_factory=lambda: dict.fromkeys(STREAMS, b""))
    silent: bool = False

    def request(self) -> bytes:
        """The next question to the node."""
        return LogsRequest(run=self.run, lines=self.lines, **self.at).model_dump_json().encode()

    def move(self, node: str) -> None:
        """Another node has the run now: its logs are read from their beginning."""
        first = self.node is None
        self.node = node
        self.at = dict.fromkeys(STREAMS, None if first else 0)
        self.begun = dict.fromkeys(STREAMS, b"")


async def _print(call: Call, aim: Target, following: Following) -> Exit:
    async with connected(aim) as bus:
        while True:
            # Before the question: of a run that has ended, the answer then holds all that it printed.
            state = await _state(bus, following)
            over = not following.follow or (state is not None and state.phase in TRAINING_ENDED)
            answer = await _ask(call, bus, following, over=over) if _find_node(call, following, state) else None
            more = answer is not None and _show(call, following, answer)
            if answer is not None and not more and (over or (state is None and answer.end is not None)):
                _finish(call, following, answer)
                return Exit.OK
            if not more:
                await asyncio.sleep(POLL_SECONDS)


async def _state(bus: Bus, following: Following) -> TrainingRunState | None:
    """What is kept of the run; None: nothing."""
    try:
        entry = await bus.last(TRAINING, training_subject(following.run))
    except NotFound:
        entry = None
    except TransportFailed:
        if following.node is None:
            raise
        entry = None
    return read(TrainingRunState, entry) if entry is not None else None


def _find_node(call: Call, following: Following, state: TrainingRunState | None) -> bool:
    """Settle whose logs are read; False: nobody has the run yet, and it is waited for.

    Raises:
        Problem: nobody knows the run, or nobody has it and nobody waits.
    """
    node = following.wanted or (node_of(state) if state is not None else None)
    if node is None and following.node is not None:
        return True
    if node is None and state is None:
        why = "only runs that a lane started have logs on a node; other jobs keep their own"
        raise not_found(f"no lane has started a run {following.run}", why=why, next_step=_LIST)
    if node is None:
        if not following.follow:
            raise not_found(
                f"no node has had {following.run} yet",
                why=f"it is {state.phase.value}: {state.phase_detail}" if state is not None else "",
                next_step=f"fleetcast why {following.run}, or fleetcast logs {following.run} --follow",
            )
        return False
    if node != following.node:
        if following.node is not None:
            call.out.say(f"{following.run} goes on on {node}")
        following.move(node)
    return True


def node_of(state: TrainingRunState) -> str | None:
    """The node whose logs tell most of a run: that has it, or had it last."""
    if state.owner is not None:
        return state.owner
    return state.attempts[-1].node if state.attempts else None


async def _ask(call: Call, bus: Bus, following: Following, *, over: bool) -> LogsAnswer | None:
    """One answer; None: there was none, and one who follows what is not *over* goes on asking.

    Raises:
        Problem: there is none, says why.
    """
    assert following.node is not None
    try:
        answer = LogsAnswer.model_validate_json(await bus.request(logs_subject(following.node), following.request()))
    except (NoResponder, TransportFailed) as error:
        if not over and any(at is not None for at in following.at.values()):
            if not following.silent:
                call.out.say(f"the trainer of {following.node} does not answer; its run goes on without it")
            following.silent = True
            return None
        raise Problem(
            "no_trainer",
            f"the trainer of {following.node} does not answer",
            why=str(error),
            next_step=f"on {following.node}: fleetcast run trainer",
        ) from error
    except ServiceFailed as error:
        if error.code == 404:
            if not over and following.wanted is None:
                # It has claimed the run and has not come to start it.
                return None
            raise not_found(str(error), next_step=_LIST) from error
        raise Problem("logs", str(error), next_step=f"fleetcast logs {following.run} --debug") from error
    following.silent = False
    return answer


def _show(call: Call, following: Following, answer: LogsAnswer) -> bool:
    """Print what came; whether there is more already."""
    more = False
    for stream in STREAMS:
        piece: LogPiece = getattr(answer, stream)
        asked, data = following.at[stream], piece.data
        if asked is not None and piece.start > asked and data:
            call.out.say(f"{piece.start - asked} bytes of {stream} are not kept any more")
            following.begun[stream] = b""
        _lines(call, following, stream, piece.start, data)
        following.at[stream] = piece.start + len(data)
        more = more or piece.start + len(data) < piece.end
    return more


def _lines(call: Call, following: Following, stream: str, start: int, data: bytes) -> None:
    at = start - len(following.begun[stream])
    *whole, following.begun[stream] = (following.begun[stream] + data).split(b"\n")
    for line in whole:
        _line(call, following, stream, at, line)
        at += len(line) + 1


def _line(call: Call, following: Following, stream: str, at: int, line: bytes) -> None:
    said = line.decode(errors="replace")
    document = {"run": following.run, "node": following.node, "stream": stream, "offset": at, "text": said}
    # As a terminal shows it: a progress bar has drawn itself many times on one line.
    shown = printable(said.rstrip("\r").rpartition("\r")[2].expandtabs())
    call.out.record(json.dumps(document), f"{_SHORT[stream]} {shown}")


def _finish(call: Call, following: Following, answer: LogsAnswer) -> None:
    for stream in STREAMS:
        if rest := following.begun[stream]:
            at = following.at[stream] or 0
            _line(call, following, stream, at - len(rest), rest)
    if answer.end is not None:
        call.out.say(f"{following.run}, claim {answer.claim} on {answer.node}: {answer.end}")
