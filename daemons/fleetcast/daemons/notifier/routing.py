"""Who is told: pure. Routes name channels by what happened, how bad it is and what it is about."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

from fleetcast.config.notifier import NotifierSettings, Route
from fleetcast.daemons.notifier.state import Topic, Wish
from fleetcast.daemons.notifier.topics import FRESH
from fleetcast.events.incidents import ResourceType, Severity
from fleetcast.events.remedies import RunPhase

PAGING: Final = frozenset({"pagerduty"})
"""Kinds of channels that interrupt people, and keep alerts instead of a list of messages."""


def routes_in_force(settings: NotifierSettings) -> tuple[Route, ...]:
    """The routes of the settings; where there are none, everything that matters goes everywhere."""
    if settings.routes or not settings.channels:
        return settings.routes
    paging = tuple(name for name, each in settings.channels.items() if each.kind in PAGING)
    others = tuple(name for name in settings.channels if name not in paging)
    made = [Route(channels=others)] if others else []
    if paging:
        # A run that failed or was refused has an incident: nobody is woken twice by one thing.
        made.append(Route(channels=paging, severity="high", tell=("incidents",)))
        made.append(Route(channels=paging, severity="high", tell=("playbooks",), triggers=(RunPhase.APPROVAL.value,)))
    return tuple(made)


def routed(topic: Topic, routes: Iterable[Route]) -> frozenset[str]:
    """The channels that a topic goes to. What is wrong with a channel is never told through it."""
    own = {topic.subject} if topic.about == ResourceType.CHANNEL else set()
    named = {channel for route in routes if _matches(topic, route) for channel in route.channels}
    return frozenset(named - own)


def _matches(topic: Topic, route: Route) -> bool:
    return (
        topic.kind in route.tell
        and topic.severity.rank >= Severity(route.severity).rank
        and any(fnmatchcase(topic.subject, pattern) for pattern in route.resources)
        and any(fnmatchcase(topic.trigger, pattern) for pattern in route.triggers)
    )


def wishes(topic: Topic, what: str, routes: Iterable[Route], at: str) -> Mapping[str, Wish]:
    """Who is still to be told of a topic, now that its newest step is *what*, taken at *at*.

    News goes to whoever the routes name; how it went on goes to those that know of it already, and nobody is told of
    what is silenced, except that it is over.
    """
    if not what:
        return topic.wishes
    known = {*topic.told, *topic.wishes}
    if topic.silenced:
        reached = {name for name in known if name in topic.told} if topic.over else set()
    else:
        reached = known | routed(topic, routes) if what in FRESH else known
    kept = topic.wishes
    return {
        **kept,
        **{name: Wish(step=topic.step, at=kept[name].at if name in kept else at) for name in sorted(reached)},
    }
