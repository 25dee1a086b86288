"""Killed anywhere, full anywhere: every name that a reader may open holds the old bytes or the new ones."""

import ast
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.integration.store import crash_rig
from tests.integration.store.crashes.scenarios import SCENARIOS
from tests.integration.store.crashes.site import Site

from fleetcast.transport.store import Store

RIG = (sys.executable, "-m", crash_rig.__name__)
"""Run from the root of the checkout."""
RAW = frozenset(
    {"rename", "renames", "replace", "link", "symlink", "fsync", "fdatasync", "unlink", "remove", "rmdir", "removedirs"}
)
"""Calls of the operating system that change what is durable."""


def run_rig(*arguments: str) -> Any:
    done = subprocess.run([*RIG, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


# -- failpoints stand on each side of every durable step


def test_only_one_module_of_the_store_changes_what_is_durable() -> None:
    for path in crash_rig.SOURCE.glob("*.py"):
        calls = list(_raw_calls(ast.parse(path.read_text())))
        assert path.name == "folder.py" or not calls, f"{path.name} calls {calls}; use Folder"


def test_every_durable_call_has_a_failpoint_on_each_side() -> None:
    bare = list(_bare_calls(ast.parse((crash_rig.SOURCE / "folder.py").read_text())))
    assert not bare


def test_a_durable_call_without_failpoints_is_noticed() -> None:
    source = (crash_rig.SOURCE / "folder.py").read_text()
    count = sum(_is_failpoint(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt))
    assert count > 15
    for number in range(count):
        tree = ast.parse(source)
        _Without(number).visit(tree)
        assert list(_bare_calls(tree)), f"failpoint {number} could be left out"


def test_every_durable_step_says_its_name() -> None:
    for path in crash_rig.SOURCE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _is_step(node, crash_rig.DURABLE) and path.name != "folder.py":
                assert any(k.arg == "point" for k in node.keywords), f"{path.name}:{node.lineno} names no failpoint"


def test_every_failpoint_of_the_source_is_passed_by_a_scenario(tmp_path: Path) -> None:
    passed: set[str] = set()
    for name in SCENARIOS:
        template = tmp_path / name
        SCENARIOS[name].prepare(Site(template))
        passed |= {p.rsplit(".", 1)[0] for p in crash_rig.crossed(SCENARIOS[name], template, Store)}
    assert not crash_rig.points() - passed


class _Without(ast.NodeTransformer):
    """Puts nothing in place of one failpoint."""

    def __init__(self, number: int) -> None:
        self._left = number

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        if not _is_failpoint(node):
            return node
        self._left -= 1
        return ast.copy_location(ast.Pass(), node) if self._left == -1 else node


def _raw_calls(tree: ast.AST) -> Any:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RAW:
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in {"os", "shutil", "Path"}:
                yield f"{owner.id}.{node.func.attr}"


def _bare_calls(tree: ast.AST) -> Any:
    """Statements with a raw call that do not stand between two failpoints."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for before, here, after in zip([None, *body], body, [*body[1:], None], strict=False):
            if isinstance(here, (ast.FunctionDef, ast.ClassDef, ast.If, ast.For)) or not list(_raw_calls(here)):
                continue
            inner = getattr(here, "body", [])
            if isinstance(here, ast.With) and any(_is_failpoint(s) for s in inner):
                continue  # its own body is looked at for itself
            if isinstance(node, ast.With) and not any(_is_failpoint(s) for s in body):
                continue  # `with suppress(...)` around one call counts as that call
            if not (_is_failpoint(before) and _is_failpoint(after)):
                yield here.lineno


def _is_failpoint(node: ast.stmt | None) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and getattr(node.value.func, "id", "") == "failpoint"
    )


def _is_step(node: ast.Call, steps: frozenset[str]) -> bool:
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    return name in (steps - {"remove", "write", "link", "rename", "sync"} | {"sync_file"})


# -- the matrix of failpoints


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_kill_before_every_durable_step_leaves_old_or_new(scenario: str) -> None:
    found = run_rig("matrix", scenario, "before")
    assert found["cases"] > 20
    assert found["failures"] == {}


@pytest.mark.parametrize(
    ("scenario", "fault"),
    [
        ("promote", "ENOSPC"),
        *(pytest.param(s, f, marks=pytest.mark.soak) for s in SCENARIOS for f in ("ENOSPC", "EIO")),
    ],
)
def test_error_of_the_disk_at_every_durable_step_is_typed_and_breaks_nothing(scenario: str, fault: str) -> None:
    assert run_rig("matrix", scenario, "before", f"raise:{fault}")["failures"] == {}


def test_an_install_without_staging_and_rename_is_caught() -> None:
    failures = run_rig("matrix", "promote", "careless.middle", "broken")["failures"]
    assert any("holds other bytes" in wrong for wrong in failures["careless.middle@1"])


@pytest.mark.soak
def test_an_install_that_mixes_files_of_two_bundles_is_caught() -> None:
    failures = run_rig("matrix", "bundle", "before", "mixing")["failures"]
    assert any("mixes two contents" in wrong for case in failures.values() for wrong in case)


@pytest.mark.parametrize(
    ("point", "complaint"),
    [("hasty.pointer", "c/current is nothing"), ("hasty.slots", "c/slots.json cannot be read")],
)
def test_pointers_and_slots_file_that_are_not_replaced_in_one_step_are_caught(point: str, complaint: str) -> None:
    failures = run_rig("matrix", "canary", point, "hasty")["failures"]
    assert any(complaint in wrong for case in failures.values() for wrong in case)


def test_an_archive_that_moves_files_before_it_lists_them_is_caught() -> None:
    failures = run_rig("matrix", "archive", "moving.middle", "moving")["failures"]
    assert any("neither installed nor in the archive" in wrong for case in failures.values() for wrong in case)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_kill_on_either_side_of_every_passage_leaves_old_or_new(scenario: str) -> None:
    assert run_rig("matrix", scenario, "all")["failures"] == {}


# -- power cuts


@pytest.fixture(scope="module")
def loop_disk(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where no file system can be mounted from a file."""
    image = tmp_path_factory.mktemp("loop") / "image"
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("power cuts need root and mkfs.ext4")
    image.write_bytes(bytes(2**20))
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, image.parent], check=False, capture_output=True).returncode:
        pytest.skip("power cuts need loop devices")
    subprocess.run(["umount", image.parent], check=True)


