"""A message in words: pure. Every section says what, since when, the numbers, what was done, the one command that acts
or takes it back, and the runbook; a message holds the worst few and counts the others."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from fleetcast.daemons.notifier.state import Member, Message, Section, Topic
from fleetcast.registry.commands import stamp

SECTIONS: Final = 10
"""Topics that a message tells in full: what fits on a screen, and into the limits of every channel."""
REPEAT: Final = "still open"
_ORDER: Final = ("opened", "reopened", "worse", "unsilenced", "approval", "failed", "refused", "expired", REPEAT)


def title(sections: Sequence[Section], counts: dict[str, int], more: int) -> str:
    """One line for a whole message."""
    if len(sections) == 1 and not more:
        only = sections[0]
        return f"[{only.severity.upper()}] {only.what}: {only.title}"[:250]
    total = sum(counts.values())
    said = ", ".join(f"{count} {what}" for what, count in sorted(counts.items(), key=_importance))
    worst = max((each.severity for each in sections), key=lambda each: each.rank)
    return f"[{worst.upper()}] {total} at once: {said}"[:250]


def _importance(counted: tuple[str, int]) -> tuple[int, str]:
    what = counted[0]
    return (_ORDER.index(what) if what in _ORDER else len(_ORDER), what)


def what_happened(topic: Topic, channel: str) -> str:
    """The news of a topic for a channel, in a word or two: the newest fresh step that it has not been told."""
    told = topic.told.get(channel)
    known = told.step if told else 0
    unsaid = [step.what for step in topic.steps if step.n > known]
    if not unsaid:
        return REPEAT
    if told is None and topic.over and len(unsaid) > 1:
        return f"{unsaid[0]} and {unsaid[-1]}"
    if told is None and unsaid[-1] != unsaid[0] and unsaid[0] == "opened":
        return f"opened, {unsaid[-1]}"
    return unsaid[-1]


def section(topic: Topic, what: str, runbooks: str) -> Section:
    """One topic in words."""
    version = f"@{topic.version}" if topic.version else ""
    lines = [("what", f"{topic.subject}{version} ({topic.about.replace('_', ' ')}){_noticed(topic)}")]
    if topic.description and topic.description != topic.title:
        lines.append(("details", topic.description))
    lines.append(("since", since(topic)))
    if topic.numbers:
        lines.append(("numbers", "; ".join(topic.numbers[:3])))
    lines.append(("state", _state(topic)))
    lines.append(("done", "; ".join(topic.done[-3:]) or "nothing yet"))
    commands = [topic.command] if topic.command else []
    if topic.look:
        commands.append(("look", topic.look))
    if topic.kind == "incidents" and topic.phase == "open":
        commands.append(("acknowledge", f"fleetcast ack {topic.topic}"))
    return Section(
        topic=topic.topic,
        kind=topic.kind,
        what=what,
        title=topic.title,
        severity=topic.severity,
        lines=tuple(lines),
        commands=tuple(commands),
        runbook=runbook(topic.runbook, runbooks),
        facts=_facts(topic),
    )


def _noticed(topic: Topic) -> str:
    if topic.kind != "incidents":
        return ""
    return f": {topic.trigger}, noticed by {topic.source}"


def since(topic: Topic) -> str:
    """Since when, and for how long where it is over."""
    began = datetime.fromisoformat(topic.since)
    shown = f"{began:%Y-%m-%d %H:%M:%S} UTC"
    if not topic.over or topic.kind == "decisions":
        return shown
    return f"{shown}, for {_length((datetime.fromisoformat(topic.updated) - began).total_seconds())}"


def _length(seconds: float) -> str:
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _state(topic: Topic) -> str:
    newest = topic.steps[-1] if topic.steps else None
    by = f" by {newest.by}" if newest and newest.by and newest.what in {"acknowledged", "resolved", "mitigated"} else ""
    seen = f", seen {topic.occurrences} times" if topic.occurrences > 1 else ""
    return f"{topic.phase}{by}{seen}"


def runbook(said: str, base: str) -> str:
    """The link for people; a file's name goes below *base* where there is one."""
    if not said or said.startswith(("http://", "https://")) or not base:
        return said
    return f"{base.rstrip('/')}/{said.lstrip('/')}"


def _facts(topic: Topic) -> dict[str, object]:
    """What programs want to know of a topic, by name."""
    named = topic.model_dump(mode="json", exclude={"schema_", "seen", "wishes", "told", "command", "silenced"})
    return {**named, "command": topic.command[1] if topic.command else ""}


def message(
    channel: str,
    chosen: Sequence[Topic],
    members: Sequence[Member],
    *,
    now: datetime,
    runbooks: str,
    notes: Sequence[str] = (),
    action: str = "tell",
    alert: str = "",
) -> Message:
    """What is said of *chosen* on a channel, the worst first."""
    ranked = sorted(chosen, key=lambda each: (-each.severity.rank, each.over, each.since))
    named = [(each, what_happened(each, channel)) for each in ranked]
    sections = tuple(section(each, what, runbooks) for each, what in named[:SECTIONS])
    counts = dict(Counter(what for _, what in named))
    more = len(named) - len(sections)
    made_at = stamp(now)
    return Message(
        id=_id(channel, action, made_at, members),
        channel=channel,
        action=action,
        alert=alert,
        title=title(sections, counts, more),
        severity=max((each.severity for each in chosen), key=lambda each: each.rank),
        sections=sections,
        more=more,
        counts=counts,
        notes=tuple(notes),
        members=tuple(members),
        made_at=made_at,
    )


def _id(channel: str, action: str, made_at: str, members: Sequence[Member]) -> str:
    named = "\n".join([channel, action, made_at, *(f"{each.topic} {each.step}" for each in members)])
    return f"msg-{hashlib.sha256(named.encode()).hexdigest()[:20]}"


def text(said: Message) -> str:
    """A message as plain text: mail, and what knows no more than text."""
    blocks = [_block(each) for each in said.sections]
    if said.more:
        blocks.append(f"And {said.more} more: fleetcast incidents")
    blocks.extend(said.notes)
    if said.again:
        blocks.append("This may be a repetition: whether it was delivered before is not known.")
    return "\n\n".join(blocks) + "\n"


def _block(each: Section) -> str:
    rows = [*each.lines, *((name, command) for name, command in each.commands)]
    if each.runbook:
        rows.append(("runbook", each.runbook))
    width = max(len(name) for name, _ in rows)
    head = f"[{each.severity.upper()}] {each.what}: {each.title}"
    return "\n".join([head, *(f"  {name:<{width}}  {value}" for name, value in rows)])
