"""What can be wrong with an event. All of it is bad data: sending the same bytes again does not help."""

import difflib
from collections.abc import Iterable


class EventError(Exception):
    """An event is not what the catalogue says."""


class UnknownEventType(EventError):
    """No event of the catalogue has this name.

    Attributes:
        spelling: what was asked for.
        close: names of the catalogue that look like it, best first.
    """

    def __init__(self, spelling: str, close: tuple[str, ...] = (), reason: str | None = None) -> None:
        self.spelling = spelling
        self.close = close
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        super().__init__((reason or f"no event is called {clip(spelling, 80)!r}") + hint)


class EventInvalid(EventError):
    """An event was refused; nothing that it asks for may be done.

    Attributes:
        reason: what is wrong, for a person.
        field: the field at fault, dotted, or None when the whole is at fault.
        next_step: what to do, with the exact command where there is one.
        event_id: id of the event as far as it is known: its own, `<stream>:<sequence>`, or "unknown".
        subject: where it was published; empty when that is not known.
    """

    def __init__(
        self, reason: str, *, field: str | None = None, next_step: str, event_id: str = "unknown", subject: str = ""
    ) -> None:
        self.reason = clip(reason, 600)
        self.field = None if field is None else clip(field, 200)
        self.next_step = clip(next_step, 2000)
        self.event_id = event_id
        self.subject = subject
        end = "" if self.reason.endswith(("?", ".")) else "."
        super().__init__(f"{self.reason}{end} {self.next_step}")


def close_matches(word: str, words: Iterable[str]) -> tuple[str, ...]:
    """At most three of *words* that look like *word*, best first."""
    return tuple(difflib.get_close_matches(word[:200], list(words), n=3, cutoff=0.6))


def clip(text: str, limit: int) -> str:
    """*text*, cut to *limit* characters, in characters that every terminal and every log can take."""
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    return shown.encode("utf-8", "backslashreplace").decode()


class Fault(ValueError):
    """One thing wrong with an event, found where the rest is not known yet; `parse` makes it `EventInvalid`."""

    def __init__(self, reason: str, field: str | None = None) -> None:
        self.reason = reason
        self.field = field
        super().__init__(reason)