@pytest.mark.usefixtures("loop_disk")
def test_power_cut_leaves_old_or_new_and_loses_nothing_that_had_returned() -> None:
    assert run_rig("power", "promote", "install.publish.after,slot.intend.after,pointer.flip.between,end") == {}


@pytest.mark.usefixtures("loop_disk")
def test_a_store_that_does_not_sync_is_caught_by_the_power_cut() -> None:
    assert "everything had returned" in run_rig("power", "promote", "end", "unsynced")["end"][0]


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("loop_disk")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_power_cut_on_either_side_of_every_durable_step_leaves_old_or_new(tmp_path: Path, scenario: str) -> None:
    SCENARIOS[scenario].prepare(Site(tmp_path))
    passed = sorted(crash_rig.crossed(SCENARIOS[scenario], tmp_path, Store))
    assert run_rig("power", scenario, ",".join(passed)) == {}


# -- every system call

CALLS = (
    "write",
    "fsync",
    "rename",
    "renameat",
    "renameat2",
    "linkat",
    "symlinkat",
    "unlinkat",
    "mkdirat",
    "fchmod",
)
strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the old versions, to be copied per case."""
    template = tmp_path_factory.mktemp("template")
    subprocess.run([*RIG, "prepare", "promote", template], check=True)
    return template


@pytest.fixture(scope="module")
def call_counts(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """The numbers of the calls in a whole run that touch the data folder, by kind: only those are worth a kill."""
    root = _copy(prepared, tmp_path_factory.mktemp("count"))
    log = root.parent / "log"
    command = ["strace", "-f", "-y", "-qq", "-o", str(log), "-e", f"trace={','.join(CALLS)}"]
    subprocess.run([*command, *RIG, "run", "promote", str(root)], check=True)
    numbers: dict[str, list[int]] = {call: [] for call in CALLS}
    passed: dict[tuple[str, str], int] = {}
    for line in log.read_text(errors="replace").splitlines():
        process, _, rest = line.partition(" ")
        call = rest.strip().partition("(")[0]
        if call in numbers and "resumed" not in line:
            # strace counts the calls of each thread for itself.
            passed[process, call] = passed.get((process, call), 0) + 1
            if str(root / "data") in rest:
                numbers[call].append(passed[process, call])
    return {call: sorted(set(found)) for call, found in numbers.items() if found}


def _copy(template: Path, parent: Path) -> Path:
    root = parent / "site"
    subprocess.run(["cp", "-a", f"{template}/.", str(root)], check=True)
    return root


def _inject(prepared: Path, parent: Path, call: str, number: int, fault: str) -> list[str]:
    """Run with one call spoiled; returns what is wrong."""
    root = _copy(prepared, parent)
    spoil = [
        "strace",
        "-f",
        "-qq",
        "-o",
        os.devnull,
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:{fault}:when={number}",
    ]
    done = subprocess.run([*spoil, *RIG, "run", "promote", str(root)], capture_output=True, text=True, check=False)
    wrong: list[str] = run_rig("judge", "promote", str(root))
    if fault.startswith("error") and done.returncode not in {0, 3}:
        wrong.append(f"it ended with {done.returncode}: {done.stderr[-300:]}")
    shutil.rmtree(root)
    return wrong


def _sample(call_counts: dict[str, list[int]], size: int, calls: tuple[str, ...] = CALLS) -> list[tuple[str, int]]:
    everything = [(call, n) for call in calls for n in call_counts.get(call, [])]
    return sorted(random.Random(1).sample(everything, min(size, len(everything))))


@strace
def test_system_calls_of_an_install_are_seen(call_counts: dict[str, list[int]]) -> None:
    assert len(call_counts["fsync"]) > 20
    assert {"write", "linkat", "symlinkat", "unlinkat"} <= set(call_counts)
    assert {"rename", "renameat", "renameat2"} & set(call_counts)


@strace
def test_kill_at_a_sample_of_system_calls_leaves_old_or_new(
    prepared: Path, call_counts: dict[str, list[int]], tmp_path: Path
) -> None:
    for call, number in _sample(call_counts, 2):
        assert _inject(prepared, tmp_path, call, number, "signal=SIGKILL") == [], f"{call} {number}"


@strace
@pytest.mark.parametrize("fault", ["ENOSPC", "EIO"])
def test_failing_write_or_sync_is_typed_and_breaks_nothing(
    prepared: Path, call_counts: dict[str, list[int]], tmp_path: Path, fault: str
) -> None:
    for call, number in _sample(call_counts, 1, ("write", "fsync")):
        assert _inject(prepared, tmp_path, call, number, f"error={fault}") == [], f"{call} {number}"


@strace
@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", ["signal=SIGKILL", "error=ENOSPC", "error=EIO"])
def test_fault_at_every_system_call_leaves_old_or_new(
    prepared: Path, call_counts: dict[str, list[int]], tmp_path: Path, fault: str
) -> None:
    calls = CALLS if fault.startswith("signal") else ("write", "fsync")
    failures = {
        f"{call} {number}": wrong
        for call, number in _sample(call_counts, 10_000, calls)
        if (wrong := _inject(prepared, tmp_path, call, number, fault))
    }
    assert failures == {}
