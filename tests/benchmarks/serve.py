"""`fleetcast bench serve`: processor time of our file server per GiB, against the least that this kernel needs.

Readers are curl processes on loopback that throw the bytes away; the file lies in the page cache. The floor is a
program that does nothing but accept, answer with fixed headers and hand the file to sendfile(2), a thread per reader.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks._processes import cpu_seconds
from tests.benchmarks._report import Figure, Report, arguments, median

from fleetcast.bus.server import free_ports

MIB = 2**20
GIB = 2**30
ADDRESS = "127.0.0.1"
READERS = (1, 4, 16)
SERVERS = ("ours", "bare sendfile")


@dataclass(frozen=True, slots=True)
class Served:
    """One round: processor seconds per GiB of the server and of all its readers, and MiB per second of all together."""

    server_cpu: float
    reader_cpu: float
    mib_per_second: float


def serve(server: str, file: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server of *file*; returns it and the URL."""
    port = free_ports(1)[0]
    bare = ["--bare"] if server != "ours" else []
    words = [sys.executable, "-m", "tests.benchmarks._file_server", str(file), ADDRESS, str(port), *bare]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        raise RuntimeError(f"{server} did not start")
    return process, f"http://{ADDRESS}:{port}/bench/c/{'0' * 64}"


def read(process: subprocess.Popen[bytes], url: str, readers: int, size: int) -> Served:
    """Let that many readers take the whole file at once."""
    before, began = cpu_seconds(process.pid), time.monotonic()
    curls = [subprocess.Popen(["curl", "--noproxy", "*", "-sSf", "-o", os.devnull, url]) for _ in range(readers)]
    used = 0.0
    for curl in curls:
        _, status, usage = os.wait4(curl.pid, 0)
        curl.returncode = os.waitstatus_to_exitcode(status)
        if curl.returncode != 0:
            raise RuntimeError(f"curl ended with {curl.returncode}")
        used += usage.ru_utime + usage.ru_stime
    seconds, total = time.monotonic() - began, readers * size
    server = cpu_seconds(process.pid) - before
    return Served(server / (total / GIB), used / (total / GIB), total / MIB / seconds)


def measure(file: Path, runs: int) -> dict[tuple[str, int], list[Served]]:
    """All rounds; servers take turns, so that drift of the machine hits both."""
    size = file.stat().st_size
    rounds: dict[tuple[str, int], list[Served]] = {(s, n): [] for s in SERVERS for n in READERS}
    started = {server: serve(server, file) for server in SERVERS}
    try:
        for (server, readers), seen in [*rounds.items()] * runs:
            seen.append(read(*started[server], readers, size))
    finally:
        for process, _ in started.values():
            process.kill()
            process.communicate()
    return rounds


def main() -> int:
    """Measure and report."""
    given = arguments(__doc__ or "", {"mib": (512, "size of the file in MiB"), "runs": (3, "rounds of each")})
    with tempfile.TemporaryDirectory(prefix="fleetcast-bench-") as folder:
        file = Path(folder) / "file.bin"
        with file.open("wb") as out:
            for _ in range(given.mib):
                out.write(os.urandom(MIB))
        rounds = measure(file, given.runs)
    report = Report(
        "serve", {"mib": given.mib, "runs": given.runs, "statistic": "medians", "readers": "curl, loopback"}
    )
    report.conditions["floor"] = "a thread per reader in sendfile(2), fixed headers: the least that this kernel needs"
    for (server, readers), seen in rounds.items():
        cpu, speed = median([s.server_cpu for s in seen]), median([s.mib_per_second for s in seen])
        if server == "ours":
            report.figures[f"server_cpu_seconds_per_gib_{readers}"] = Figure(cpu, "s/GiB")
            report.figures[f"mib_per_second_{readers}"] = Figure(speed, "MiB/s", at_least=True)
        else:
            report.peers[f"{server}, {readers} readers"] = {"cpu_seconds_per_gib": cpu, "mib_per_second": speed}
            ours = report.figures[f"server_cpu_seconds_per_gib_{readers}"].value
            report.figures[f"cpu_over_floor_{readers}"] = Figure(ours / cpu, "ratio")
        curls = median([s.reader_cpu for s in seen])
        report.peers[f"curl as reader of {server}, {readers} at once"] = {"cpu_seconds_per_gib": curls}
    return report.finish(as_json=given.json)


if __name__ == "__main__":
    raise SystemExit(main())
