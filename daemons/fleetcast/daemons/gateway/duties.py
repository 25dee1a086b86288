"""What people who are on call ask of others over the gateway: incidents are theirs, runs end, lanes start or wait."""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleetcast.bus import Bus, patience
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, ServiceFailed
from fleetcast.daemons.gateway.problems import Refused, invalid
from fleetcast.daemons.remedy.incidents.commands import (
    INCIDENTS_SUBJECT,
    Acknowledge,
    IncidentAnswer,
    Note,
    Resolve,
)
from fleetcast.daemons.remedy.incidents.documents import document as incident_document
from fleetcast.daemons.trainer.claims.commands import CancelRun, RunAnswer
from fleetcast.daemons.trainer.lanes.commands import ChangeLane, LaneAnswer
from fleetcast.events.lifecycle import Words
from fleetcast.events.training import LANES_SUBJECT, RUNS_SUBJECT

ANSWER_SECONDS: Final = 10.0
RUN_SHOWN: Final = {"run", "lane", "model", "phase", "phase_detail", "claim", "owner", "ended_at"}
Document = dict[str, Any]


class Because(BaseModel):
    """Why; it stays in the record."""

    model_config = ConfigDict(extra="forbid")

    reason: Words = Field(description="For the record.")


class CancelOrder(Because):
    """Why a run ends, and how."""

    now: bool = Field(default=False, description="Its process gets no time to end by itself.")


class Duties:
    """One request each; made anew for every caller, who stands in the record."""

    def __init__(self, bus: Bus, caller: str) -> None:
        self._bus = bus
        self._actor = f"/fleet/{bus.node}/gateway/{caller}"

    async def incident(self, verb: str, incident: str, reason: str) -> Document:
        """Look after an incident (`ack`), add a line (`note`), or say that it is over (`resolve`).

        Raises:
            Refused: there is none, it cannot be done now, or no remedy daemon answers.
        """
        kinds: dict[str, type[Acknowledge | Note | Resolve]] = {"ack": Acknowledge, "note": Note, "resolve": Resolve}
        order = _order(kinds[verb], incident=incident, actor=self._actor, reason=reason)
        said = await self._asked(INCIDENTS_SUBJECT, order, IncidentAnswer, "remedy")
        if said.outcome in {"unknown", "ambiguous", "refused"}:
            raise _refused(said, code=said.outcome)
        shown = incident_document(said.incidents[0]) if said.incidents else None
        return {"outcome": said.outcome, "message": said.message, "incident": shown}

    async def cancel(self, run: str, reason: str, *, now: bool) -> Document:
        """End a training run; raises Refused."""
        order = _order(CancelRun, run=run, reason=reason, by=self._actor, now=now)
        said = await self._asked(RUNS_SUBJECT, order, RunAnswer, "trainer")
        if said.outcome != "done":
            raise _refused(said, code="ended")
        shown = said.run.model_dump(mode="json", by_alias=True, include=RUN_SHOWN) if said.run else None
        return {"message": said.message, "run": shown}

    async def lane(self, verb: str, lane: str, reason: str) -> Document:
        """Start a run of a lane now (`trigger`), or have it start none (`pause`) or some again (`resume`)."""
        order = _order(ChangeLane, ask=verb, lane=lane, reason=reason, by=self._actor)
        said = await self._asked(LANES_SUBJECT, order, LaneAnswer, "trainer")
        if said.outcome != "done":
            raise _refused(said, code="refused")
        return {"message": said.message}

    async def _asked(self, subject: str, order: BaseModel, kind: Any, daemon: str) -> Any:
        """The answer of whichever daemon gives one; the same request may be asked twice."""
        data = order.model_dump_json(by_alias=True).encode()
        try:
            said = await patience.ask(
                self._bus, subject, data, deadline_seconds=ANSWER_SECONDS, wait_for_somebody=False
            )
            return kind.model_validate_json(said)
        except (NoResponder, BusTimeout, ConnectionLost) as error:
            raise Refused(
                503,
                f"no-{daemon}",
                f"no {daemon} daemon answers, so nothing was changed",
                next_step=f"fleetcast run {daemon}",
                headers={"Retry-After": "2"},
            ) from error
        except ServiceFailed as error:
            if error.code == patience.NOT_NOW:
                raise Refused(503, "not-now", str(error), headers={"Retry-After": "2"}) from error
            raise Refused(422, "invalid", str(error)) from error
        except ValidationError as error:
            raise Refused(502, "damaged", f"the {daemon} daemon's answer cannot be read") from error


def _order(kind: type[BaseModel], **said: object) -> BaseModel:
    """What is asked of a daemon; raises Refused: it cannot be asked so."""
    try:
        return kind.model_validate(said)
    except ValidationError as error:
        raise invalid(error) from error


def _refused(said: IncidentAnswer | RunAnswer | LaneAnswer, *, code: str) -> Refused:
    """A daemon's no: it knows no such thing, or it is not done for the reason that *code* names."""
    status, code = (404, "not-found") if said.outcome == "unknown" else (409, code)
    return Refused(status, code, said.message, next_step=said.next_step)
