"""The settings of [notifier]: who is told what, through which channels. A description says meaning, unit and why."""

from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints, model_validator

from fleetcast.config.group import Group
from fleetcast.config.hours import Hours

Secret = Annotated[str, StringConstraints(pattern=r"^(/[^\x00-\x1f\x7f]{1,4000}|credential:[A-Za-z0-9_.@-]{1,200})$")]
"""Where a secret is: the absolute path of a file, or `credential:NAME` of the service manager. Never the secret."""
ChannelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,47}$")]
Address = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}$", max_length=254)
]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s\x00-\x1f\x7f]{1,2000}$")]
Level = Literal["low", "medium", "high", "critical"]
Topic = Literal["incidents", "playbooks", "decisions"]


class _Channel(Group):
    messages_per_hour: int = Field(
        default=60,
        ge=1,
        le=1000,
        description="Most messages in an hour; what comes beyond waits and shares the next one. 60: one a minute.",
    )
    quiet: tuple[Hours, ...] = Field(
        default=(),
        description="Hours, in local time, in which only what is critical is told; the rest follows at their end.",
    )


class SlackChannel(_Channel):
    """An incoming webhook of Slack, or of what understands the same."""

    kind: Literal["slack"]
    url: Secret = Field(description="Where the webhook's address is kept; whoever knows it can post.")


class PagerDutyChannel(_Channel):
    """An integration of PagerDuty, Events API v2: an alert for each incident, under the incident's id."""

    kind: Literal["pagerduty"]
    routing_key: Secret = Field(description="Where the integration key is kept.")
    url: Url = Field(default="https://events.pagerduty.com/v2/enqueue", description="The EU has one of its own.")


class MailChannel(_Channel):
    """Mail by SMTP."""

    kind: Literal["mail"]
    host: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:-]{1,253}$")]
    port: int = Field(default=587, ge=1, le=65535, description="587: submission; 465 for security tls.")
    security: Literal["starttls", "tls", "plain"] = Field(
        default="starttls", description="plain sends no password, and is meant for a relay on the same machine."
    )
    user: str = Field(default="", max_length=256, description="Empty: no login.")
    password: Secret | None = Field(default=None, description="Where the password of the user is kept.")
    sender: Address
    to: tuple[Address, ...] = Field(min_length=1, max_length=50)
    ca: str | None = Field(default=None, description="CA certificate that the server is checked against.")

    @model_validator(mode="after")
    def _login_is_whole_and_hidden(self) -> "MailChannel":
        if bool(self.user) != bool(self.password):
            raise ValueError("a login needs user and password, both or neither")
        if self.user and self.security == "plain":
            raise ValueError("a password is not sent in the clear: security is starttls or tls where there is a user")
        return self


class WebhookChannel(_Channel):
    """JSON to an address of your own, signed as Standard Webhooks has it."""

    kind: Literal["webhook"]
    url: Url
    secret: Secret | None = Field(default=None, description="Where the key is kept that signs; None: not signed.")
    ca: str | None = Field(default=None, description="CA certificate that the server is checked against.")


class AppriseChannel(_Channel):
    """Any service that apprise knows; needs fleetcast[apprise]."""

    kind: Literal["apprise"]
    url: Secret = Field(description="Where its address is kept, which holds the keys.")


Channel = Annotated[
    SlackChannel | PagerDutyChannel | MailChannel | WebhookChannel | AppriseChannel, Field(discriminator="kind")
]
KINDS = tuple(
    get_args(kind.model_fields["kind"].annotation)[0]
    for kind in (SlackChannel, PagerDutyChannel, MailChannel, WebhookChannel, AppriseChannel)
)


class Route(Group):
    """What goes to some channels. Something that several routes name goes to the channels of all of them.

    `severity`: from this on. `resources` and `triggers`: shell patterns of models, nodes and so on, and of what was
    noticed. `tell`: incidents; playbooks: runs that wait for approval or failed; decisions: promotions, rollbacks and
    refused promotions.
    """

    channels: tuple[ChannelName, ...] = Field(min_length=1)
    tell: tuple[Topic, ...] = ("incidents", "playbooks")
    severity: Level = "medium"
    resources: tuple[str, ...] = ("*",)
    triggers: tuple[str, ...] = ("*",)


class NotifierSettings(Group):
    """The notifier daemon: tells people of incidents, of playbooks that need them, and of decisions. Every notifier of
    a fleet has the same channels and routes."""

    channels: dict[ChannelName, Channel] = Field(
        default={},
        description="Channels by name, each a table such as [notifier.channels.oncall] with kind = slack, pagerduty, "
        "mail, webhook or apprise and what that needs (docs/notifications.md). None: nobody is told.",
    )
    routes: tuple[Route, ...] = Field(
        default=(),
        description="What goes where, as tables [[notifier.routes]] of channels, tell, severity, resources and "
        "triggers. None: incidents and playbooks from medium on to every channel, from high on to those that page.",
    )
    group_wait_seconds: float = Field(
        default=10.0,
        ge=0,
        description="Seconds between the first news and its message, so that what belongs together comes together: 10, "
        "in which a rollback is over and its end stands in the same message.",
    )
    group_interval_seconds: float = Field(
        default=60.0,
        ge=0,
        description="Seconds between messages of one channel; what is critical and new does not wait for it. A minute.",
    )
    repeat_seconds: float = Field(
        default=1800.0,
        ge=0,
        description="Seconds after which a critical incident that nobody acknowledged is told again: half an hour. "
        "PagerDuty repeats by itself. 0: never.",
    )
    alert_limit: int = Field(
        default=10,
        ge=1,
        description="New incidents at once from which on a paging channel gets one alert for all of them: nobody can "
        "answer more than 10.",
    )
    attempt_seconds: float = Field(
        default=10.0, gt=0, le=60, description="Seconds that one delivery may take, from dialling to the answer."
    )
    retry_base_seconds: float = Field(
        default=1.0, gt=0, description="Seconds before a failed delivery is tried again; doubled each time, jittered."
    )
    retry_cap_seconds: float = Field(
        default=60.0, gt=0, description="Longest such delay in seconds, unless the server asks for a longer one."
    )
    alarm_seconds: float = Field(
        default=300.0,
        ge=0,
        description="Seconds of failures after which a channel is an incident of its own, which the others tell.",
    )
    give_up_seconds: float = Field(
        default=14_400.0,
        gt=0,
        description="Seconds after which a message that cannot be delivered is parked: 4 hours, longer than most "
        "outages. The next one that goes out says so.",
    )
    runbooks: str = Field(
        default="",
        pattern=r"^(https?://[^\s\x00-\x1f\x7f]{1,1000})?$",
        examples=["https://wiki.example.org/fleetcast/"],
        description="Address that runbooks are below whose incident names a file only. Empty: it is shown as it is.",
    )

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> "NotifierSettings":
        for route in self.routes:
            if unknown := sorted(set(route.channels) - set(self.channels)):
                raise ValueError(
                    f"a route names {', '.join(unknown)}, but there is no [notifier.channels.{unknown[0]}]"
                )
        return self
