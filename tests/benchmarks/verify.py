"""`fleetcast bench verify`: what verification adds to a transfer, 512 MB between two hosts of 1 Gbit/s.

Each run is a fresh receiver process. With verification: every piece is read back and hashed while the rest arrives, and
the format test runs at the end. Without: the transport alone. Runs alternate, so that drift of the machine hits both.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tests.benchmarks._hosts import Host, NoHosts, two_hosts
from tests.benchmarks._report import Figure, Report, arguments, median

from fleetcast.config.settings import BittorrentSettings, StoreSettings, VerifySettings
from fleetcast.events.content import Content, Kind
from fleetcast.transport import metainfo as torrent
from fleetcast.transport.bittorrent import BittorrentTransport
from fleetcast.transport.checks import Verdict, check_format
from fleetcast.transport.errors import VerificationFailed
from fleetcast.transport.pieces import PieceVerifier
from fleetcast.transport.protocol import FetchRequest, Progress, Source
from fleetcast.transport.store import Store

PORT = 6881


class Trusting:
    """An observer that proves nothing."""

    def progress(self, progress: Progress) -> None:
        """Ignored."""

    async def pieces(self, claimed: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Taken on trust."""
        del claimed
        return []


class Proving(Trusting):
    """An observer that reads every piece back."""

    def __init__(self, verifier: PieceVerifier) -> None:
        self._verifier = verifier

    async def pieces(self, claimed: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        return await asyncio.to_thread(self._verifier.verify, claimed)


def make_content(folder: Path, mib: int) -> None:
    """A real safetensors file, taken into a store; content and torrent beside it."""
    source = folder / "publish" / "model.safetensors"
    source.parent.mkdir(parents=True)
    generator = np.random.default_rng(1)
    save_file({f"layer{n}": generator.random(2**18, dtype=np.float32) for n in range(mib)}, str(source))
    store = Store(StoreSettings(data=folder / "data", publish_roots=(source.parent,), reserve_bytes=0))
    taken = store.ingest(source, kind=Kind.MODEL)
    (folder / "content.json").write_text(taken.content.model_dump_json())
    (folder / "torrent").write_bytes(torrent.build(taken.content, taken.layers, taken.piece_length))


def load(folder: Path) -> tuple[Content, bytes]:
    return Content.model_validate_json((folder / "content.json").read_bytes()), (folder / "torrent").read_bytes()


async def seed(folder: Path, address: str) -> None:
    """Serve the content until the process is ended."""
    content, data = load(folder)
    store = Store(StoreSettings(data=folder / "data", reserve_bytes=0))
    transport = BittorrentTransport(BittorrentSettings(port=PORT), bind=address, advertise=address)
    await transport.start()
    await transport.seed(content.artifact, content, data, store.swarm_folder(content.artifact))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def fetch(folder: Path, address: str, seeder: str, *, prove: bool) -> float:
    """Seconds until the content is here, proven or not."""
    content, data = load(folder)
    transport = BittorrentTransport(BittorrentSettings(port=PORT), bind=address, advertise=address)
    await transport.start()
    with tempfile.TemporaryDirectory(dir=folder) as target:
        request = FetchRequest(
            transfer="bench",
            artifact=content.artifact,
            content=content,
            metainfo=data,
            folder=Path(target),
            sources=(Source("seeder", bt=f"{seeder}:{PORT}"),),
        )
        began = time.monotonic()
        verifier = PieceVerifier(torrent.read(data, content), content, Path(target))
        await transport.fetch(request, Proving(verifier) if prove else Trusting())
        if prove:
            await _prove_end(verifier, Path(target), content)
        seconds = time.monotonic() - began
        await transport.close()
    return seconds


async def _prove_end(verifier: PieceVerifier, target: Path, content: Content) -> None:
    if not verifier.complete:
        raise VerificationFailed(f"{len(list(verifier.missing()))} pieces were not proven")
    path = target / content.artifact[:16] / content.files[0].path
    report = await check_format(path, content.format, VerifySettings())
    if report.verdict is not Verdict.OK:
        raise VerificationFailed(report.detail)


def run_pair(folder: Path, mib: int, runs: int) -> dict[str, list[float]]:
    """Seconds of all runs, by `with` and `without`."""
    make_content(folder, mib)
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    with two_hosts(1000) as (a, b):
        seeder = subprocess.Popen(_role(a, "seed", folder, a.address), stdout=subprocess.PIPE)
        try:
            if seeder.stdout is None or seeder.stdout.readline() != b"ready\n":
                raise RuntimeError("the seeder did not start")
            for _ in range(runs):
                for prove in ("without", "with"):
                    seconds[prove].append(_one(b, folder, a.address, prove))
        finally:
            seeder.kill()
            seeder.wait(10)
    return seconds


def _role(host: Host, role: str, *words: object) -> list[str]:
    return host.command(sys.executable, "-m", "tests.benchmarks.verify", role, *(str(w) for w in words))


def _one(host: Host, folder: Path, seeder: str, prove: str) -> float:
    done = subprocess.run(
        _role(host, "fetch", folder, host.address, seeder, prove), check=True, timeout=120, stdout=subprocess.PIPE
    )
    return float(json.loads(done.stdout)["seconds"])


def main() -> int:
    """Measure and report; the first word may name the role of a child process."""
    match sys.argv[1:]:
        case ["seed", folder, address]:
            asyncio.run(seed(Path(folder), address))
            return 0
        case ["fetch", folder, address, seeder, prove]:
            took = asyncio.run(fetch(Path(folder), address, seeder, prove=prove == "with"))
            sys.stdout.write(json.dumps({"seconds": took}))
            return 0
    given = arguments(__doc__ or "", {"mib": (488, "size in MiB"), "runs": (3, "runs of each")})
    try:
        with tempfile.TemporaryDirectory(prefix="fleetcast-bench-") as folder:
            seconds = run_pair(Path(folder), given.mib, given.runs)
    except NoHosts as missing:
        sys.stderr.write(f"{missing}\n")
        return 1
    conditions = {"mib": given.mib, "rate": "1 Gbit/s, tc tbf", "runs": given.runs, "statistic": "medians"}
    report = Report("verify", conditions)
    ratio = median(seconds["with"]) / median(seconds["without"])
    report.figures["verify_overlap_ratio"] = Figure(ratio, "ratio", required=1.05)
    report.figures["transfer_seconds"] = Figure(median(seconds["with"]), "s")
    report.peers["transport without verification"] = {"seconds": median(seconds["without"])}
    report.peers["the wire at 1 Gbit/s"] = {"seconds": given.mib * 2**20 * 8 / 1e9}
    return report.finish(as_json=given.json)


if __name__ == "__main__":
    raise SystemExit(main())
