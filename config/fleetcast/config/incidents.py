"""The settings of [incidents]: when one is over, which hours are for maintenance, when a node is lost. A description
says meaning, unit and why."""

from pydantic import Field

from fleetcast.config.group import Group
from fleetcast.config.hours import ZonedHours

RUNBOOKS = frozenset(
    {
        "approval_expired",
        "environment",
        "error_rate",
        "frozen",
        "hook_failed",
        "input_drift",
        "integrity_failed",
        "latency_p95",
        "node_lost",
        "node_quarantined",
        "notification_failed",
        "ood_rate",
        "playbook_failed",
        "playbook_refused",
        "retry_budget_spent",
        "rollout_halted",
        "run_degraded",
        "run_failed",
        "run_fallback",
        "run_fault",
        "snapshots",
        "transfer_failed",
    }
)
"""Triggers that have a page in docs/runbooks/; a `_reported` one shares that of what is reported."""


class MaintenanceWindow(ZonedHours):
    """Hours of the week in which incidents are kept and nobody is told of them."""

    resource: str | None = Field(
        default=None, max_length=128, description="Pattern of what they are about (`hex8_*`). None: anything."
    )
    node: str | None = Field(
        default=None, max_length=128, description="Pattern of the node that they name (`gpu-*`). None: any, or none."
    )
    trigger: str | None = Field(default=None, max_length=64, description="Pattern of triggers. None: any.")
    reason: str = Field(default="maintenance window", max_length=500, description="What people are told.")


class IncidentSettings(Group):
    """What becomes of incidents as time passes."""

    hold_down_seconds: float = Field(
        default=300.0,
        ge=0,
        le=86400,
        description="Seconds that something must be over before its incident is resolved; raised again before that, it "
        "was never over. 300: two reports of a slow reporter.",
    )
    reopen_seconds: float = Field(
        default=3600.0,
        ge=0,
        le=7 * 86400,
        description="Raised again within so many seconds of its end, an incident is opened anew under its id; later, "
        "it is another one. 3600: who was woken once is not woken under another number.",
    )
    settle_seconds: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="Seconds for which something may still be reported after a remedy worked, before that counts as "
        "having failed. 30: what was under way is reported to its end.",
    )
    flap_changes: int = Field(
        default=6,
        ge=3,
        le=20,
        description="Coming and going so often within flap_window_seconds, an incident is flapping: it is told once, "
        "and stays open until it holds still. 6: three times there, three times gone.",
    )
    flap_window_seconds: float = Field(
        default=1800.0,
        ge=1,
        le=86400,
        description="Seconds; see flap_changes. A flapping one must hold still for as long.",
    )
    forget_seconds: float = Field(
        default=86400.0,
        ge=60,
        le=90 * 86400,
        description="What was raised more seconds ago than this, while no remedy daemon ran, opens nothing. 86400: "
        "a day.",
    )
    node_lost_seconds: float = Field(
        default=60.0,
        ge=1,
        le=86400,
        description="Seconds of silence after which a node that did not stop in order is lost. 60: a restart is "
        "quicker.",
    )
    look_seconds: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="Seconds between looks at what time alone changes: hold-downs, silences, lost nodes.",
    )
    runbooks: str = Field(
        default="docs/runbooks",
        max_length=1000,
        description="Where the pages for people are, a folder or an address; an incident without a link of its own "
        "gets <runbooks>/<trigger>.md.",
    )
    maintenance: tuple[MaintenanceWindow, ...] = Field(
        default=(),
        max_length=100,
        description="Hours in which nobody is told, as tables [[incidents.maintenance]] of days, from, to, zone and, "
        'to narrow them, resource, node and trigger, such as days = ["sun"], from = "02:00", to = "04:00", '
        'node = "gpu-*". '
        "The incidents are opened, counted and kept all the same.",
    )

    def runbook(self, trigger: str) -> str | None:
        """Where the page about a trigger is; None: there is none."""
        page = trigger.removesuffix("_reported")
        return f"{self.runbooks.rstrip('/')}/{page}.md" if page in RUNBOOKS else None
