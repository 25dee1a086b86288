"""Where words go: data to stdout, talk to stderr, and with --json exactly one document (or one per line) on stdout."""

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fleetcast.cli.problems import PipeClosed

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SCHEMA_VERSION = 1
"""Version of every JSON document of the command line; grows when a key changes its meaning or goes away."""
_WIDE = 500


class Output:
    """Writes for one command. With `json_mode` the human forms are silent, without it the documents are.

    Attributes:
        answered: the one document has been printed; whatever still goes wrong is talk, or stdout would hold two.
    """

    def __init__(self, json_mode: bool) -> None:
        self.json_mode = json_mode
        self.answered = False

    @property
    def live(self) -> bool:
        """Whether moving pictures are welcome: a terminal that can draw them, and a person in front of it."""
        return not self.json_mode and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def document(self, body: Mapping[str, object]) -> None:
        """The answer as one JSON document."""
        if self.json_mode:
            self.answered = True
            self._write(json.dumps({"schema_version": SCHEMA_VERSION} | dict(body), default=str))

    def record(self, line: str, text: str) -> None:
        """One of many: the JSON line *line*, or *text* for a person."""
        self._write(line if self.json_mode else text)

    def text(self, line: str) -> None:
        """The answer for a person."""
        if not self.json_mode:
            self._write(line)

    def show(self, picture: "RenderableType") -> None:
        """The answer for a person, as a table or another picture of rich."""
        if self.json_mode:
            return
        if sys.stdout.isatty():
            self.console().print(picture)
            return
        # rich fills every line up to the width of its table; in a pipe that is noise.
        console = self.console()
        with console.capture() as captured:
            console.print(picture)
        self._write("\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n")))

    def say(self, line: str) -> None:
        """Talk: what is going on, on stderr, in either mode."""
        print(line, file=sys.stderr, flush=True)

    def console(self, *, talk: bool = False) -> "Console":
        """A console of rich that never wraps where nobody looks: off a terminal a line stays a line."""
        from rich.console import Console

        stream = sys.stderr if talk else sys.stdout
        width = None if stream.isatty() else _WIDE
        return Console(file=stream, width=width, highlight=False, soft_wrap=not stream.isatty(), emoji=False)

    def _write(self, line: str) -> None:
        try:
            print(line, file=sys.stdout, flush=True)
        except BrokenPipeError:
            raise PipeClosed from None
