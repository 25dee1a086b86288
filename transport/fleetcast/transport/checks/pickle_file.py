"""Pickles: never loaded, because loading is running. Their opcodes are read and reported."""

from fleetcast.transport.checks.child import Task
from fleetcast.transport.checks.opcodes import Scan, scan_all
from fleetcast.transport.checks.report import RefusedFile, UntestedFile

MAX_SCANNED_BYTES = 256 * 2**20
"""A pickle is scanned as one stream whose largest value is held in memory; larger files are reported as not scanned."""
MAX_LISTED = 64


def test(task: Task) -> str:
    """Report what a pickle would import; the facts are `imports`, `calls` and `opcodes`.

    Raises:
        UntestedFile: always, when it is a pickle at all: `pickle`.
        RefusedFile: its opcodes end early: it is cut off or no pickle.
    """
    if task.size > MAX_SCANNED_BYTES:
        task.facts["opcodes"] = f"not scanned: more than {MAX_SCANNED_BYTES} bytes"
        raise UntestedFile("pickle")
    found = scan_all(task.file)
    note(found, task.facts)
    if found.damage and not _is_interleaved(found):
        raise RefusedFile(f"it is no complete pickle: {found.damage}")
    raise UntestedFile("pickle")


def note(found: Scan, facts: dict[str, object]) -> None:
    """Put what a pickle names into the facts."""
    facts["imports"] = [name[:200] for name in found.names[:MAX_LISTED]]
    facts["calls"] = found.calls
    facts["opcodes"] = found.damage or "complete"


def _is_interleaved(found: Scan) -> bool:
    """joblib writes raw arrays between the opcodes, which no scan can follow."""
    return any(name.startswith("joblib.") for name in found.names)
