"""The native protocol of the systemd journal: one datagram per entry, with real fields.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/ : `NAME=value` and a newline, or, where the value has newlines, the name, a
newline, the length as 64-bit little-endian number, the value and a newline. Entries larger than a datagram travel as a
sealed memory file whose descriptor is passed instead.
"""

import array
import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TextIO

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
PRIORITIES = {"critical": 2, "fatal": 2, "error": 3, "exception": 3, "warning": 4, "warn": 4, "info": 6, "debug": 7}
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)
LONGEST_NAME = 64

_NOT_IN_NAMES = re.compile(r"[^A-Z0-9]+")
_OWN_FIELDS = {"pathname": "CODE_FILE", "lineno": "CODE_LINE", "func_name": "CODE_FUNC"}
_NOT_IN_MESSAGE = frozenset({"event", "level", "node", "daemon", "exception", *_OWN_FIELDS})


class JournalWriter:
    """Writes entries to the journal's socket; what it does not take goes to `fallback` as a line with a priority
    prefix.
    """

    def __init__(self, address: Path, fallback: TextIO) -> None:
        self._address = str(address)
        self._fallback = fallback

    def write(self, entry: Mapping[str, str]) -> None:
        """Write one entry, given as fields. Never raises."""
        try:
            self._send(encode(entry.items()))
        except OSError:
            self._write_line(entry)

    # structlog calls the method of the level; `msg` is its name for all the others.
    msg = debug = info = warning = warn = error = critical = fatal = exception = log = write

    def _send(self, datagram: bytes) -> None:
        # A socket per entry costs microseconds, and there is none to find dead after the journal was restarted.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            # A journal that hangs must not stop the event loop.
            channel.setblocking(False)
            try:
                channel.sendto(datagram, self._address)
            except OSError as error:
                if error.errno not in TOO_LARGE:
                    raise
                self._send_as_file(channel, datagram)

    def _send_as_file(self, channel: socket.socket, data: bytes) -> None:
        handle = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(handle, "wb", closefd=False) as file:
                file.write(data)
            fcntl.fcntl(handle, fcntl.F_ADD_SEALS, SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [handle]))
            channel.sendmsg([], [rights], 0, self._address)
        finally:
            os.close(handle)

    def _write_line(self, entry: Mapping[str, str]) -> None:
        # The prefix of sd-daemon(3): the journal, or whoever reads the stream, keeps the severity.
        text = " ".join(entry.get("MESSAGE", "").split("\n"))
        try:
            self._fallback.write(f"<{entry.get('PRIORITY', '6')}>{text}\n")
            self._fallback.flush()
        except (OSError, ValueError):
            return


def journal_entry(event: Mapping[str, object]) -> dict[str, str]:
    """The fields of one log line: MESSAGE for people, PRIORITY, CODE_*, and every piece of context as `FC_<NAME>`."""
    fields = {
        "MESSAGE": message(event),
        "PRIORITY": str(PRIORITIES.get(str(event.get("level", "info")), 6)),
        "SYSLOG_IDENTIFIER": f"fleetcast-{event.get('daemon', 'unknown')}",
    }
    for key, value in event.items():
        name = _OWN_FIELDS.get(key) or field_name(key)
        if name and value is not None and key != "level":
            fields[name] = str(value)
    return fields


def message(event: Mapping[str, object]) -> str:
    """The sentence that `journalctl` prints: the event's name and its context, and the traceback if there is one."""
    context = [f"{key}={_quoted(value)}" for key, value in event.items() if key not in _NOT_IN_MESSAGE]
    line = " ".join([str(event.get("event", "")), *context])
    return f"{line}\n{event['exception']}" if "exception" in event else line


def field_name(key: str) -> str:
    """`model` -> `FC_MODEL`; the journal takes A-Z, 0-9 and _, at most 64 bytes, and drops entries with other names."""
    name = _NOT_IN_NAMES.sub("_", key.upper()).strip("_")
    return f"FC_{name}"[:LONGEST_NAME] if name else ""


def encode(fields: Iterable[tuple[str, str]]) -> bytes:
    """The datagram for these fields."""
    return b"".join(_encode_field(name.encode(), value.encode(errors="backslashreplace")) for name, value in fields)


def _encode_field(name: bytes, value: bytes) -> bytes:
    if b"\n" not in value:
        return name + b"=" + value + b"\n"
    return name + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"


def _quoted(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(character.isspace() for character in text) else text
