"""`fleetcast bench NAME`: the measurements of the checkout."""

import os
import sys
from pathlib import Path

from fleetcast.cli.call import Call
from fleetcast.cli.problems import Exit, not_found

_CHECKOUT = Path(__file__).resolve().parents[3]
_FOLDER = _CHECKOUT / "tests" / "benchmarks"


def run(call: Call, name: str | None, options: tuple[str, ...]) -> Exit:
    """Run benchmark *name* in place of this process, so that nothing else is measured; without a name, list them."""
    known = benchmarks()
    if name is None:
        call.out.document({"benchmarks": known})
        for each in known:
            call.out.text(each)
        return Exit.OK if known else Exit.NOT_FOUND
    if name not in known:
        raise not_found(
            f"there is no benchmark {name!r}",
            why=f"there is {', '.join(known)}" if known else f"benchmarks are in a checkout only, none in {_FOLDER}",
            next_step="fleetcast bench",
        )
    _become(name, ("--json", *options) if call.out.json_mode else options)
    return Exit.FAILED


def _become(name: str, options: tuple[str, ...]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(_CHECKOUT)
    os.execv(sys.executable, [sys.executable, "-m", f"tests.benchmarks.{name}", *options])  # noqa: S606  # no shell


def benchmarks() -> list[str]:
    """Names of the benchmarks of this checkout; empty where there is none."""
    return sorted(path.stem for path in _FOLDER.glob("[a-z]*.py"))
