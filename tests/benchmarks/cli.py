"""`fleetcast bench cli`: processor time of `fleetcast --help`, the price of every look at the command line."""

import os
import resource
import subprocess
import sys

from tests.benchmarks._report import Figure, Report, arguments, median


def cpu_ms(command: list[str]) -> float:
    """User and system time of one run, in milliseconds."""
    # Compiled modules are part of every installation; a run that must compile them measures the compiler.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> int:
    """Measure and report."""
    given = arguments(__doc__ or "", {"runs": (9, "runs")})
    help_command = [sys.executable, "-m", "fleetcast", "--help"]
    bare = [sys.executable, "-c", "pass"]
    cpu_ms(help_command)
    report = Report("cli", {"runs": given.runs, "statistic": "median, compiled modules present"})
    report.figures["help_cpu_ms"] = Figure(
        median([cpu_ms(help_command) for _ in range(given.runs)]), "ms", required=300
    )
    report.peers["python -c pass"] = {"cpu_ms": median([cpu_ms(bare) for _ in range(given.runs)])}
    return report.finish(as_json=given.json)


if __name__ == "__main__":
    raise SystemExit(main())
