"""The crash rig: kills a store in the middle of its work, opens it again, and looks at every name a reader may open.

A program of its own, so that it forks from a process without threads; `python -m tests.integration.store.crash_rig` …
`matrix SCENARIO all|before|POINT [broken] [ACTION]` kills (or acts otherwise) at every failpoint;
`power SCENARIO POINT,POINT [unsynced]` cuts the power there, on a disk of its own;
`run SCENARIO FOLDER [broken]` runs a scenario once, to be killed from outside;
`judge SCENARIO FOLDER` opens the store again and says what is wrong with it.
Each prints one line of JSON.
"""

import ast
import json
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.integration.store.crashes.careless import CarelessStore, HastyStore, MixingStore, MovingStore
from tests.integration.store.crashes.judging import judge
from tests.integration.store.crashes.power import power
from tests.integration.store.crashes.scenarios import SCENARIOS, Scenario
from tests.integration.store.crashes.site import Site

import fleetcast.transport.store as package
from fleetcast.transport import failpoints
from fleetcast.transport.errors import TransportError
from fleetcast.transport.store import Store

QUICK_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""A kill loses nothing that was written, so that the kind of disk does not matter here; power cuts need a real one."""
SOURCE = Path(package.__file__).parent
DURABLE = frozenset(
    {"sync", "rename", "link", "link_open_file", "remove", "remove_tree", "replace_by_link", "flip", "write"}
)


# -- failpoints in the source


def points() -> set[str]:
    """The failpoints that the source of the store declares, without `.before` and `.after`."""
    return {point for path in sorted(SOURCE.glob("*.py")) for point in _points_of(ast.parse(path.read_text()))}


def _points_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg == "point" and isinstance(keyword.value, ast.Constant):
                    yield str(keyword.value.value)


# -- the kills


def crossed(scenario: Scenario, template: Path, kind: type[Store]) -> Counter[str]:
    """How often a run passes each failpoint."""
    passed: Counter[str] = Counter()

    def count(name: str) -> None:
        passed[name] += 1

    with copied(template) as root, failpoints.watched(count):
        scenario.run(Site(root, kind))
    return passed


class copied:  # noqa: N801 - reads as a verb
    """A copy of a folder in which hard links stay hard links."""

    def __init__(self, template: Path) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="case-", dir=template.parent))
        os.spawnlp(os.P_WAIT, "cp", "cp", "-a", f"{template}/.", str(self._root))

    def __enter__(self) -> Path:
        return self._root

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._root)


def kill_at(scenario: Scenario, root: Path, point: str, kind: type[Store]) -> str:
    """Run in a child that dies at *point*; returns how it ended."""
    child = os.fork()
    if child == 0:
        try:
            failpoints.arm(point)
            scenario.run(Site(root, kind))
        except TransportError as fault:
            print(type(fault).__name__, fault, file=sys.stderr)
            os._exit(3)
        except BaseException as fault:
            print(repr(fault), file=sys.stderr)
            os._exit(4)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else str(os.WEXITSTATUS(status))


def matrix(name: str, which: str, kind: type[Store], action: str = "kill") -> dict[str, object]:
    """Act at every failpoint that the scenario passes; says which cases went wrong."""
    scenario, failures, cases = SCENARIOS[name], {}, 0
    with tempfile.TemporaryDirectory(prefix="crash-", dir=QUICK_DISK) as top:
        template = Path(top) / "template"
        scenario.prepare(Site(template, kind))
        passed = crossed(scenario, template, kind)
        for point, count in sorted(passed.items()):
            if not _is_wanted(point, which):
                continue
            for passage in range(1, (count if which == "all" else 1) + 1):
                cases += 1
                with copied(template) as root:
                    ended = kill_at(scenario, root, f"{point}={action}@{passage}", kind)
                    # Some steps have another way to their end, for example a copy where a link is not possible.
                    expected = {"SIGKILL"} if action == "kill" else {"0", "3"}
                    wrong = [] if ended in expected else [f"it ended with {ended}"]
                    if wrong := wrong + judge(scenario, root, kind):
                        failures[f"{point}@{passage}"] = wrong
    return {"cases": cases, "passed": sorted(passed), "failures": failures}


def _is_wanted(point: str, which: str) -> bool:
    """What lies between the end of one step and the beginning of the next is not durable: `before` leaves it out."""
    return which in {"all", point} or (which == "before" and not point.endswith(".after"))


def main(arguments: list[str]) -> int:
    command, name, where, *more = arguments
    variants = {"mixing": MixingStore, "broken": CarelessStore, "hasty": HastyStore, "moving": MovingStore}
    kind = next((variants[word] for word in more if word in variants), Store)
    if command == "matrix":
        print(json.dumps(matrix(name, where, kind, *[m for m in more if m not in variants])))
    elif command == "power":
        print(json.dumps(power(name, where.split(","), synced="unsynced" not in more)))
    elif command == "prepare":
        SCENARIOS[name].prepare(Site(Path(where), kind))
    elif command == "judge":
        print(json.dumps(judge(SCENARIOS[name], Path(where), kind)))
    elif command == "run":
        try:
            SCENARIOS[name].run(Site(Path(where), kind))
        except TransportError as fault:
            print(json.dumps([type(fault).__name__, str(fault)]))
            return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
