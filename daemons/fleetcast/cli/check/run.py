"""`fleetcast check`: looks once, within a bounded time, and always answers in the form that was asked for."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Final, Literal

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError
from fleetcast.cli.call import Call
from fleetcast.cli.check import shown
from fleetcast.cli.check.rules import Backup, Check, Found, State, aged, checks, unreachable, worst
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.live import watched
from fleetcast.cli.problems import Problem
from fleetcast.cli.running import run_async
from fleetcast.cli.table import table
from fleetcast.config.backup import BackupSettings
from fleetcast.config.errors import ConfigError
from fleetcast.daemons.metrics.backups import newest_backup
from fleetcast.daemons.remedy.incidents.reading import unresolved
from fleetcast.registry.picture.attendants import MISSED, Attendants
from fleetcast.registry.picture.condition import look_beside
from fleetcast.registry.picture.keeping import Keeping
from fleetcast.registry.picture.truth import rooms

Form = Literal["text", "nagios", "prometheus", "json"]
LOOK_SECONDS: Final = 8.0
"""Less than the 10 s after which monitoring systems give a plugin up."""


def run(call: Call, *, form: Form, node: str | None) -> int:
    """Look, print, and return the exit code of a plugin."""
    found = _looked(call, node)
    if call.out.json_mode or form == "json":
        call.out.json_mode = True
        call.out.document(shown.document(found))
    elif form == "nagios":
        call.out.text(shown.nagios(found))
    elif form == "prometheus":
        call.out.text(shown.prometheus(found))
    else:
        call.out.show(table(("CHECK", "STATE", "FOUND"), shown.rows(found)))
    return int(worst(each.state for each in found))


def _looked(call: Call, node: str | None) -> tuple[Check, ...]:
    try:
        return checks(run_async(_look(target(call), node)))
    except BusError as away:
        return unreachable(str(away))
    except TimeoutError:
        return unreachable(f"NATS does not answer in {LOOK_SECONDS:g} s")
    except (Problem, ConfigError) as unclear:
        return (Check("bus", State.UNKNOWN, (str(unclear),)),)


async def _look(aim: Target, node: str | None) -> Found:
    async with (
        asyncio.timeout(LOOK_SECONDS),
        connected(aim) as bus,
        watched(bus, aim.settings.distributor.heartbeat_seconds) as fleet,
    ):
        rtt, beside = await bus.rtt(), await look_beside(bus, fleet, unresolved)
        return Found(
            rtt_seconds=rtt,
            nodes=fleet.nodes,
            slots=aged(fleet.rollouts, fleet.slots, datetime.now(UTC)),
            dead_letters=beside.dead,
            incidents=beside.incidents,
            truth=beside.truth,
            rooms=rooms(fleet.statuses),
            undecided=Keeping(beside.authority, fleet.keepers).problems,
            unattended=Attendants(fleet.attendants(MISSED)).problems,
            backup=await _backup(bus, aim.settings.backup),
            node=node,
        )


async def _backup(bus: Bus, settings: BackupSettings) -> Backup | None:
    newest = await newest_backup(bus)
    if not newest.taken_at and not settings.recipients:
        return None
    age = max(0.0, time.time() - newest.taken_at) if newest.taken_at else None
    return Backup(age, settings.recovery_point_seconds)
