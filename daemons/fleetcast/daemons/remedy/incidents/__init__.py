"""Incidents: what somebody must know about, open until it is resolved.

`rules` decides what becomes of one, `noticing` what facts mean for them, `silences` who is not told, `attendance` which
nodes are lost: all pure. `incidents` keeps them, `reading` reads them, `desk` connects both to the bus; `commands` is
what may be asked. No playbook is run and nobody is told here.
"""

from fleetcast.daemons.remedy.incidents.desk import IncidentDesk
from fleetcast.daemons.remedy.incidents.incidents import Incidents

__all__ = ["IncidentDesk", "Incidents"]
