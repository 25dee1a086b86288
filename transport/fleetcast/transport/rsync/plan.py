"""What rsync is told, as pure functions: which source can be used, which words, which files by which method."""

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fleetcast.config.settings import RsyncSettings
from fleetcast.events.content import Content
from fleetcast.transport.protocol import Availability, Source

MINIMUM = (3, 5, 0)
"""3.5.0 closed 33 holes, several of which let a source write outside the destination."""
MAX_BLOCK_BYTES = 128 * 1024
"""Largest block of rsync's delta method."""
SECONDS_PER_PROVEN_GIB = 10.0
"""Time allowed before the first byte for both ends to read what is proven already: 100 MB/s, a slow disk."""
KEPT_BACK_BYTES = 256 * 1024
"""What rsync collects before it writes (fileio.c)."""
_HOST = re.compile(r"[A-Za-z0-9.:_-]+")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}")
_MODULE = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Remote:
    """Where rsync reads: the forced command of *user*, by ssh, or a *module* of an rsync daemon."""

    host: str
    port: int
    user: str | None = None
    module: str | None = None

    @property
    def root(self) -> str:
        """What comes before a path."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{shown}:" if self.module is None else f"rsync://{shown}:{self.port}/{self.module}/"


def remote(endpoint: str) -> Remote | None:
    """Read an endpoint, `ssh://user@host:port` or `rsync://host:port/module`; None when it is neither.

    An endpoint comes from other nodes, and words that begin with a dash or hold a blank would be options of ssh.
    """
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname or ""
    if not _HOST.fullmatch(host) or host.startswith("-") or parts.query or parts.fragment:
        return None
    if parts.scheme == "ssh" and _USER.fullmatch(parts.username or "") and parts.path in {"", "/"}:
        return Remote(host, port or 22, user=parts.username)
    module = parts.path.removeprefix("/")
    if parts.scheme == "rsync" and parts.username is None and _MODULE.fullmatch(module):
        return Remote(host, port or 873, module=module)
    return None


def usable(source: Source, settings: RsyncSettings) -> bool:
    """Whether rsync can read from *source*: it holds everything, and serves it in a way that the settings allow."""
    where = remote(source.rsync) if source.rsync and source.complete else None
    return where is not None and (where.module is None or settings.modules)


@dataclass(frozen=True, slots=True)
class Job:
    """One blob to bring.

    Attributes:
        places: positions in the content of the files that are this blob.
        size: bytes.
        delta: its proven pieces are used and only the others fetched; otherwise it is fetched whole.
    """

    sha256: str
    size: int
    places: tuple[int, ...]
    delta: bool

    @property
    def name(self) -> str:
        """Its path below the source's store."""
        return f"sha256/{self.sha256[:2]}/{self.sha256}"


