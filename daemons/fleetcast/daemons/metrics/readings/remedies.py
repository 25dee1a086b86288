"""A remedy daemon: incidents that have not ended, and the runs of playbooks."""

from datetime import datetime

from fleetcast.daemons.metrics.sheet import Sheet
from fleetcast.daemons.remedy.incidents.desk import IncidentDesk
from fleetcast.daemons.remedy.playbooks.keeper import Keeper
from fleetcast.events.incidents import IncidentPhase, Severity


class RemedyReading:
    """Of one remedy daemon. Two of them know the same incidents: take the greatest value."""

    def __init__(self, incidents: IncidentDesk, keeper: Keeper) -> None:
        self._incidents, self._keeper = incidents, keeper

    async def read(self, sheet: Sheet) -> None:
        """Fill in all of it."""
        now = self._incidents.clock.now()
        sheet.start("fleetcast_incidents_unattended", "severity", Severity)
        oldest: dict[str, datetime] = {}
        for each in self._incidents.open:
            severity = each.severity.value
            sheet.add("fleetcast_incidents_open", 1, severity=severity, trigger=each.trigger)
            if each.phase is IncidentPhase.OPEN and not each.silenced:
                sheet.add("fleetcast_incidents_unattended", 1, severity=severity)
                opened = datetime.fromisoformat(each.opened_at)
                oldest[severity] = min(opened, oldest.get(severity, opened))
        for severity, opened in oldest.items():
            age = max(0.0, (now - opened).total_seconds())
            sheet.put("fleetcast_incident_unattended_seconds", age, severity=severity)
        sheet.put("fleetcast_playbooks_under_way", len(self._keeper.runner.under_way))
        for resource in self._keeper.resources:
            for run in resource.recent:
                sheet.add("fleetcast_playbook_runs", 1, playbook=run.playbook, phase=run.phase.value)
