"""Reads the commands of docs/nats-cli.md, so that what people paste is what tests run."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r"^```sh\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)
_WITH_VALUE = {"-H": "header", "--header": "header", "--count": "count", "--send-on": "send-on", "--reply": "reply"}


@dataclass(frozen=True, slots=True)
class Publication:
    """What one `nats pub` puts on the bus."""

    subject: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One command of the page, and the heading that it stands under."""

    title: str
    command: tuple[str, ...]

    @property
    def publication(self) -> Publication | None:
        """What it publishes, as the NATS CLI reads its arguments; None when it is not a `nats pub`."""
        return _publication(self.command[2:]) if self.command[:2] == ("nats", "pub") else None


def recipes(markdown: str) -> Iterator[Recipe]:
    """The commands in the `sh` blocks of *markdown*, in order. A command ends with its line, unless the line ends with
    a back-slash; what follows a pipe is not part of it."""
    for block in _FENCE.finditer(markdown):
        title = _title(markdown[: block.start()])
        for line in block["body"].replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            command = tuple(words[: words.index("|")] if "|" in words else words)
            if command:
                yield Recipe(title, command)


def _title(before: str) -> str:
    headings = _HEADING.findall(before)
    return headings[-1] if headings else ""


def _publication(arguments: tuple[str, ...]) -> Publication:
    headers: dict[str, str] = {}
    plain: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word in _WITH_VALUE:
            value = next(rest)
            if _WITH_VALUE[word] == "header":
                name, _, text = value.partition(":")
                headers[name] = text.strip()
        elif not word.startswith("-"):
            plain.append(word)
    subject, body = plain
    return Publication(subject, body.encode(), headers)
