"""What a pickle would import, read from its opcodes and never by running them (PEP 307, PEP 574; Lib/pickletools.py).

Names are followed through the memo only as far as that is certain. Whatever is not certain counts as unknown, because
scanners that guess have been led astray: an unknown name is never on an allow-list.
"""

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

UNKNOWN = "?"
MAX_NAMES = 1000
MAX_PICKLES = 16
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_TEXTS = frozenset(
    {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
)
_SILENT = frozenset({"PROTO", "FRAME"})
_BY_EXTENSION = frozenset({"EXT1", "EXT2", "EXT4"})


@dataclass(slots=True)
class Scan:
    """What one pickle names.

    Attributes:
        names: `module name` of every import, in the order of their appearance, each once; `?` where it cannot be told.
        calls: whether something imported is called or built.
        damage: why the opcodes end early; empty when they end as they should.
    """

    names: list[str] = field(default_factory=list)
    calls: bool = False
    damage: str = ""

    def add(self, name: str) -> None:
        if name not in self.names and len(self.names) < MAX_NAMES:
            self.names.append(name)


def scan(file: BinaryIO) -> Scan:
    """Read one pickle from where *file* stands to its end mark."""
    found = Scan()
    tracker = _Tracker()
    try:
        for opcode, argument in _operations(file):
            found.calls = found.calls or opcode in {"REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "BUILD"}
            for name in tracker.step(opcode, argument):
                found.add(name)
    except (ValueError, IndexError, KeyError, UnicodeDecodeError, OverflowError) as damaged:
        found.damage = str(damaged)[:200] or type(damaged).__name__
    return found


def scan_all(file: BinaryIO) -> Scan:
    """Read the pickles that follow each other in a file; what follows the last one is no damage."""
    found = scan(file)
    for _ in range(MAX_PICKLES):
        more = Scan() if found.damage else scan(file)
        if more.damage or not file.read(1):
            break
        file.seek(-1, 1)
        found.calls = found.calls or more.calls
        for name in more.names:
            found.add(name)
    return found


def _operations(file: BinaryIO) -> Iterator[tuple[str, object]]:
    return ((opcode.name, argument) for opcode, argument, _position in pickletools.genops(file))


class _Tracker:
    """Follows texts from where they are written to where they name an import: the two newest values, and the memo."""

    def __init__(self) -> None:
        self._memo: dict[int, str | None] = {}
        self._newest: list[str | None] = []

    def step(self, opcode: str, argument: object) -> list[str]:
        """Take one operation; returns what it imports."""
        if opcode in _SILENT:
            return []
        if opcode in {"GLOBAL", "INST"}:
            self._push(None)
            return [str(argument)]
        if opcode == "STACK_GLOBAL":
            return [self._stack_global()]
        if opcode in _BY_EXTENSION:
            self._push(None)
            return [UNKNOWN]
        self._follow(opcode, argument)
        return []

    def _follow(self, opcode: str, argument: object) -> None:
        if opcode in _TEXTS:
            self._push(argument if isinstance(argument, str) else None)
        elif opcode in _GETS:
            self._push(self._memo.get(int(str(argument))))
        elif opcode in _PUTS:
            self._memo[int(str(argument))] = self._top
        elif opcode == "MEMOIZE":
            self._memo[len(self._memo)] = self._top
        else:
            # Anything else may take values away, so that nothing is certain about what lies below.
            self._newest = []

    def _stack_global(self) -> str:
        module, name = self._newest if len(self._newest) == 2 else (None, None)
        self._newest = []
        return UNKNOWN if module is None or name is None else f"{module} {name}"

    def _push(self, value: str | None) -> None:
        self._newest = [*self._newest, value][-2:]

    @property
    def _top(self) -> str | None:
        return self._newest[-1] if self._newest else None
