"""`{name}` in the params of a step: one pass over plain text, no expressions. What is put in is never read again, and
the words of a command stay words: no shell splits them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fleetcast.events.remedies import PlaybookRunState

_NAME: Final = re.compile(r"\{\{|\}\}|\{([a-z_][a-z0-9_.]*)\}")

KNOWN: Final = (
    "run",
    "playbook",
    "resource_type",
    "resource_id",
    "model",
    "node",
    "version",
    "to",
    "incident",
    "severity",
    "by",
    "reason",
    "reasons",
)
"""Names that every run has a value for; empty where it has none. Besides: params by their name, and what an earlier
step found, as {steps.STEP.KEY}."""


def context_of(run: PlaybookRunState) -> dict[str, str]:
    """The values of a run, by name."""
    context = {name: _text(value) for name, value in run.params.items()}
    context |= {
        "run": run.run,
        "playbook": run.playbook,
        "resource_type": run.resource_type.value,
        "resource_id": run.resource_id,
        "model": run.model or "",
        "node": run.resource_id if run.resource_type.value == "node" else "",
        "version": run.version or "",
        "to": run.to or "",
        "incident": run.incident or "",
        "severity": run.severity.value,
        "by": run.by,
        "reason": run.reasons[0] if run.reasons else "",
        "reasons": "; ".join(run.reasons),
    }
    for step in run.steps:
        context |= {f"steps.{step.name}.{key}": _text(value) for key, value in step.output.items()}
    return context


def filled(value: Any, context: Mapping[str, str]) -> Any:
    """*value* with every {name} in its texts replaced; a name without a value is empty."""
    if isinstance(value, str):
        return _NAME.sub(lambda found: context.get(found[1], "") if found[1] else found[0][0], value)
    if isinstance(value, Mapping):
        return {key: filled(each, context) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [filled(each, context) for each in value]
    return value


def names_in(value: Any) -> Iterable[str]:
    """Every name that *value* asks for."""
    if isinstance(value, str):
        yield from (found[1] for found in _NAME.finditer(value) if found[1])
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from names_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from names_in(each)


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)
