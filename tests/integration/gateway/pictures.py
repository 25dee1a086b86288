"""`python -m tests.integration.gateway.pictures docs/images`: the pictures of docs/dashboard.md, of a fleet that really
runs: several models, a canary that was taken back, two training runs, and transfers while they last.

What it cannot wait for is put into the log as a monitor would: three hours of performance. It takes some minutes. With
`--all`, every view is taken, also those that docs/dashboard.md does not show.
"""

import asyncio
import contextlib
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save_file
from tests.integration.gateway.browser import PHONE, Complaints, chromium, tab
from tests.integration.gateway.gateways import Answer, curl

from fleetcast.bus import Bus, connect
from fleetcast.config.settings import BusSettings
from fleetcast.events.performance import LatencyHistogram, OpenMinute, Snapshot, Weight

IN_DOCS: Final = frozenset({"transfers", "fleet", "phone", "model", "incident", "performance-dark", "run"})
NODES, TRAINERS, SLOW_MEGABYTES = 6, 2, 3
MINUTES: Final = 180
SECONDS: Final = 240.0
MODELS: Final = "/api/model-registry/models"
MONITOR: Final = '[default]\nmode = "auto"\nwarm_up_seconds = 0\nexpected_latency_p95_ms = 70\n'
GATES: Final = """[default]
decides = "external"

[profile.judged]
models = ["hex8_4p"]
decides = "gates"
pipeline = ["development", "production"]

[profile.judged.gates.production]
min_games = 100
min_elo = 1650
win_rates = { random = 0.90, heuristic = 0.60 }
flags = ["bias_check_passed"]
"""
LANE: Final = """[lane.{lane}]
command = [{python}, "-m", "fleetcast.examples.training.train", "--epochs", "{epochs}", "--step-seconds", "{pace}",
  "--out", {out}, "--export-lane", "{lane}_hard"]
grace_seconds = 10
env = {{ TMPDIR = {temporary} }}
bucket = {{ required = {samples} }}
resources = {{ labels = {{ gpu = "simulated" }} }}
checkpoints = {{ keep_last = 3, copies = 1 }}
"""


@dataclass(frozen=True)
class Known:
    """A version, and what is said of it."""

    model: str
    version: str
    mebibytes: float
    said: dict[str, Any]


def _about(name: str, team: str, **metrics: float) -> dict[str, Any]:
    return {
        "name": name,
        "framework": "pytorch",
        "owner": f"{team}-oncall",
        "team": team,
        "evaluation_metrics": metrics,
    }


FIRST: Final = (
    Known("hex8_2p", "42", 6, _about("Hex 8x8, two players", "games", win_rate=0.71, loss=0.412)),
    Known("fraud_detector", "3.1.5", 2, _about("Fraud detector", "payments", accuracy=0.961, f1=0.94, auc=0.988)),
    Known("ranker_small", "7", 1, _about("Feed ranker, small", "feed", ndcg=0.447)),
    Known("asr_tiny", "0.9.0", 3, _about("Speech, tiny", "voice", wer=0.081)),
    Known("toxicity", "2.4.0", 1, _about("Toxicity", "trust", f1=0.902)),
    Known("eta", "2026.11", 1, _about("Time of arrival", "maps", mape=0.063)),
)
LATER: Final = (
    Known("fraud_detector", "3.2.1", 2, _about("Fraud detector", "payments", accuracy=0.967, f1=0.95, auc=0.991)),
    Known("ranker_small", "8", 1, _about("Feed ranker, small", "feed", ndcg=0.462)),
    Known("hex8_2p", "43", 96, _about("Hex 8x8, two players", "games", win_rate=0.74, loss=0.398)),
)
JUDGED: Final = Known(
    "hex8_4p",
    "12",
    1,
    {
        **_about("Hex 8x8, four players", "games", win_rate=0.64, loss=0.457),
        "evaluations": {"random": {"wins": 388, "losses": 12}, "heuristic": {"wins": 247, "losses": 153}},
        "rating": {"elo": 1702.0, "error": 21.0, "games": 800},
        "bias_check_passed": True,
    },
)
"""Whose promotion gates decide."""


