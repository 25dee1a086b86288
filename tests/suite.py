"""Runs the test suite; what failed while other tests ran beside it is tried a second time, alone.

A machine with two cores that runs three tests at once is sometimes too busy for a fourth thing. A test that fails only
then is named at the end, so that it can be mended; one that fails twice fails the run. `--strict`: no second try.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

MOST = 8
"""More failures than this are no accident."""


@dataclass(eq=False)
class Run:
    """A plugin of pytest that notes how a run went.

    Attributes:
        beside: whether tests ran beside each other.
        whole: whether everything that was asked for was collected and run.
        options: what pytest was told, without the tests to run.
        failed: names of the tests that failed.
    """

    beside: bool = False
    whole: bool = True
    options: list[str] = field(default_factory=list)
    failed: dict[str, None] = field(default_factory=dict)

    def pytest_configure(self, config: pytest.Config) -> None:
        self.beside = bool(config.getoption("numprocesses", 0))
        self.options = [a for a in map(str, config.invocation_params.args) if a not in config.args]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.whole = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed[report.nodeid] = None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.shouldfail or session.shouldstop:
            self.whole = False


def deserves_second_try(run: Run, status: int) -> bool:
    """Whether the failures may be the machine's: they are few, and all else passed beside others."""
    return run.beside and run.whole and status == pytest.ExitCode.TESTS_FAILED and 0 < len(run.failed) <= MOST


def told(passed: Sequence[str], failed: Sequence[str]) -> list[str]:
    """What to say after the second try."""
    lines = []
    for names, what in ((passed, "failed beside others and passed alone"), (failed, "failed beside others and alone")):
        if names:
            lines += [f"fleetcast: {len(names)} {'test' if len(names) == 1 else 'tests'} {what}:"]
            lines += [f"  {name}" for name in names]
    return lines


def passes_alone(name: str, options: Sequence[str]) -> bool:
    """Run one test in a process of its own."""
    print(f"fleetcast: {name} failed beside others, second try alone ...", flush=True)
    command = [sys.executable, "-P", "-m", "pytest", *options, "-n", "0", name]
    return subprocess.run(command, check=False).returncode == pytest.ExitCode.OK


def main(arguments: Sequence[str]) -> int:
    """Run pytest with *arguments*; the exit status is pytest's, and 0 when all that failed passed alone."""
    run = Run()
    status = int(pytest.main([a for a in arguments if a != "--strict"], plugins=[run]))
    if "--strict" in arguments or not deserves_second_try(run, status):
        return status
    alone = {name: passes_alone(name, run.options) for name in run.failed}
    failed = [name for name, passed in alone.items() if not passed]
    print(*told([name for name in alone if name not in failed], failed), sep="\n", flush=True)
    return status if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
