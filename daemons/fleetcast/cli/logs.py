"""`fleetcast logs`: the log files of an `up`, merged by time."""

import heapq
import json
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from fleetcast.cli.call import Call
from fleetcast.cli.local.layout import Layout
from fleetcast.cli.local.ups import running_ups
from fleetcast.cli.narrate import printable
from fleetcast.cli.problems import Exit, not_found, usage
from fleetcast.cli.units import clock, moment

POLL_SECONDS = 0.2
_NATS_LINE = re.compile(r"\[\d+\] (\d{4})/(\d\d)/(\d\d) (\d\d:\d\d:\d\d\.\d+) \[(\w+)\] (.*)")
_NATS_LEVELS = {"INF": "info", "WRN": "warning", "ERR": "error", "FTL": "critical", "DBG": "debug", "TRC": "debug"}
_SHOWN_APART = ("timestamp", "level", "event", "node", "daemon")


@dataclass(frozen=True, order=True)
class Line:
    """One line of a log.

    Attributes:
        at: when it was written; a line without time (a traceback) has that of the line before it.
        number: keeps lines of one moment in order.
    """

    at: datetime
    number: int
    file: str = field(compare=False)
    fields: dict[str, object] = field(compare=False)

    def matches(self, *, daemon: str | None, node: str | None, cid: str | None) -> bool:
        """Whether the line is asked for."""
        right = daemon in {None, self.fields.get("daemon")} and node in {None, self.fields.get("node")}
        return right and (cid is None or str(self.fields.get("correlation_id", "")).startswith(cid))

    @property
    def text(self) -> str:
        """`12:00:01.234 node-1 distributor info version.installed version=43 …`."""
        known = self.fields
        rest = " ".join(f"{key}={_value(value)}" for key, value in known.items() if key not in _SHOWN_APART)
        who = f"{known.get('node', '-')} {known.get('daemon', self.file)}"
        return printable(
            f"{clock(self.at)} {who} {known.get('level', '-'):<7} {known.get('event', '')} {rest}".rstrip()
        )


class Reader:
    """Reads the lines of one log file, and those that are added to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] = path.open(encoding="utf-8", errors="replace")
        self._begun = ""
        self._number = 0
        self._last = datetime.fromtimestamp(0, UTC)

    def close(self) -> None:
        """Stop reading."""
        self._file.close()

    def lines(self) -> Iterator[Line]:
        """Whole lines that have not been read yet."""
        while part := self._file.readline():
            self._begun += part
            if not self._begun.endswith("\n"):
                return
            text, self._begun = self._begun.rstrip("\n"), ""
            yield self._line(text)

    def _line(self, text: str) -> Line:
        fields = parse_line(text, self.path.stem)
        stamp = fields.get("timestamp")
        if isinstance(stamp, str):
            self._last = moment(stamp)
        self._number += 1
        return Line(self._last, self._number, self.path.name, fields)


def parse_line(text: str, stem: str) -> dict[str, object]:
    """Fields of a line: JSON of our daemons, or nats-server's own form, or just text."""
    node, _, daemon = stem.rpartition(".")
    base: dict[str, object] = {"node": node or "-", "daemon": daemon}
    if text.startswith("{"):
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if isinstance(found, dict):
            return base | found
    match = _NATS_LINE.match(text)
    if match:
        year, month, day, when, level, said = match.groups()
        # nats-server writes local time without a zone.
        at = datetime.fromisoformat(f"{year}-{month}-{day}T{when[:15]}").astimezone(UTC)
        return base | {"timestamp": at.isoformat(), "level": _NATS_LEVELS.get(level, "info"), "event": said}
    return base | {"event": text}


def run(
    call: Call,
    *,
    follow: bool,
    daemon: str | None,
    node: str | None,
    cid: str | None,
    lines: int,
    folder: Path | None,
) -> Exit:
    """Print the newest *lines* that match, and with *follow* those that come."""
    with ExitStack() as stack:
        readers = [stack.enter_context(closing(Reader(path))) for path in log_files(folder)]

        def wanted(found: Iterable[Line]) -> Iterator[Line]:
            return (line for line in found if line.matches(daemon=daemon, node=node, cid=cid))

        for line in deque(wanted(heapq.merge(*(reader.lines() for reader in readers))), maxlen=lines):
            write_line(call, line)
        while follow:
            for line in wanted(sorted(line for reader in readers for line in reader.lines())):
                write_line(call, line)
            time.sleep(POLL_SECONDS)
    return Exit.OK


def log_files(folder: Path | None) -> list[Path]:
    """Log files of the `up` in *folder* (None: of the one that runs).

    Raises:
        Problem: there is none, or several run.
    """
    if folder is None:
        running = running_ups()
        if len(running) > 1:
            raise usage("several `fleetcast up` are running", next_step=f"fleetcast logs --folder {running[0].folder}")
        folder = running[0].folder if running else Path(".fleetcast-up")
    found = sorted(Layout(folder).logs.glob("*.log"))
    if not found:
        raise not_found(
            f"there are no logs in {folder}",
            why="no `fleetcast up` was ever run there",
            next_step="fleetcast logs --folder FOLDER; on a node with systemd: journalctl -u 'fleetcast-*'",
        )
    return found


def write_line(call: Call, line: Line) -> None:
    """Print a line, or its fields as JSON."""
    call.out.record(json.dumps({"file": line.file} | line.fields, default=str), line.text)


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return json.dumps(text) if " " in text and isinstance(value, str) else text
