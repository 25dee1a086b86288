"""What is seen in a folder of exports, from look to look: which files are ready, and what is worth saying. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_UNFINISHED = re.compile(r".*\.(tmp|temp|part|partial|incomplete|crdownload|download|swp)|.*~|\..*")


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells a file from what it was: a writer changes one of these."""

    device: int
    inode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """One name in the folder; without a state it is not looked into, and *problem* says why."""

    name: str
    state: FileState | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look leads to.

    Attributes:
        ready: files that are the same as at the last look, and that nobody has judged as they are now.
        news: names and what to say about them, each said once.
    """

    ready: tuple[tuple[str, FileState], ...] = ()
    news: tuple[tuple[str, str], ...] = ()


@dataclass
class Watched:
    """The memory of one folder."""

    _last: dict[str, FileState] = field(default_factory=dict)
    _settled: dict[str, FileState] = field(default_factory=dict)
    _said: dict[str, str] = field(default_factory=dict)

    def look(self, sightings: Iterable[Sighting]) -> Look:
        """Take what lies in the folder now."""
        found = {s.name: s for s in sightings}
        ready: list[tuple[str, FileState]] = []
        news = [(s.name, s.problem) for s in found.values() if s.problem and self._is_news(s.name, s.problem)]
        for name, sighting in sorted(found.items()):
            state, before = sighting.state, self._last.get(name)
            if state is None or self._settled.get(name) == state:
                continue
            if before == state:
                ready.append((name, state))
            elif before is not None and self._is_news(name, "it is still growing"):
                news.append((name, "it is still growing"))
        self._last = {s.name: s.state for s in found.values() if s.state is not None}
        for memory in (self._settled, self._said):
            for gone in memory.keys() - found.keys():
                del memory[gone]
        return Look(tuple(ready), tuple(sorted(news)))

    def settle(self, name: str, state: FileState, problem: str = "") -> bool:
        """The file was judged as it is now: nobody looks into it until it changes. True when *problem* is news."""
        self._settled[name] = state
        if not problem:
            self._said.pop(name, None)
        return bool(problem) and self._is_news(name, problem)

    def _is_news(self, name: str, problem: str) -> bool:
        if self._said.get(name) == problem:
            return False
        self._said[name] = problem
        return True


def unfinished(name: str) -> bool:
    """Whether a name is one that writers use until a file is complete."""
    return _UNFINISHED.fullmatch(name) is not None
