"""What is wrong with settings, and where: file, line and column with a caret, or the variable or flag."""

from dataclasses import dataclass
from pathlib import Path

CHECK_AGAIN = "correct it, then run: fleetcast config check"


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a text: line and column count from 1, as editors do; `length` in characters."""

    line: int
    column: int
    length: int = 1


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong.

    `source` is a file's path, or the name of the variable or flag; files have a `span`, and `text`, the line itself.
    """

    source: str
    message: str
    next_step: str = CHECK_AGAIN
    span: Span | None = None
    text: str = ""

    @property
    def where(self) -> str:
        """`fleetcast.toml:12:9`, or the variable's or flag's name."""
        return f"{self.source}:{self.span.line}:{self.span.column}" if self.span else self.source

    def render(self) -> str:
        """Place, message, the line with a caret below the mistake, and what helps."""
        return "\n".join([f"{self.where}: {self.message}", *self._excerpt(), f"  help: {self.next_step}"])

    def _excerpt(self) -> list[str]:
        if self.span is None:
            return []
        number = f"{self.span.line:>5}"
        # Tabs are kept in front of the caret, so that it stands below the mistake whatever a tab's width is.
        before = "".join("\t" if character == "\t" else " " for character in self.text[: self.span.column - 1])
        room = max(1, len(self.text) - self.span.column + 1)
        caret = "^" * max(1, min(self.span.length, room))
        return [f"{number} | {self.text}", f"{' ' * len(number)} | {before}{caret}"]


class ConfigError(Exception):
    """The settings cannot be used: to be corrected by whoever wrote them. Carries every mistake that was found."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__(mistakes)
        self.mistakes = mistakes

    def __str__(self) -> str:
        return "\n".join(mistake.render() for mistake in self.mistakes)

    @property
    def next_step(self) -> str:
        """What to do about the first mistake."""
        return self.mistakes[0].next_step if self.mistakes else CHECK_AGAIN


def in_text(path: Path, text: str, span: Span, message: str, next_step: str = CHECK_AGAIN) -> Mistake:
    """A mistake at a place of a file's text."""
    lines = text.splitlines()
    line = lines[span.line - 1] if span.line <= len(lines) else ""
    return Mistake(str(path), message, next_step, span, line)
