"""The launcher makes its environment once, whatever surrounds it, and then only runs."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


def test_first_call_installs_and_runs_with_nothing_but_the_program_on_stdout(first_call: Any) -> None:
    _, ran = first_call

    assert (ran.code, ran.out) == (0, "ran status --json two words\n")
    assert ran.installed


def test_call_without_changes_installs_nothing_and_costs_little(used: Any) -> None:
    program = used.venv / "bin" / "fleetcast"

    def seconds(command: Path) -> float:
        began = time.perf_counter()
        subprocess.run([command], check=True, capture_output=True)
        return time.perf_counter() - began

    assert not used.run().installed
    cost = min(seconds(used.launcher) for _ in range(7)) - min(seconds(program) for _ in range(7))
    assert cost < 0.2


@pytest.mark.parametrize("changed", ["pyproject.toml", pytest.param("requirements.lock", marks=pytest.mark.soak)])
def test_change_of_what_decides_the_content_installs_again_once(used: Any, changed: str) -> None:
    with (used.folder / changed).open("a") as file:
        file.write(f"# {time.time_ns()}\n")

    assert used.run().installed
    assert not used.run().installed


def test_concurrent_first_calls_make_one_environment(fresh: Any) -> None:
    processes = [fresh.start(str(number)) for number in range(4)]
    results = [(*process.communicate(timeout=110), process.returncode) for process in processes]

    assert [out for out, _, _ in results] == [f"ran {number}\n" for number in range(4)]
    assert sum("installing into" in err for _, err, _ in results) == 1
    assert sum("waiting for it" in err for _, err, _ in results) >= 1


def test_installation_that_was_killed_is_finished_by_the_next_call(fresh: Any) -> None:
    with fresh.start() as process:
        while not (fresh.venv / "pip.lock").exists():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (fresh.venv / ".core").exists()

    ran = fresh.run("again")

    assert (ran.code, ran.out) == (0, "ran again\n")


@pytest.mark.soak
def test_environment_whose_python_is_gone_is_made_anew(used: Any) -> None:
    python = used.venv / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")

    ran = used.run()

    assert ran.installed
    assert ran.out == "ran\n"


def test_launcher_works_through_links_and_from_anywhere(used: Any, tmp_path: Path) -> None:
    (tmp_path / "far").symlink_to(used.launcher)
    (tmp_path / "bin").mkdir()
    near = tmp_path / "bin" / "near"
    near.symlink_to("../far")

    ran = used.run("x", launcher=near, cwd=Path("/"))

    assert (ran.out, ran.installed) == ("ran x\n", False)


def test_foreign_python_settings_do_not_reach_the_program(used: Any, tmp_path: Path) -> None:
    poison = tmp_path / "poison"
    (poison / "fleetcast").mkdir(parents=True)
    (poison / "fleetcast" / "__init__.py").write_text("raise SystemExit('poisoned')")
    (poison / "sitecustomize.py").write_text("raise SystemExit('poisoned')")

    ran = used.with_env(PYTHONPATH=str(poison), PYTHONHOME=str(poison), PIP_USER="1").run()

    assert ran.out == "ran\n"


def test_bytecode_is_kept_whatever_the_environment_says(used: Any, tmp_path: Path) -> None:
    ran = used.with_env(PYTHONDONTWRITEBYTECODE="1", PYTHONPYCACHEPREFIX=str(tmp_path)).run()

    assert ran.out == "ran\n"
    assert list(tmp_path.rglob("fleetcast/cli.*.pyc"))


def test_broken_variant_the_program_alone_would_be_hidden_by_a_stray_package(used: Any, tmp_path: Path) -> None:
    (tmp_path / "fleetcast").mkdir()
    (tmp_path / "fleetcast" / "__init__.py").write_text("raise SystemExit('poisoned')")

    alone = subprocess.run(
        [used.venv / "bin" / "fleetcast"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert "poisoned" in alone.stderr


def test_python_without_pip_is_named_with_the_command_that_helps(fresh: Any, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)

    ran = fresh.with_env(FLEETCAST_PYTHON=str(tmp_path / "bare" / "bin" / "python")).run()

    assert ran.code == 1
    assert "needs pip for" in ran.err
    assert "apt-get install python3-pip" in ran.err
    assert not fresh.venv.exists()


def test_python_that_is_too_old_is_named_with_what_is_needed(fresh: Any, tmp_path: Path) -> None:
    for name in ("sh", "cat", "readlink", "dirname", "sha256sum", "id", "flock"):
        (tmp_path / name).symlink_to(shutil.which(name) or "missing")
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit\nexit 1\n')
    old.chmod(0o755)

    ran = fresh.with_env(PATH=str(tmp_path)).run()

    assert ran.code == 1
    assert "needs Python 3.11, 3.12 or 3.13, found: Python 3.9.2" in ran.err
    assert "apt-get install python3 python3-pip" in ran.err


def test_lock_that_does_not_match_is_refused_and_said(fresh: Any) -> None:
    lock = fresh.folder / "requirements.lock"
    lock.write_text(lock.read_text().replace("--hash=sha256:", "--hash=sha256:0"))

    ran = fresh.run()

    assert ran.code != 0
    assert "the installation failed, see above" in ran.err
    assert not (fresh.venv / ".core").exists()


@pytest.mark.soak
def test_real_lock_installs_into_a_bare_environment_and_is_consistent(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    ignored = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", "shared")
    shutil.copytree(ROOT, folder, ignore=ignored)

    ran = subprocess.run([folder / "fleetcast", "--version"], capture_output=True, text=True, check=True)

    assert ran.stdout.startswith("fleetcast 0.")
    subprocess.run([folder / ".venv" / "bin" / "python", "-m", "pip", "check"], check=True)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-test.lock"])
def test_lock_pins_everything_by_hash_and_names_no_index(lock: str) -> None:
    entries = [line for line in (ROOT / lock).read_text().splitlines() if line and line[0] not in "# "]

    assert entries
    assert all("==" in entry and entry.endswith("\\") for entry in entries)
    assert "://" not in (ROOT / lock).read_text()
    assert not any(entry.startswith("torch==") for entry in entries)
