"""The signatures by which faults are recognised (`signatures.toml`) as values. Pure but for reading the table once."""

import re
import tomllib
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

from fleetcast.events.runs import FaultClass
from fleetcast.events.training import Remedy

TABLE: Final = "signatures.toml"
MOST_LINE: Final = 2000
"""Characters of a line that are looked at: a job may print anything."""

Where = Literal["stderr", "kernel"]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a fault is recognised by, and what that says; the fields are explained at the head of the table."""

    name: str
    pattern: re.Pattern[str]
    where: Where
    fault_class: FaultClass
    remedy: Remedy
    gpu: bool
    quarantine: timedelta
    guidance: str
    source: str

    def found_in(self, lines: tuple[str, ...]) -> tuple[str, str] | None:
        """Name of the fault and the last line that shows it; None: no line does."""
        for line in reversed(lines):
            match = self.pattern.search(line[:MOST_LINE])
            if match:
                return self.name.replace("{1}", match[1] if match.lastindex else ""), line
        return None


@cache
def signatures() -> tuple[Signature, ...]:
    """All signatures, by precedence."""
    text = resources.files(__package__).joinpath(TABLE).read_text(encoding="utf-8")
    return tuple(parse(text))


def parse(text: str) -> list[Signature]:
    """The signatures of a table.

    Raises:
        ValueError: it is not such a table; tells which entry.
    """
    found = []
    for number, entry in enumerate(tomllib.loads(text)["signature"], 1):
        try:
            found.append(_signature(entry))
        except (KeyError, ValueError, TypeError, re.error) as e:
            raise ValueError(f"signature {number} ({entry.get('name', 'without a name')}): {e}") from e
    return found


def _signature(entry: dict[str, Any]) -> Signature:
    where = entry["where"]
    if where not in ("stderr", "kernel"):
        raise ValueError(f"where = {where!r} is neither stderr nor kernel")
    remedy = Remedy(entry["remedy"])
    if remedy is Remedy.CPU:
        raise ValueError("a signature has gpu = true, and leaves the CPU to the policy")
    return Signature(
        name=str(entry["name"]),
        pattern=re.compile(entry["pattern"]),
        where=where,
        fault_class=FaultClass(entry["class"]),
        remedy=remedy,
        gpu=bool(entry["gpu"]),
        quarantine=timedelta(minutes=float(entry["quarantine_minutes"])),
        guidance=str(entry["guidance"]),
        source=str(entry["source"]),
    )