HEALTHY: Final = tuple(
    zip(FIRST, (38.0, 52.0, 9.0, 61.0, 24.0, 17.0), (0.006, 0.009, 0.002, 0.004, 0.012, 0.001), strict=True)
)
"""Versions, their 95th percentile in milliseconds, and their share of errors."""


class Stage:
    """The fleet that is looked at."""

    def __init__(self, url: str, gateway: str, publish: Path, bus: Bus) -> None:
        self.url = url
        self.gateway = gateway
        self.publish = publish
        self.bus = bus

    async def ask(self, method: str, path: str, body: object = None) -> Answer:
        data = [] if body is None else ["-d", json.dumps(body)]
        return await asyncio.to_thread(curl, "-X", method, *data, f"{self.gateway}{path}")

    async def register(self, known: Known) -> None:
        """The bytes and the words of a version."""
        path = self.publish / f"{known.model}-{known.version}.safetensors"
        numbers = np.random.default_rng(len(known.version)).random(int(known.mebibytes * 2**18), dtype=np.float32)
        await asyncio.to_thread(save_file, {"w": numbers}, path, {"format": "np"})
        body = {"model_id": known.model, "version": known.version, "artifact_path": str(path), "node": "node-1"}
        answer = await self.ask("POST", MODELS, {**body, **known.said})
        assert answer.status in {201, 202}, answer

    async def bring(self, known: Known, stage: str, reason: str, percent: int | None = None) -> None:
        """To a stage."""
        body: dict[str, Any] = {"status": stage, "version": known.version, "reason": reason}
        if percent is not None:
            body["canary_percentage"] = percent
        answer = await self.ask("PATCH", f"{MODELS}/{known.model}/deployment", body)
        assert answer.status in {200, 202}, answer

    async def until(self, what: str, path: str, holds: Any) -> None:
        """Until an answer is as it should be."""
        deadline = time.monotonic() + SECONDS
        while True:
            answer = await self.ask("GET", path)
            if answer.status == 200 and holds(answer.body):
                return
            assert time.monotonic() < deadline, f"{what}: not in time: {answer}"
            await asyncio.sleep(0.5)

    async def served(self, known: Known) -> None:
        path = f"{MODELS}/{known.model}/deployment"
        await self.until(
            f"{known.model}@{known.version}", path, lambda b: b["version"] == known.version and b["complete"]
        )


# -- how models performed


def _latencies(chance: random.Random, count: int, p95: float) -> LatencyHistogram:
    return LatencyHistogram.of([chance.lognormvariate(math.log(p95 / 1.9), 0.39) for _ in range(count)])


