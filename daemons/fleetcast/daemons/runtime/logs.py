"""Logs: one pipeline for our own lines and for those of the libraries, written in the form that its reader wants.

A line has a stable machine name (`event`), bound context and a severity. On a terminal it is coloured text, in a pipe
or file one JSON object a line (`timestamp`, `level`, `event`, `node`, `daemon`, `correlation_id`, ...), under systemd
a native journal entry with fields of its own, so that `journalctl FC_MODEL=hex8_2p` works. Logs go to standard error:
standard output is data.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TextIO

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.typing import EventDict, Processor, WrappedLogger

from fleetcast.config.settings import LogSettings
from fleetcast.daemons.runtime.journal import JOURNAL_SOCKET, JournalWriter, journal_entry
from fleetcast.daemons.runtime.recent import RECENT

Form = Literal["console", "json", "journal", "logfmt"]

CORRELATION = "correlation_id"
FIRST_KEYS = ("timestamp", "level", "event", "node", "daemon", CORRELATION)
OUR_FRAMES = ["logging", __name__]


def configure(
    settings: LogSettings,
    *,
    node: str,
    daemon: str,
    stream: TextIO | None = None,
    env: Mapping[str, str] = os.environ,
    journal: Path = JOURNAL_SOCKET,
) -> Form:
    """Send every log line of this process, also those of libraries, to `stream` (standard error) or to the journal.

    Returns the form that was chosen. May be called again; the last call holds.
    """
    target = stream or sys.stderr
    form = choose_form(settings.format, target, env)
    threshold = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(
        processors=[*_context(node, daemon), RECENT, *_rendering(form, target, env)],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_factory(form, target, journal),
        # Loggers are made when modules are imported, before this call: a cached one would keep the old configuration.
        cache_logger_on_first_use=False,
    )
    _route_standard_logging(threshold)
    return form


def choose_form(wanted: Literal["auto"] | Form, stream: TextIO, env: Mapping[str, str]) -> Form:
    """The form in force: what the settings say, or for `auto` what the other end of the stream reads best."""
    if wanted != "auto":
        return wanted
    if goes_to_journal(stream, env):
        return "journal"
    return "console" if stream.isatty() else "json"


def goes_to_journal(stream: TextIO, env: Mapping[str, str]) -> bool:
    """Whether `$JOURNAL_STREAM` (device:inode, systemd.exec(5)) names this very stream; a redirected one does not
    count.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return env.get("JOURNAL_STREAM", "") == f"{status.st_dev}:{status.st_ino}"


@contextmanager
def bind_correlation(correlation_id: str, **context: object) -> Iterator[None]:
    """Put `correlation_id`, and more context where given, on every line inside the block, also in tasks started
    there.
    """
    with bound_contextvars(**{CORRELATION: correlation_id}, **context):
        yield


class StandardHandler(logging.Handler):
    """Hands records of the standard library's `logging` to the same pipeline, the logger's name as a field."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on; like every handler, it never raises into the code that logs."""
        try:
            # Levels in between (25, say) count as the one below: structlog knows the five standard ones only.
            level = max(logging.DEBUG, min(logging.CRITICAL, record.levelno // 10 * 10))
            structlog.get_logger().log(level, record.getMessage(), logger=record.name, exc_info=record.exc_info or None)
        except Exception:
            self.handleError(record)


class StreamWriter:
    """Writes finished lines to a text stream. A reader that went away or a full disk never harms the daemon."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        """Write one line in one call, so that lines of several threads do not mix."""
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return

    # structlog calls the method of the level; `msg` is its name for all the others.
    msg = debug = info = warning = warn = error = critical = fatal = exception = log = write


def _factory(form: Form, stream: TextIO, journal: Path) -> Any:
    writer = JournalWriter(journal, fallback=stream) if form == "journal" else StreamWriter(stream)
    return lambda *_: writer


def _context(node: str, daemon: str) -> list[Processor]:
    def place(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("node", node)
        event.setdefault("daemon", daemon)
        return event

    return [merge_contextvars, structlog.processors.add_log_level, place]


def _rendering(form: Form, stream: TextIO, env: Mapping[str, str]) -> list[Processor]:
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    # Named explicitly: the default formatter renders with rich and prints local variables, secrets among them.
    trace = structlog.processors.ExceptionRenderer()
    if form == "console":
        return [structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False), _console(stream, env)]
    if form == "journal":
        caller = structlog.processors.CallsiteParameterAdder(
            {
                structlog.processors.CallsiteParameter.PATHNAME,
                structlog.processors.CallsiteParameter.LINENO,
                structlog.processors.CallsiteParameter.FUNC_NAME,
            },
            additional_ignores=OUR_FRAMES,
        )
        return [caller, trace, _journal_fields]
    if form == "logfmt":
        return [stamp, trace, _plain_keys, structlog.processors.LogfmtRenderer(key_order=FIRST_KEYS, drop_missing=True)]
    return [stamp, trace, _ordered, structlog.processors.JSONRenderer(serializer=_to_json)]


def _console(stream: TextIO, env: Mapping[str, str]) -> Processor:
    plain = bool(env.get("NO_COLOR")) or env.get("TERM") == "dumb"
    colors = bool(env.get("FORCE_COLOR")) or (stream.isatty() and not plain)
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


def _journal_fields(
    _logger: WrappedLogger, _method: str, event: EventDict
) -> tuple[tuple[dict[str, str]], dict[str, object]]:
    return (journal_entry(event),), {}


def _ordered(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    first = {key: event.pop(key) for key in FIRST_KEYS if key in event}
    return {**first, **event}


def _plain_keys(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    # LogfmtRenderer refuses keys with spaces; a line with a changed key is worth more than none.
    return {"_".join(str(key).split()): value for key, value in event.items()}


def _to_json(event: EventDict, **_: object) -> str:
    return json.dumps(event, ensure_ascii=False, default=str)


def _route_standard_logging(threshold: int) -> None:
    root = logging.getLogger()
    root.handlers = [StandardHandler()]
    root.setLevel(threshold)
    logging.captureWarnings(capture=True)
