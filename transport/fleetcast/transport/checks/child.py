"""The child process of a format test: reads a request from its argument, says one line of JSON, and ends.

Run as `python -I -B -m fleetcast.transport.checks.child REQUEST`. The file is an open descriptor, so that no name is
resolved here; what the test imports is imported after the limits are in force.
"""

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import BinaryIO

from fleetcast.transport.checks.confine import confine
from fleetcast.transport.checks.report import RefusedFile, UntestedFile, Verdict
from fleetcast.transport.niceness import lower

_TESTS = {
    "torch": "torch_file",
    "safetensors": "safetensors_file",
    "npz": "npz_file",
    "onnx": "onnx_file",
    "pickle": "pickle_file",
}


class Task:
    """One file to look at; no dataclass, because importing those takes longer than most tests.

    Attributes:
        file: open for reading, at its start.
        size: bytes.
        folder: where the file lies, for what it refers to.
        ratio: unpacked over packed size that an archive may claim.
        whole: whether to read all members of an archive and compare their CRC.
        facts: what the test has seen; filled while it runs, so that a refusal has them too.
    """

    def __init__(
        self, file: BinaryIO, size: int, folder: str, ratio: float, whole: bool, facts: dict[str, object]
    ) -> None:
        self.file, self.size, self.folder = file, size, folder
        self.ratio, self.whole, self.facts = ratio, whole, facts

    @property
    def path(self) -> str:
        """A path for libraries that take no open file."""
        return f"/proc/self/fd/{self.file.fileno()}"


def main(argument: str) -> None:
    request = json.loads(argument)
    answer = _own_stdout()
    # Before libraries start threads, which inherit it.
    lower(int(request["nice"]))
    facts = confine(int(request["memory_bytes"]), int(request["cpu_seconds"]))
    with os.fdopen(int(request["fd"]), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        task = Task(file, size, request["folder"], request["ratio"], request["whole"], facts)
        verdict, detail = _outcome(request["format"], task)
        said = json.dumps({"verdict": verdict, "detail": detail, "facts": facts})
        os.write(answer, said.encode() + b"\n")
        # Tearing torch down takes longer than the test.
        os._exit(0)


def _own_stdout() -> int:
    """Keep standard output for the answer; what a library prints goes to standard error."""
    answer = os.dup(1)
    os.dup2(2, 1)
    return answer


def _outcome(kind: str, task: Task) -> tuple[Verdict, str]:
    try:
        test: Callable[[Task], str] = import_module(f"fleetcast.transport.checks.{_TESTS[kind]}").test
        return Verdict.OK, test(task)
    except UntestedFile as untested:
        return Verdict.NOT_TESTED, str(untested)
    except RefusedFile as refused:
        return Verdict.REFUSED, str(refused)
    except MemoryError:
        return Verdict.REFUSED, "looking at it takes more memory than a format test may have"
    except RecursionError:
        return Verdict.REFUSED, "it is nested too deeply"
    except Exception as fault:
        return Verdict.REFUSED, f"{type(fault).__name__}: {str(fault)[:500]}"


if __name__ == "__main__":
    main(sys.argv[1])
