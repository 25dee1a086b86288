"""What people type about how versions perform, against a real monitor."""

import asyncio
import json
import os
import sys
from typing import Any

import pytest
from tests.integration.monitor.watched import AUTO, World, until

from fleetcast.bus.streams import MINUTES


async def typed(fleet: World, *words: str, code: int = 0, stdin: str = "") -> Any:
    """The JSON document that a command prints; its exit code is looked at."""
    environment = {**os.environ, "NATS_URL": fleet.url, "HOME": str(fleet.folder), "XDG_STATE_HOME": str(fleet.folder)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "fleetcast",
        *words,
        "--json",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        cwd=fleet.folder,
    )
    out, talk = await process.communicate(stdin.encode())
    assert process.returncode == code, talk.decode() + out.decode()
    return json.loads(out)


@pytest.mark.asyncio
async def test_from_a_snapshot_typed_by_hand_to_what_other_rules_would_have_done(fleet: World) -> None:
    await fleet.order("hex8", "1")
    wrong, alone = await asyncio.gather(
        typed(fleet, "snapshot", "hex8@1", "--requests", "10", "--error-rate", "8.5", code=2),
        typed(fleet, "monitor", "show", "hex8", code=1),
    )
    assert "write 0.085" in wrong["error"]["message"]
    assert (alone["error"]["code"], "fleetcast run monitor" in alone["error"]["next"]) == ("no_monitor", True)

    watching = await fleet.start(policy=AUTO.model_copy(update={"expected_latency_p95_ms": 20.0}))
    words = ("snapshot", "hex8@1", "--requests", "1000", "--errors", "5", "--latencies", "-", "--node", "gpu-1")
    sent = await typed(fleet, *words, stdin="\n".join(["10.5"] * 950 + ["90"] * 50))
    assert sent["subject"] == "fc.perf.hex8"
    health = await fleet.all_seen("hex8")
    assert (health["metrics"]["avg_error_rate"], health["metrics"]["snapshot_count"]) == (0.005, 1)
    for _ in range(3):
        await fleet.report("hex8", node="gpu-1", num_requests=1000, errors=300)

    async def failing() -> bool:
        return bool((await fleet.asked("health"))["failing"])

    await until(failing)
    watching.monitor.tick(60.0)

    async def written() -> bool:
        return bool(await fleet.bus.newest(MINUTES, ("fc.min.hex8.*",)))

    await until(written)
    (fleet.folder / "lax.toml").write_text("[default]\nerror_rate = 0.9\nerror_rate_critical = 0.95\n")
    shown, nobody, summary, replayed = await asyncio.gather(
        typed(fleet, "monitor", "show", "hex8"),
        typed(fleet, "monitor", "show", "nobody", code=3),
        typed(fleet, "monitor", code=1),
        typed(fleet, "replay-rules", "--since", "1h", "--policy", "lax.toml"),
    )
    assert {value["name"] for value in shown["policy"]["values"]} >= {"mode", "error_rate", "dependents"}
    assert {trigger["signal"] for trigger in shown["versions"][0]["triggers"]} >= {"error_rate", "latency_p95"}
    assert nobody["error"]["code"] == "not_found"
    assert (summary["total_models"], summary["failing"]) == (1, 1)
    assert summary["issues"][0]["model_id"] == "hex8"
    (tried,) = replayed["models"]
    assert tried["tried"]["rollbacks"] == 0
    assert tried["present"]["requests"] == tried["tried"]["requests"] == 4000
