"""Asks the monitors how versions perform (`fc.svc.monitor.query`), and asks for a rollback on what they say."""

import json
from collections.abc import Mapping
from typing import Any, Final

from fleetcast.bus import Bus, patience
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, ServiceFailed
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.ids import derived_id
from fleetcast.events.incidents import RollbackRequested, Severity
from fleetcast.events.verdicts import MONITOR_QUERY_SUBJECT
from fleetcast.registry.errors import NoMonitor, RecordDamaged, RegistryError
from fleetcast.registry.readmodel.errors import BadQuery, NothingFound

ANSWER_SECONDS: Final = 10.0
"""A model whose monitor was just killed has nobody who answers for it for half a minute: the answer then says so."""
START_ONE: Final = "start one: fleetcast run monitor"

Answer = dict[str, Any]


async def ask(bus: Bus, question: Mapping[str, Any], *, deadline_seconds: float = ANSWER_SECONDS) -> Answer:
    """The monitors' answer to one question; what can be asked is in docs/monitoring.md.

    Raises:
        NoMonitor: no monitor daemon answers, or none judges the model right now.
        NothingFound: nothing of that name is served.
        BadQuery: the question is not understood.
        RegistryError: the daemon failed.
        RecordDamaged: the answer cannot be read.
    """
    data = json.dumps({key: value for key, value in question.items() if value is not None}).encode()
    try:
        answer = await patience.ask(
            bus, MONITOR_QUERY_SUBJECT, data, deadline_seconds=deadline_seconds, wait_for_somebody=False
        )
    except ServiceFailed as e:
        if e.code == patience.NOT_NOW:
            raise NoMonitor(str(e)) from e
        kinds: dict[int, type[RegistryError]] = {400: BadQuery, 404: NothingFound}
        raise kinds.get(e.code, RegistryError)(str(e)) from e
    except (NoResponder, BusTimeout, ConnectionLost) as e:
        raise NoMonitor(f"no monitor daemon answers, so nothing is known of how models perform; {START_ONE}") from e
    return _read(answer)


def _read(data: bytes) -> Answer:
    try:
        answer = json.loads(data)
    except ValueError as e:
        raise RecordDamaged(f"the monitor's answer cannot be read: {e}") from e
    if not isinstance(answer, dict):
        raise RecordDamaged("the monitor's answer is no object")
    return answer


def rollback_request(triggers: Answer, *, source: str, reason: str | None = None) -> Event:
    """The request for a rollback that follows from the answer to `triggers`; asked again of the same slot order it is
    the same event, so that a loop asks once. *reason*: of the person who asked, where one did."""
    model, version = triggers["model_id"], triggers["version"]
    payload = RollbackRequested(
        model=model,
        version=version,
        reasons=tuple(triggers["reasons"])[:50],
        severity=Severity(triggers.get("severity") or Severity.HIGH),
        # Whatever asks by itself counts against the breaker, whichever program it is.
        requested_by="monitor",
        evidence={
            "asked_by": source,
            "window_minutes": triggers["window_minutes"],
            "generation": triggers["generation"],
            **({"reason": reason} if reason else {}),
        },
    )
    place = f"check_rollback_triggers/{model}/{version}/{triggers['generation']}"
    return new_event(payload, source=source, event_id=derived_id(place, "model.rollback.requested.v1", model))
