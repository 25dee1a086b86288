"""`fleetcast lanes`, `lane show`, `trigger`, `pause`, `resume`, `withdraw`, and what `why` tells of a lane."""

from datetime import UTC, datetime

from pydantic import ValidationError

from fleetcast.bus import Bus, patience
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, NotFound, ServiceFailed
from fleetcast.cli.call import Call
from fleetcast.cli.connection import connected, target
from fleetcast.cli.narrate import printable
from fleetcast.cli.problems import Exit, Problem, not_found, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.training import lane_tables
from fleetcast.daemons.trainer.lanes import reading
from fleetcast.daemons.trainer.lanes.commands import ASK, ChangeLane, LaneAnswer, LaneView, ListLanes, ShowLane
from fleetcast.daemons.trainer.lanes.loading import Lanes
from fleetcast.events.ids import is_name
from fleetcast.events.training import LANES_SUBJECT

START_ONE = "fleetcast run trainer    (on one or more nodes, with trainer.lanes set)"
SAME_FILES = "next: give all trainers the same lane files (trainer.lanes), and start them again"
DEADLINE_SECONDS = 15.0
"""A person waits this long for a trainer that is just being restarted."""


def listed(call: Call) -> Exit:
    """List lanes."""
    lanes = asked(call, ListLanes()).lanes
    call.out.document({"lanes": [_document(each) for each in lanes]})
    if not lanes:
        call.out.text("no lane")
        call.out.say("next: write one (config/lanes.toml is an example), name it in trainer.lanes, start a trainer")
        return Exit.OK
    call.out.show(lane_tables.listing(lanes))
    differences = lane_tables.differences(lanes)
    for each in differences:
        call.out.text(printable(each))
    if differences:
        call.out.say(SAME_FILES)
    return Exit.OK


def show(call: Call, lane: str) -> Exit:
    """Everything about one lane but the nodes."""
    (view,) = asked(call, _request({"ask": "show", "lane": lane})).lanes
    call.out.document({"lane": _document(view)})
    for each in lane_tables.shown(view):
        call.out.show(each)
    return Exit.OK


def change(call: Call, ask: str, lane: str, *, reason: str | None, dry_run: bool, version: str | None = None) -> Exit:
    """Trigger, pause or resume a lane, or withdraw one of its data sets."""
    if not reason:
        words = " ".join(word for word in (ask, lane, version) if word)
        raise usage("a reason must be said; it stays with the lane", next_step=f"fleetcast {words} --reason TEXT")
    fields = {"ask": ask, "lane": lane, "version": version, "reason": reason, "by": target(call).source}
    answer = asked(call, _request({**fields, "dry_run": dry_run}))
    call.out.document({"message": answer.message, "lanes": [_document(each) for each in answer.lanes]})
    call.out.text(printable(answer.message))
    return Exit.OK


async def view_of(bus: Bus, lane: str) -> LaneView | None:
    """A lane with its nodes, for `why`; None: there is none of that name."""
    if not is_name(lane):
        return None
    try:
        said = await answer(bus, ShowLane(lane=lane, nodes=True))
    except NotFound:
        return None
    return said.lanes[0] if said.lanes else None


def asked(call: Call, request: ListLanes | ShowLane | ChangeLane) -> LaneAnswer:
    """The answer to one request.

    Raises:
        Problem: there is none, or it says no; says why and what to do.
    """
    aim = target(call)

    async def run() -> LaneAnswer:
        async with connected(aim) as bus:
            return await answer(bus, request)

    said = run_async(run())
    if said.outcome == "unknown":
        raise not_found(said.message, next_step=said.next_step)
    if said.outcome == "refused":
        raise Problem("refused", said.message, next_step=said.next_step, exit_code=Exit.REFUSED)
    return said


async def answer(bus: Bus, request: ListLanes | ShowLane | ChangeLane) -> LaneAnswer:
    """As `asked`, over a connection that is there, and whatever it says; what only reads is read from the stream
    where no trainer answers, without what only its lane file says."""
    reads = not isinstance(request, ChangeLane)
    data = request.model_dump_json().encode()
    try:
        said = await patience.ask(
            bus, LANES_SUBJECT, data, deadline_seconds=DEADLINE_SECONDS, wait_for_somebody=not reads, reads=reads
        )
        return LaneAnswer.model_validate_json(said)
    except (NoResponder, BusTimeout, ConnectionLost) as error:
        if isinstance(request, ChangeLane):
            raise Problem(
                "no_trainer",
                "no trainer answers, so nothing was changed",
                why=str(error),
                next_step=f"{START_ONE}; fleetcast doctor says more",
            ) from error
        return await _read(bus, request)
    except ServiceFailed as error:
        raise usage(str(error)) from error
    except ValidationError as error:
        raise Problem("answer", "the trainer's answer cannot be read", why=str(error.errors()[0]["msg"])) from error


async def _read(bus: Bus, request: ListLanes | ShowLane) -> LaneAnswer:
    kept = await reading.views(bus, Lanes({}), datetime.now(UTC))
    views = tuple(each.model_copy(update={"reasons": (reading.UNANSWERED,)}) for each in kept)
    if isinstance(request, ListLanes):
        return LaneAnswer(lanes=views)
    found = tuple(each for each in views if each.lane == request.lane)
    if found:
        return LaneAnswer(lanes=found)
    return LaneAnswer(
        outcome="unknown", message=f"there is no lane {request.lane}", next_step="fleetcast lanes    (lists them)"
    )


def _request(fields: dict[str, object]) -> ListLanes | ShowLane | ChangeLane:
    """The request of *fields*, as typed.

    Raises:
        Problem: one of them cannot be what it is meant to be.
    """
    try:
        return ASK.validate_python({key: value for key, value in fields.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or "the command"
        said = first["msg"].removeprefix("Value error, ")
        raise usage(f"{place}: {said}", next_step="fleetcast lanes") from error


def _document(view: LaneView) -> dict[str, object]:
    return view.model_dump(mode="json", by_alias=True)
