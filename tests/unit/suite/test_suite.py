"""A test that fails beside others gets one second try alone, and only where that can mean something."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import suite
from tests.suite import MOST, Run, deserves_second_try, told

FAILED = int(pytest.ExitCode.TESTS_FAILED)
CROWDED = """
import os
def test_well(): pass
def test_crowded(): assert "PYTEST_XDIST_WORKER" not in os.environ
"""
WRONG = "import pytest\n@pytest.mark.parametrize('n', ['a b'])\ndef test_wrong(n): assert False\n"


def run(count: int = 1, *, beside: bool = True, whole: bool = True) -> Run:
    return Run(beside, whole, failed=dict.fromkeys(f"t{n}" for n in range(count)))


def test_few_failures_beside_others_deserve_a_second_try() -> None:
    assert deserves_second_try(run(MOST), FAILED)


@pytest.mark.parametrize(
    ("what", "status"),
    [
        pytest.param(run(0), 0, id="nothing failed"),
        pytest.param(run(MOST + 1), FAILED, id="too many failed"),
        pytest.param(run(beside=False), FAILED, id="they ran alone already"),
        pytest.param(run(whole=False), FAILED, id="something was not collected, or not run"),
        pytest.param(run(), int(pytest.ExitCode.INTERRUPTED), id="somebody stopped it"),
        pytest.param(run(), int(pytest.ExitCode.INTERNAL_ERROR), id="pytest itself broke"),
    ],
)
def test_no_second_try_when(what: Run, status: int) -> None:
    assert not deserves_second_try(what, status)


def test_what_passed_and_what_failed_alone_is_told_in_plain_words() -> None:
    assert told(["a", "b"], []) == ["fleetcast: 2 tests failed beside others and passed alone:", "  a", "  b"]
    assert told([], ["c"]) == ["fleetcast: 1 test failed beside others and alone:", "  c"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = t\n")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "test_crowded.py").write_text(CROWDED)
    return tmp_path


def ran(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # half of the time
    command = [sys.executable, "-P", suite.__file__, "-p", "xdist.plugin", "-n", "2", *arguments]
    return subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, timeout=110, check=False)


def test_suite_whose_only_failure_passes_alone_passes_and_names_it(tree: Path) -> None:
    ended = ran(tree, "t", "-v")

    assert ended.returncode == 0
    assert "1 failed, 1 passed" in ended.stdout
    # What passed is not run again, although it is in the folder that was asked for.
    assert "collected 1 item" in ended.stdout
    assert ended.stdout.endswith(
        "fleetcast: 1 test failed beside others and passed alone:\n  t/test_crowded.py::test_crowded\n"
    )


def test_suite_with_a_test_that_fails_twice_fails(tree: Path) -> None:
    (tree / "t" / "test_wrong.py").write_text(WRONG)

    ended = ran(tree)

    assert ended.returncode == 1
    assert "passed alone:\n  t/test_crowded.py::test_crowded\n" in ended.stdout
    assert ended.stdout.endswith("failed beside others and alone:\n  t/test_wrong.py::test_wrong[a b]\n")


@pytest.mark.parametrize("argument", ["--strict", "-x"])
def test_no_second_try_when_none_is_wanted_or_tests_were_left_out(tree: Path, argument: str) -> None:
    ended = ran(tree, argument)

    assert ended.returncode != 0
    assert "second try" not in ended.stdout


def test_test_that_cannot_be_collected_fails_the_suite_at_once(tree: Path) -> None:
    (tree / "t" / "test_broken.py").write_text("import nowhere_to_be_found")

    ended = ran(tree)

    assert ended.returncode != 0
    assert "second try" not in ended.stdout


def test_process_that_dies_beside_others_counts_as_a_failure_of_its_test(tree: Path) -> None:
    (tree / "t" / "test_crowded.py").write_text(
        CROWDED.replace("assert", "'PYTEST_XDIST_WORKER' in os.environ and os._exit(3); assert")
    )

    assert "1 test failed beside others and passed alone" in ran(tree).stdout
