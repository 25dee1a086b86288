"""What must be true when a fault is over: one checker for all faults, made of pure rules over what was seen.

Every rule returns sentences about what is wrong, none when all is well, so that one failure tells everything at once.
`tests/system/faults/test_aftermath.py` gives every rule something broken to find.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.system.faults.machine import Turn, lost_seconds

from fleetcast.transport.bittorrent.profile import BLOCK, MAX_QUEUE

MAX_FETCHED_RATIO = 1.1
"""Received payload over size of the content, at most: nobody fetches again more than a tenth."""
ASKED_BYTES = MAX_QUEUE * BLOCK
"""What one source may be asked for at once. It is asked of another one when nothing comes, and may come from both."""

ALLOWED = tuple(
    re.compile(pattern)
    for pattern in (
        r"\.capability",
        r"artifacts/[0-9a-f]{64}\.json",
        r"store/sha256/[0-9a-f]{2}/[0-9a-f]{64}",
        # The files of a torrent that is seeded; only under the names of its content, see `leftovers`.
        r"swarm/[0-9a-f]{64}/[0-9a-f]{16}/.+",
        r"(models|datasets)/[a-z0-9_-]+/(current|previous|canary)",
        r"(models|datasets)/[a-z0-9_-]+/\.slot\.json",
        r"(models|datasets)/[a-z0-9_-]+/slots\.json",
        r"(models|datasets)/[a-z0-9_-]+/\.installs/[A-Za-z0-9._+-]+\.json",
        r"(models|datasets)/[a-z0-9_-]+/(?!current/|previous/|canary/)[A-Za-z0-9][A-Za-z0-9._+-]*/.+",
        r"models_essential/[^/]+",
        r"spool/forwarder\.lock",
        r"spool/[0-9A-Z]{26}-\d+(\.cheap)?\.jsonl(\.offset)?",
    )
)
"""Every file that may lie in a data folder when nothing is under way. Not in here, and so always a leftover: anything
in `staging`, `quarantine` (unless a test says that something had to go there), control files of aria2c, and what rsync
calls a file that it has not finished."""

TEMPORARY = re.compile(r"(\.(aria2|part|partial|tmp|next|new)|~|/\.[^/]+\.[A-Za-z0-9]{6})$")
"""Names of unfinished files of all tools, wherever they lie; `.slot.json` and the like end in none of these."""


@dataclass(frozen=True, slots=True)
class Moves:
    """When a node's transfer got on: times of a monotonic clock, in order, its start and its end included.

    Attributes:
        excused: intervals in which no live source existed, or the node itself was dead.
    """

    node: str
    times: Sequence[float]
    excused: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one node received of one artifact over all its attempts, the size of the content, and how many nodes could
    send it.
    """

    node: str
    received_bytes: int
    size_bytes: int
    sources: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A process that a test started, or a descendant of one."""

    pid: int
    created: float
    command: str


def wrong_bytes(current: Mapping[str, Path], expected_sha256: str) -> list[str]:
    """Nodes whose served file (by node) is missing or is not what was promoted."""
    found = []
    for node, path in current.items():
        actual = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        if actual != expected_sha256:
            found.append(f"{node} serves {actual[:16]} at {path}, promoted was {expected_sha256[:16]}")
    return found


def fetched_again(fetched: Iterable[Fetched]) -> list[str]:
    """Nodes that fetched more than a tenth of an artifact again, beside what was on its way from every source."""
    return [
        f"{f.node} received {f.received_bytes} bytes for {f.size_bytes}: {f.received_bytes / f.size_bytes:.2f} times"
        for f in fetched
        if f.received_bytes > MAX_FETCHED_RATIO * f.size_bytes + f.sources * ASKED_BYTES
    ]


def gaps(moves: Iterable[Moves], limit_seconds: float, turns: Sequence[Turn] = ()) -> list[str]:
    """Nodes that stood still for longer than *limit_seconds* although a live source existed and, as *turns* of a clock
    beside them tell, the machine had time for them.
    """
    found = []
    for each in moves:
        for before, after in zip(each.times, each.times[1:], strict=False):
            counted = list(_counted(before, after, each.excused))
            still = sum(end - start for start, end in counted)
            if still <= limit_seconds:
                continue
            lost = sum(lost_seconds(turns, start, end) for start, end in counted)
            if still - lost > limit_seconds:
                at = before - each.times[0]
                found.append(
                    f"{each.node} stood still for {still - lost:.1f} s, {at:.1f} s after its start "
                    f"({lost:.1f} s more because the machine was busy)"
                )
    return found


def _counted(began: float, ended: float, excused: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The parts of a time that no interval covers; intervals may overlap."""
    reached = began
    for start, end in sorted(excused):
        if start > reached:
            yield reached, min(start, ended)
        reached = min(max(reached, end), ended)
        if start >= ended:
            return
    if reached < ended:
        yield reached, ended


def leftovers(data: Path, *, quarantine: bool = False) -> list[str]:
    """Files below a data folder that nothing accounts for.

    Args:
        quarantine: whether something may have been set aside.
    """
    kept = _kept_files(data)
    found = []
    for path in sorted(data.rglob("*")):
        name = path.relative_to(data).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        if quarantine and name.startswith("quarantine/") and not TEMPORARY.search(name):
            continue
        known = any(pattern.fullmatch(name) for pattern in ALLOWED) and not TEMPORARY.search(name)
        # What is fetched becomes a second name of a file of the store; one with a single name was left unfinished.
        unfinished = name.startswith("swarm/") and known and path.stat().st_ino not in kept
        if unfinished or not known:
            found.append(f"{data.parent.name}: {name}")
    return found


def _kept_files(data: Path) -> set[int]:
    return {path.stat().st_ino for path in (data / "store").rglob("*") if path.is_file()}


def orphans(seen: Iterable[Seen]) -> list[str]:
    """Processes of *seen* that are alive, although those who started them are not."""
    return [f"process {each.pid} is left: {each.command[:200]}" for each in seen if is_alive(each)]


def is_alive(seen: Seen) -> bool:
    """Whether that very process, and not a later one of the same number, runs."""
    try:
        process = psutil.Process(seen.pid)
        return process.create_time() == seen.created and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def marked(marker: str) -> list[Seen]:
    """All processes that name *marker* in their environment or their command line, but zombies."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if marker in command or any(marker in value for value in process.environ().values()):
                found.append(Seen(process.pid, process.create_time(), command))
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or a zombie
    return [each for each in found if is_alive(each)]


def family(pid: int) -> list[Seen]:
    """A process and its descendants, as far as they live."""
    found = []
    try:
        parent = psutil.Process(pid)
        members = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []
    for process in members:
        try:
            found.append(Seen(process.pid, process.create_time(), " ".join(process.cmdline())))
        except psutil.Error:
            continue
    return found