def jobs(
    content: Content, proven: Mapping[int, Collection[int]], piece_length: int, settings: RsyncSettings
) -> tuple[Job, ...]:
    """What is still to be brought, in the order in which rsync sends it; one job per blob, however often it occurs."""
    places: dict[str, list[int]] = {}
    for index, file in enumerate(content.files):
        if len(proven.get(index, ())) < -(-file.size // piece_length):
            places.setdefault(file.sha256, []).append(index)
    found = []
    for sha256, indexes in sorted(places.items()):
        size = content.files[indexes[0]].size
        begun = any(proven.get(i) for i in indexes)
        found.append(Job(sha256, size, tuple(indexes), begun and size <= settings.delta_limit_bytes))
    return tuple(found)


def patience_seconds(work: Collection[Job], settings: RsyncSettings) -> float:
    """How long nothing may come before the first byte: connecting, and reading what the delta method compares."""
    compared = sum(job.size for job in work if job.delta)
    return settings.connect_seconds + settings.stall_seconds + compared / 2**30 * SECONDS_PER_PROVEN_GIB


@dataclass(slots=True)
class Pulse:
    """Tells a source that brings something from one that has stalled.

    rsync writes KEPT_BACK_BYTES at a time, which under a low cap come over seconds. So while no more than twice that
    came in the stream, the time in which this node held it back is not the source's; a source could send for ever what
    is no content.
    """

    _heard: float
    _position: int = 0
    _received: int = 0
    _held_seconds: float = 0.0

    def quiet_seconds(self, now: float, position: int, received: int = 0, held_seconds: float = 0.0) -> float:
        """How long the source brought nothing.

        Args:
            position: how far the files are, in bytes.
            received: bytes of the stream so far.
            held_seconds: how long the stream was held back so far.
        """
        if position > self._position:
            self._heard, self._position = now, position
            self._received, self._held_seconds = received, held_seconds
        excused = received - self._received <= 2 * KEPT_BACK_BYTES
        return now - self._heard - (held_seconds - self._held_seconds if excused else 0.0)

    @property
    def began(self) -> bool:
        """Whether a first byte was written."""
        return self._position > 0


def command(
    binary: str,
    where: Remote,
    work: Collection[Job],
    stage: Path,
    settings: RsyncSettings,
    *,
    piece_length: int,
    handover: Sequence[str] = (),
) -> list[str]:
    """The words that bring *work* into `stage/new`; the names come from `stage/names`.

    Plain files only, no larger than promised, never compared by time or size: each is wanted because it is not here.

    Args:
        handover: what rsync, or ssh, runs instead of connecting to the source itself; its own name follows.
    """
    delta = any(job.delta for job in work)
    words = [
        *(binary, "--no-motd", "--inplace", "--ignore-times", "--no-links", "--no-devices", "--no-specials"),
        *("--no-perms", "--no-times", "--no-implied-dirs", "--numeric-ids"),
        f"--max-size={max(job.size for job in work)}",
        f"--timeout={max(1, round(patience_seconds(work, settings)))}",
        f"--files-from={stage / 'names'}",
    ]
    if delta:
        block = min(MAX_BLOCK_BYTES, piece_length)
        words += ["--no-whole-file", f"--block-size={block}", f"--copy-dest={stage / 'basis'}"]
    else:
        words += ["--whole-file"]
    if where.module is None:
        words += ["-e", ssh(where, settings, handover)]
    elif handover:
        words += ["-e", " ".join(map(_quoted, (*handover, "rsync")))]
    else:
        words.append(f"--contimeout={max(1, round(settings.connect_seconds))}")
    return [*words, where.root, f"{stage / 'new'}/"]


def ssh(where: Remote, settings: RsyncSettings, handover: Sequence[str] = ()) -> str:
    """The remote shell: never asks, trusts known hosts only, reads no configuration of the user, forwards nothing."""
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "ConnectTimeout": str(max(1, round(settings.connect_seconds))),
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "3",
        "ClearAllForwardings": "yes",
    }
    if settings.known_hosts is not None:
        options["UserKnownHostsFile"] = str(settings.known_hosts)
    if settings.identity is not None:
        options["IdentitiesOnly"] = "yes"
    if handover:
        # A shell reads it, after ssh has looked for its % tokens.
        options["ProxyCommand"] = shlex.join((*handover, "ssh")).replace("%", "%%")
        options["ProxyUseFdpass"] = "yes"
    words = ["ssh", "-F", "none", "-T", "-a", "-x", "-p", str(where.port), "-l", str(where.user)]
    if settings.identity is not None:
        words += ["-i", _quoted(str(settings.identity))]
    return " ".join([*words, *(f"-o {_quoted(f'{name}={value}')}" for name, value in options.items())])


def _quoted(word: str) -> str:
    """rsync splits the remote shell at blanks, and takes a doubled quote inside quotes for one."""
    doubled = word.replace("'", "''")
    return f"'{doubled}'"


def judge(path: str | None, version: tuple[int, ...] | None, settings: RsyncSettings) -> Availability:
    """Whether rsync can be used here; *version*: None when it could not be read."""
    if not settings.enabled:
        return Availability(ok=False, reason="rsync is switched off: rsync.enabled is false")
    if path is None:
        return Availability(ok=False, reason="rsync is not installed: apt install rsync")
    if version is None:
        return Availability(ok=False, reason=f"{path} does not say which version of rsync it is")
    if version < MINIMUM and not settings.accept_older:
        found, least = (".".join(map(str, v)) for v in (version, MINIMUM))
        reason = f"rsync {found} has known holes: install {least} or newer, or set rsync.accept_older for a patched one"
        return Availability(ok=False, reason=reason)
    return Availability(ok=True)


def version_in(text: str) -> tuple[int, ...] | None:
    """The version in the first line of `rsync --version`."""
    found = re.match(r"rsync\s+version\s+v?(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else None