async def past(stage: Stage, known: Known, p95: float, errors: float) -> None:
    """Minutes of the hours before, as a monitor keeps them."""
    chance = random.Random(known.model)
    now = int(time.time() // 60)
    for minute in range(now - MINUTES, now):
        wave = 1 + 0.25 * math.sin((minute - now) / 40)
        count = int(160 * wave + chance.randrange(40))
        rate = max(0.0, chance.gauss(errors, errors / 4))
        opened = OpenMinute(known.model, known.version, "node-2", minute, slot="production", generation=1)
        snapshot = Snapshot(
            id=str(minute),
            model=known.model,
            version=known.version,
            node="node-2",
            stored_at=minute * 60.0,
            error_ratio=rate,
            ood_ratio=max(0.0, chance.gauss(0.03, 0.006)),
            latency=_latencies(chance, 120, p95 * (0.9 + 0.2 * wave / 2) * chance.uniform(0.94, 1.06)),
            drift_score=0.06 + 0.03 * wave + chance.uniform(0, 0.01),
        )
        opened.add(snapshot, float(count), Weight.COUNTED)
        closed = opened.closed()
        await stage.bus.publish_raw(closed.subject, closed.data())


async def now_and_then(stage: Stage, model: str, version: str, p95: float, errors: float) -> None:
    """What three nodes report of it just now."""
    chance = random.Random()
    for node in ("node-1", "node-2", "node-3"):
        body = {
            "version": version,
            "node": node,
            "timestamp": datetime.now(UTC).isoformat(),
            "num_requests": 150,
            "errors": sum(chance.random() < errors for _ in range(150)),
            "ood": sum(chance.random() < 0.03 for _ in range(150)),
            "latency": {"scheme": "log", "buckets": _latencies(chance, 150, p95).buckets},
        }
        await stage.bus.publish_raw(f"fc.perf.{model}", json.dumps(body).encode())


async def _report(stage: Stage) -> None:
    """Go on telling how they perform."""
    while True:
        for known, p95, errors in HEALTHY:
            await now_and_then(stage, known.model, known.version, p95, errors)
        await asyncio.sleep(15)


# -- the story


async def tell(stage: Stage) -> None:
    """What happens before anybody looks, but for what is looked at while it happens."""
    for known in FIRST:
        await stage.register(known)
        await stage.bring(known, "production", "passed a week in staging")
    await _train(stage)
    for known in FIRST:
        await stage.served(known)
    for known, p95, errors in HEALTHY:
        await past(stage, known, p95, errors)
        await now_and_then(stage, known.model, known.version, p95, errors)
    bad, better, _ = LATER
    for known in (bad, better, JUDGED):
        await stage.register(known)
    await stage.bring(bad, "canary", "AUC up 0.3 points on last week's payments", 34)
    await now_and_then(stage, "fraud_detector", "3.1.5", 52, 0.009)
    for _ in range(6):
        await now_and_then(stage, bad.model, bad.version, 96, 0.12)
        await asyncio.sleep(1)
    await stage.bring(better, "canary", "nDCG up 1.5 points", 34)

    def is_over(body: dict[str, Any]) -> bool:
        return any(each["phase"] in {"mitigated", "resolved"} for each in body["incidents"])

    await stage.until("the canary is taken back", "/api/incidents?all=true&model=fraud_detector", is_over)
    await stage.bus.publish_raw("fc.ev.model.promoted.nobody", b'{"version": "1", "path": 7}')
    await stage.until("a run has begun", "/api/runs", lambda body: any((r["epoch"] or 0) > 6 for r in body["runs"]))


async def _train(stage: Stage) -> None:
    for lane, count in (("chess", 24_000), ("go9", 8_000)):
        boards = np.random.default_rng(count).integers(0, 3, (count, 8, 8), dtype=np.int8)
        ahead = (boards == 1).sum(axis=(1, 2)) - (boards == 2).sum(axis=(1, 2))
        path = stage.publish / f"{lane}-games-1.npz"
        await asyncio.to_thread(np.savez, path, boards=boards, outcomes=np.sign(ahead).astype(np.int8))
        body = {
            "path": str(path),
            "node": "node-1",
            "samples_new": count,
            "samples_total": count,
            "dataset_id": "games-1",
        }
        await stage.bus.publish_raw(f"fc.ev.export.completed.{lane}", json.dumps({**body, "lane": lane}).encode())


# -- pictures


async def take(stage: Stage, folder: Path, *, everything: bool) -> None:
    """Those of the docs, or of all views."""
    hex8 = LATER[2]
    await stage.register(hex8)
    await stage.bring(hex8, "production", "beats 42 in 58 % of 400 games")
    await stage.until("it is under way", "/api/transfers", lambda body: _is_under_way(body["transfers"], hex8))
    incidents = (await stage.ask("GET", "/api/incidents?all=true&model=fraud_detector")).body["incidents"]
    runs = (await stage.ask("GET", "/api/runs")).body["runs"]
    run = max(runs, key=lambda each: each["epoch"] or 0)["run_id"]
    looks: list[tuple[str, str, dict[str, Any]]] = [
        ("transfers", "/transfers", {"viewport": {"width": 1200, "height": 620}}),
        ("fleet", "/fleet", {}),
        ("phone", "/fleet", {**PHONE, "device_scale_factor": 1.5}),
        ("model", "/models/fraud_detector", {}),
        ("models", "/models", {"color_scheme": "dark"}),
        ("incident", f"/incidents/{incidents[0]['incident']}", {"viewport": {"width": 1200, "height": 640}}),
        ("performance-dark", "/performance/fraud_detector?hours=6", {"color_scheme": "dark"}),
        ("run", f"/training/runs/{run}", {}),
        ("events", "/events", {}),
        ("training", "/training", {}),
        ("phone-model", "/models/fraud_detector", {**PHONE, "device_scale_factor": 1.5}),
        ("fleet-dark", "/fleet", {"color_scheme": "dark"}),
        ("letters", "/dead-letters", {}),
        ("performance", "/performance", {}),
        ("incidents", "/incidents?all=true", {}),
        ("compare", "/compare?a=fraud_detector@3.1.5&b=fraud_detector@3.2.1", {}),
    ]
    complaints = Complaints()
    async with chromium() as browser:
        for name, path, how in [each for each in looks if everything or each[0] in IN_DOCS]:
            size = {} if "viewport" in how else {"viewport": {"width": 1200, "height": 760}}
            async with tab(browser, f"{stage.gateway}{path}", complaints, **{**size, **how}) as page:
                # A moment, so that what is under way has a rate.
                await page.wait_for_timeout(2500)
                await page.screenshot(path=folder / f"{name}.png")
        await _dialog(stage, browser, folder, complaints)
    print(*complaints.said, sep="\n")


def _is_under_way(transfers: list[dict[str, Any]], known: Known) -> bool:
    mine = [each["percent"] for each in transfers if each["version"] == known.version and each["model"] == known.model]
    return len(mine) >= NODES - 2 and max(mine) > 8


async def _dialog(stage: Stage, browser: Any, folder: Path, complaints: Complaints) -> None:
    """The dialog of a promotion that was tried."""
    async with tab(browser, f"{stage.gateway}/models/{JUDGED.model}", complaints) as page:
        await page.click("[data-action=production]")
        await page.fill("#dialog textarea", "stronger in 400 games, and no slower")
        await page.click("[data-action=try]")
        await page.wait_for_selector("#dialog .allowed, #dialog .refused")
        await page.locator("#dialog").screenshot(path=folder / "action.png")


# -- the fleet


def _lanes(folder: Path) -> Path:
    (folder / "tmp").mkdir()
    words = {"python": json.dumps(sys.executable), "out": json.dumps(str(folder / "up" / "publish"))}
    temporary = json.dumps(str(folder / "tmp"))
    lanes = (("chess", 24, "0.05", 20_000), ("go9", 400, "0.02", 5_000))
    path = folder / "lanes.toml"
    path.write_text(
        "\n".join(
            LANE.format(lane=lane, epochs=epochs, pace=pace, samples=samples, temporary=temporary, **words)
            for lane, epochs, pace, samples in lanes
        )
    )
    return path


@contextlib.contextmanager
def up(folder: Path) -> Iterator[dict[str, Any]]:
    """`fleetcast up`, and what it says of itself."""
    policy = folder / "monitor.toml"
    policy.write_text(MONITOR)
    gates = folder / "gates.toml"
    gates.write_text(GATES)
    options = ["--nodes", NODES, "--trainers", TRAINERS, "--slow", SLOW_MEGABYTES, "--gateway-port", 0]
    files = ["--folder", folder / "up", "--policy", policy, "--gates", gates, "--lanes", _lanes(folder)]
    command = [sys.executable, "-m", "fleetcast", "up", "--json", *map(str, (*options, *files))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = ""
            while not _is_whole(lines := lines + process.stdout.readline()):
                assert process.poll() is None, lines
            yield json.loads(lines)
        finally:
            process.terminate()
            process.wait(SECONDS)


def _is_whole(lines: str) -> bool:
    with contextlib.suppress(ValueError):
        return isinstance(json.loads(lines), dict)
    return False


@contextlib.asynccontextmanager
async def staged(said: dict[str, Any]) -> AsyncIterator[Stage]:
    async with connect(BusSettings(url=said["url"]), node="pictures", daemon="cli") as bus:
        yield Stage(said["url"], said["gateway"].replace("127.0.0.1", "localhost"), Path(said["publish"]), bus)


async def _main(said: dict[str, Any], folder: Path, *, everything: bool) -> None:
    async with staged(said) as stage:
        await tell(stage)
        reporting = asyncio.create_task(_report(stage))
        try:
            await take(stage, folder, everything=everything)
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)


if __name__ == "__main__":
    images = Path(sys.argv[1])
    images.mkdir(parents=True, exist_ok=True)
    began = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="fleetcast-pictures-") as temporary, up(Path(temporary)) as started:
        asyncio.run(_main(started, images, everything="--all" in sys.argv[2:]))
    print(f"{len(list(images.glob('*.png')))} pictures in {datetime.now(UTC) - began}")
