"""The REST interface of the documents that this project was asked for (seeds 003 and 004): their lines, as they stand
there, sent by curl to a gateway behind which the real daemons run. Only the port is another."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.gateway.gateways import Answer, GatewayProcess, curl, gateway_of, started, until
from tests.integration.registry.small_fleet import SmallFleet, small_fleet

from fleetcast.daemons.testing import RemedyProcess

REGISTER = """
curl -X POST http://localhost:8000/api/model-registry/models \\
  -H "Content-Type: application/json" \\
  -d '{
    "model_id": "fraud_detector_v1",
    "name": "Fraud Detector",
    "version": "1.0.0",
    "framework": "sklearn",
    "model_type": "classification",
    "owner": "ml_team",
    "team": "fraud_prevention",
    "training_data_hash": "abc123",
    "training_dataset_size": 50000,
    "evaluation_metrics": {"accuracy": 0.96}
  }'
"""
LIST = "curl http://localhost:8000/api/model-registry/models"
STATS = "curl http://localhost:8000/api/model-registry/stats"
REGISTER_FILE = """
curl -X POST http://localhost:8000/api/model-registry/models \\
  -H "Content-Type: application/json" \\
  -d @test_model.json
"""

LISTS = """
GET /api/model-registry/models
GET /api/model-registry/models?stage=production
GET /api/model-registry/models?framework=pytorch
GET /api/model-registry/models?tags=nlp,transformer
"""
DETAILS = "GET /api/model-registry/models/{model_id}"
CANARY = """
PATCH /api/model-registry/models/{model_id}/deployment
{
  "status": "canary",
  "canary_percentage": 10.0
}
"""
CARD = "POST /api/model-registry/models/{model_id}/generate-card"
CHECK = "GET /api/model-registry/models/{model_id}/rollback-check?window_minutes=10"
CHECK_AND_REMEDY = "GET /api/model-registry/models/{model_id}/rollback-check?window_minutes=10&auto_remediate=true"
ROLL_BACK = """
POST /api/model-registry/models/{model_id}/rollback
{
  "reason": "High error rate detected"
}
"""
ROLL_BACK_TO = "POST /api/model-registry/models/{model_id}/rollback?reason=manual_intervention&target_version=3.1.5"
HEALTH = "GET /api/model-registry/models/{model_id}/health"
PRODUCTION = "GET /api/model-registry/monitor/production?window_minutes=10"
RECORD = """
POST /api/model-registry/models/{model_id}/performance
{
  "model_id": "fraud_detector_v3",
  "version": "3.2.1",
  "latency_p50_ms": 120.5,
  "latency_p95_ms": 245.3,
  "latency_p99_ms": 350.1,
  "requests_per_second": 250.0,
  "error_rate": 0.085,
  "ood_rate": 0.22,
  "input_drift_score": 0.35,
  "accuracy": 0.89
}
"""

MODEL = "fraud_detector_v3"
JUDGING = """[default]
warm_up_seconds = 0
"""


class Seeds:
    """Sends the lines."""

    def __init__(self, fleet: SmallFleet, gateway: GatewayProcess) -> None:
        self.fleet = fleet
        self.gateway = gateway

    def curl(self, line: str) -> Answer:
        """A line that begins with curl, through a shell, as somebody would paste it."""
        words = line.replace("http://localhost:8000", self.gateway.url).replace("\\\n", " ").strip()
        assert words.startswith("curl ")
        return curl(*_split(words.removeprefix("curl ")), cwd=self.fleet.folder)

    def __call__(self, line: str, model: str = MODEL) -> Answer:
        """A line of method and path, and a body below it."""
        first, _, body = line.strip().replace("{model_id}", model).partition("\n")
        method, path = first.split(" ", 1)
        return self.gateway.curl(method, path, json.loads(body) if body else None)


def _split(words: str) -> list[str]:
    import shlex

    return shlex.split(words)


@pytest.fixture
def seeds(tmp_path: Path) -> Iterator[Seeds]:
    with small_fleet(tmp_path) as fleet:
        remedy = RemedyProcess("node-1", tmp_path / "remedy", fleet.node.settings)
        remedy.folder.mkdir()
        try:
            remedy.start()
            fleet.start(fleet.keeper)
            gateway = gateway_of(tmp_path, fleet.node.settings)
            with started(gateway):
                fleet.watch(JUDGING)
                until("the remedy daemon runs", lambda: remedy.logged("daemon.ready"), remedy.tail)
                yield Seeds(fleet, gateway)
        finally:
            remedy.kill()


def served(seeds: Seeds, version: str) -> None:
    """A version with bytes comes to production over the gateway."""
    path = seeds.fleet.publish(f"{version}.pkl", {"weights": [version]})
    body = {"model_id": MODEL, "version": version, "artifact_path": str(path), "framework": "pytorch"}
    made = seeds.gateway.curl("POST", "/api/model-registry/models", {**body, "tags": ["nlp", "transformer"]})
    assert (made.status, made.body["deploy_status"]) == (201, "development"), made
    order = {"status": "production", "version": version, "reason": "tried"}
    moved = seeds.gateway.curl("PATCH", f"/api/model-registry/models/{MODEL}/deployment", order)
    assert moved.status in {200, 202}, moved
    until(f"{version} is served", lambda: serving(seeds) == (version, True))


def serving(seeds: Seeds) -> tuple[str, bool]:
    now = seeds.gateway.curl("GET", f"/api/model-registry/models/{MODEL}/deployment")
    return (now.body["version"], now.body["complete"]) if now.status == 200 else ("", False)


def failing(seeds: Seeds) -> bool:
    """Serving code says of 3.2.1, from three nodes, what the documents say; and whether the monitor takes it so."""
    for node in ("gpu-1", "gpu-2", "gpu-3"):
        said = {"version": "3.2.1", "num_requests": 1000, "error_rate": 0.085, "input_drift_score": 0.35, "node": node}
        assert seeds.gateway.curl("POST", f"/api/model-registry/models/{MODEL}/performance", said).status == 201
    return bool(seeds(CHECK).body["should_rollback"])


def incidents(seeds: Seeds) -> list[dict[str, Any]]:
    return list(seeds.gateway.curl("GET", "/api/incidents?all=true").body["incidents"])


def test_every_line_of_the_documents_works_as_it_is_written(seeds: Seeds) -> None:
    """In the order of the documents: each part goes on where the one before ended."""
    register_without_bytes(seeds)
    list_and_describe(seeds)
    bring_the_bytes(seeds)
    judge(seeds)
    remedy(seeds)
    roll_back_by_hand(seeds)


def register_without_bytes(seeds: Seeds) -> None:
    # Registered without bytes, a version is known, and nothing more.
    registered = seeds.curl(REGISTER)
    assert registered.status == 201, registered
    assert (registered.body["deploy_status"], registered.body["artifact"]) == ("development", "none")
    assert registered.body["evaluation_metrics"] == {"accuracy": 0.96}
    (seeds.fleet.folder / "test_model.json").write_text('{"model_id": "test_model", "version": "1", "owner": "ada"}')
    assert seeds.curl(REGISTER_FILE).status == 201
    again = seeds.curl(REGISTER)
    assert (again.status, again.body["code"]) == (409, "taken")
    no_bytes = seeds(CANARY, "fraud_detector_v1")
    assert (no_bytes.status, no_bytes.body["code"]) == (409, "bytes")
    assert "fleetcast register fraud_detector_v1 1.0.0 FILE" in no_bytes.body["next"]


def list_and_describe(seeds: Seeds) -> None:
    served(seeds, "3.1.5")
    served(seeds, "3.2.1")
    until("lists have it", lambda: seeds.curl(LIST).body["count"] == 4)
    counts = [[m["model_id"] for m in seeds(line).body["models"]] for line in LISTS.strip().splitlines()]
    assert [len(models) for models in counts] == [4, 1, 2, 2]
    assert seeds.curl(STATS).body["total_models"] == 3
    details = seeds(DETAILS)
    assert (details.body["version"], details.body["deploy_status"]) == ("3.2.1", "production")
    assert len(details.body["artifact"]) == 64
    assert seeds(CARD).body["model_card"].startswith("---\n")


def bring_the_bytes(seeds: Seeds) -> None:
    # The bytes of a version that was only described come later, and keep what was said.
    path = seeds.fleet.publish("late.pkl", {"weights": [1.0]})
    late = {"model_id": "fraud_detector_v1", "version": "1.0.0", "artifact_path": str(path)}
    brought = seeds.gateway.curl("POST", "/api/model-registry/models", late)
    assert (brought.status, brought.body["owner"], brought.body["framework"]) == (201, "ml_team", "sklearn"), brought
    assert brought.body["artifact"] != "none"


def judge(seeds: Seeds) -> None:
    # How it performs.
    recorded = seeds(RECORD)
    assert (recorded.status, recorded.body["status"]) == (201, "recorded")
    until("it is judged", lambda: failing(seeds))
    check = seeds(CHECK).body
    assert {"model_id", "should_rollback", "reasons", "window_minutes", "auto_remediate"} <= check.keys()
    assert (check["model_id"], check["window_minutes"], check["auto_remediate"]) == (MODEL, 10, False)
    assert any(re.match(r"High error rate: 8\.50%", reason) for reason in check["reasons"])
    health = seeds(HEALTH).body
    assert (health["model_id"], health["version"], health["status"]) == (MODEL, "3.2.1", "production")
    assert health["health_status"] in {"degraded", "critical"}
    assert health["metrics"].keys() == {"avg_error_rate", "avg_latency_p95_ms", "avg_ood_rate", "snapshot_count"}
    fleet = seeds(PRODUCTION).body
    assert fleet["degraded"] + fleet["failing"] == 1
    assert fleet["issues"][0].keys() == {"model_id", "version", "reasons"}


def remedy(seeds: Seeds) -> None:
    # GET changes nothing: what asks for a change needs POST, and then does all that the documents say.
    by_get = seeds(CHECK_AND_REMEDY)
    assert (by_get.status, by_get.body["code"]) == (400, "needs-post")
    assert serving(seeds)[0] == "3.2.1"
    remedied = seeds(CHECK_AND_REMEDY.replace("GET", "POST"))
    assert remedied.status == 200, remedied
    assert (remedied.body["should_rollback"], remedied.body["auto_remediate"]) == (True, True)
    until("the playbook has rolled it back", lambda: serving(seeds) == ("3.1.5", True))
    rolled_back = seeds(DETAILS + "?version=3.2.1").body
    assert rolled_back["deploy_status"] == "rollback"
    opened = [each for each in incidents(seeds) if each["resource_id"] == MODEL]
    assert opened
    assert opened[0]["resource_type"] == "ml_model"
    seen = seeds("GET /api/model-registry/models?stage=rollback").body["models"]
    assert [each["version"] for each in seen] == ["3.2.1"]


def roll_back_by_hand(seeds: Seeds) -> None:
    # By hand.
    served(seeds, "3.3.0")
    back = seeds(ROLL_BACK_TO)
    assert back.status == 200, back
    seed = {"status": "rolled_back", "model_id": MODEL, "reason": "manual_intervention", "target_version": "3.1.5"}
    assert seed.items() <= back.body.items()
    assert back.body["cli"] == f"fleetcast rollback {MODEL} --to 3.1.5 --reason manual_intervention"
    served(seeds, "3.4.0")
    assert seeds(ROLL_BACK).body["target_version"] == "3.1.5"
