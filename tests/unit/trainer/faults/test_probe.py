"""Whether GPUs compute is asked of a child process, which may do anything."""

import asyncio
import ctypes
import json
import time
from pathlib import Path
from typing import Any

import pytest

from fleetcast.daemons.trainer.faults import probe_child
from fleetcast.daemons.trainer.faults.probe import Probed, probe, read

GOOD = {"with": "torch", "arch_list": ["sm_90"], "gpus": [{"index": 0, "ok": True, "error": ""}]}


def asked(tmp_path: Path, code: str, seconds: float = 30.0) -> Probed:
    child = tmp_path / "child.py"
    child.write_text(code)
    return asyncio.run(probe(child=child, seconds=seconds))


def test_a_gpu_that_computes_is_proven(tmp_path: Path) -> None:
    said = asked(tmp_path, f"print('a library greets you')\nprint({json.dumps(json.dumps(GOOD))})")

    assert (said.ok, said.arch_list) == (True, ("sm_90",))


def test_a_probe_has_the_environment_of_a_job_and_no_secret_of_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NATS_PASSWORD", "CUDA_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION"):
        monkeypatch.setenv(name, "here")
    said = asked(
        tmp_path, "from os import environ\nraise SystemExit([name for name in environ if environ[name] == 'here'])"
    )

    assert said.detail.endswith("exit 1: ['HSA_OVERRIDE_GFX_VERSION']")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, sys; print('HSA_STATUS_ERROR', file=sys.stderr, flush=True); os.abort()", "signal 6: HSA_STATUS"),
        ("import sys; sys.exit('no driver')", "exit 1: no driver"),
        ("print('rubbish')", "cannot be read"),
        ("", "cannot be read"),
        ("print('{\"gpus\": 3}')", "cannot be read"),
    ],
)
def test_a_child_that_dies_or_says_rubbish_is_a_gpu_that_does_not_work(tmp_path: Path, code: str, said: str) -> None:
    found = asked(tmp_path, code)

    assert found.ok is False
    assert said in found.detail


def test_a_gpu_that_hangs_is_given_up_and_killed(tmp_path: Path) -> None:
    begun = time.monotonic()
    found = asked(tmp_path, "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)", seconds=0.5)

    assert found.ok is False
    assert "did not answer" in found.detail
    assert time.monotonic() - begun < 30


def test_one_wrong_product_of_many_is_a_fault() -> None:
    gpus = [{"index": 0, "ok": True}, {"index": 1, "ok": False, "error": "a product came out wrong"}]
    said = read(0, json.dumps({"with": "torch", "gpus": gpus}).encode(), b"")

    assert said.ok is False
    assert "GPU 1: a product came out wrong" in said.detail


def test_without_torch_and_driver_nothing_is_known() -> None:
    said = asyncio.run(probe("/nonexistent/python"))
    assert said.ok is None
    assert read(0, b'{"gpus": [], "error": "neither"}', b"") == Probed(None, "neither")


class Played(probe_child.Driver):
    """A driver in memory: its GPUs keep what is written, but for those in `broken`."""

    name = "played"
    functions = {name: name for name in probe_child.Hip.functions}
    broken: frozenset[int] = frozenset()

    def __init__(self) -> None:
        self.device = 0
        self.freed = 0

    def call(self, what: str, *arguments: Any) -> None:
        if what == "count":
            arguments[0]._obj.value = 2
        elif what == "read":
            value = 0 if self.device in self.broken else probe_child.PATTERN
            ctypes.memmove(arguments[0], value.to_bytes(4, "little") * probe_child.WORDS, 4 * probe_child.WORDS)
        elif what == "free":
            self.freed += 1

    def enter(self, index: int) -> Any:
        self.device = index
        return lambda: None


class Damaged(Played):
    broken = frozenset({1})


class Missing(Played):
    def __init__(self) -> None:
        raise OSError("libplayed.so: cannot open shared object file")


class Refusing(Played):
    def call(self, what: str, *arguments: Any) -> None:
        if what == "alloc":
            raise probe_child.Refused("alloc answered 2")
        super().call(what, *arguments)


def test_memory_that_comes_back_different_is_noticed() -> None:
    well, damaged = probe_child.by_driver((Missing, Played)), probe_child.by_driver((Damaged,))

    assert [each["ok"] for each in well["gpus"]] == [True, True]
    assert [each["ok"] for each in damaged["gpus"]] == [True, False]
    assert damaged["gpus"][1]["error"] == "memory came back different"


def test_a_driver_that_refuses_is_told_per_gpu() -> None:
    found = probe_child.by_driver((Refusing,))

    assert [each["error"] for each in found["gpus"]] == ["Refused: alloc answered 2"] * 2
    assert probe_child.by_driver((Missing,))["error"] == "neither torch nor a driver shows a GPU"
