"""Where the value of a setting came from."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["default", "nats context", "file", "environment", "flag"]


@dataclass(frozen=True, slots=True)
class Origin:
    """The source of one value.

    `name` is the file's path, the variable, the flag, or the context; `line` counts from 1 and is there for files.
    """

    kind: Kind = "default"
    name: str = ""
    line: int | None = None

    def __str__(self) -> str:
        if self.kind == "default":
            return "default"
        if self.line is not None:
            return f"{self.name}:{self.line}"
        return f"{self.kind} {self.name}" if self.kind in ("nats context", "flag") else self.name


@dataclass(frozen=True, slots=True)
class Given:
    """A value that somebody gave, before it is checked."""

    value: object
    origin: Origin
