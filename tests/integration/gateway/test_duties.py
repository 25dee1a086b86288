"""What the dashboard asks of the gateway beyond the lists, and what it says where those who decide are away."""

from collections.abc import Iterator

import pytest
from tests.integration.gateway.gateways import Answer, GatewayProcess, Small, small

from fleetcast.bus import connect
from fleetcast.bus.streams import REGISTRY, REMEDY
from fleetcast.config.settings import BusSettings

MODELS = "/api/model-registry/models"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    with small(tmp_path_factory.mktemp("duties")) as made:
        made.gateway.curl("POST", MODELS, {"model_id": "hex8", "version": "1"})
        yield made


@pytest.fixture
def gateway(running: Small) -> GatewayProcess:
    return running.gateway


def refused(answer: Answer, status: int, code: str) -> Answer:
    assert (answer.status, answer.body.get("code")) == (status, code), answer
    assert answer.headers["content-type"] == "application/problem+json"
    return answer


def test_whoever_asks_is_told_who_they_are(gateway: GatewayProcess) -> None:
    assert gateway.curl("GET", "/api/me").body == {
        "name": "local",
        "role": "promoter",
        "tokens": False,
        "node": "node-1",
    }


def test_models_come_one_row_each(gateway: GatewayProcess) -> None:
    (row,) = gateway.curl("GET", "/api/models?model=hex*").body["models"]
    assert (row["model"], row["newest"], row["production"]) == ("hex8", "1", None)
    assert gateway.curl("GET", "/api/models?model=chess*").body["models"] == []
    refused(gateway.curl("GET", "/api/models?after=nonsense"), 400, "invalid")


def test_the_board_is_there_without_a_node(gateway: GatewayProcess) -> None:
    board = gateway.curl("GET", "/api/fleet").body
    assert (board["nodes"], board["models"]) == ([], [])
    assert {each["daemon"] for each in board["daemons"]} >= {"registry", "gateway"}


@pytest.mark.parametrize(("stage", "more"), [("staging", ""), ("production", ""), ("canary", "&percent=10")])
def test_a_promotion_that_is_tried_changes_nothing(gateway: GatewayProcess, stage: str, more: str) -> None:
    before = gateway.curl("GET", f"{MODELS}/hex8/history").body["records"]
    tried = gateway.curl("GET", f"/api/models/hex8/gates?version=1&stage={stage}{more}").body
    assert tried["accepted"] is (stage == "staging"), tried
    assert tried["message"]
    assert "--dry-run" in tried["cli"]
    assert gateway.curl("GET", f"{MODELS}/hex8/history").body["records"] == before
    assert gateway.curl("GET", f"{MODELS}/hex8").body["deploy_status"] == "development"


def test_a_decision_is_shown_whole(gateway: GatewayProcess) -> None:
    decision = gateway.curl("GET", "/api/models/hex8/decisions/1").body
    assert (decision["n"], decision["model"]) == (1, "hex8")
    assert "evidence" in decision
    refused(gateway.curl("GET", "/api/models/hex8/decisions/99"), 404, "not-found")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/incidents/inc-1/ack", "no-remedy"),
        ("/api/incidents/inc-1/note", "no-remedy"),
        ("/api/incidents/inc-1/resolve", "no-remedy"),
        ("/api/runs/run-1/cancel", "no-trainer"),
        ("/api/lanes/chess/trigger", "no-trainer"),
        ("/api/lanes/chess/pause", "no-trainer"),
    ],
)
def test_who_is_away_is_named_and_nothing_is_left_behind(gateway: GatewayProcess, path: str, code: str) -> None:
    answer = refused(gateway.curl("POST", path, {"reason": "tried"}), 503, code)
    assert answer.headers["retry-after"]
    assert answer.body["cli"].startswith("fleetcast ")


@pytest.mark.parametrize("body", [None, {}, {"reason": ""}, {"reason": "x", "more": 1}, {"reason": 7}])
def test_what_is_done_needs_a_reason(gateway: GatewayProcess, body: object) -> None:
    refused(gateway.curl("POST", "/api/incidents/inc-1/ack", body), 422, "invalid")
    refused(gateway.curl("POST", "/api/runs/run-1/cancel", body), 422, "invalid")


@pytest.mark.parametrize("path", ["/api/incidents/inc-1/explode", "/api/lanes/chess/delete"])
def test_what_cannot_be_done_is_not_understood(gateway: GatewayProcess, path: str) -> None:
    refused(gateway.curl("POST", path, {"reason": "x"}), 422, "invalid")


def test_a_dead_letter_is_shown_with_its_body(running: Small) -> None:
    refused(running.gateway.curl("GET", "/api/dead-letters/1"), 404, "not-found")
    refused(running.gateway.curl("GET", "/api/dead-letters/0"), 422, "invalid")


@pytest.mark.parametrize(
    "path", ["/", "/fleet", "/models/hex8", "/training/runs/hex8-1", "/incidents/inc-1", "/dead-letters/3"]
)
def test_every_view_has_an_address(gateway: GatewayProcess, path: str) -> None:
    """A link that somebody was sent, even from a page elsewhere; what it then asks for is its own."""
    follows = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")
    answer = gateway.curl("GET", path, None, *(word for line in follows for word in ("-H", line)))
    assert answer.status == 200
    assert "<!doctype html>" in answer.text
    assert "'unsafe-inline'" not in answer.headers["content-security-policy"]
    asked = gateway.curl("GET", "/api/status", None, *(word for line in follows for word in ("-H", line)))
    assert (asked.status, asked.body["code"]) == (403, "foreign")


@pytest.mark.asyncio
async def test_asking_wrote_nothing(running: Small) -> None:
    async with connect(BusSettings(url=running.server.url), node="tests", daemon="tests") as bus:
        before = [await bus.last_sequence(stream) for stream in (REGISTRY, REMEDY)]
    for path in ("me", "fleet", "models", "models/hex8/gates?version=1", "models/hex8/decisions/1"):
        assert running.gateway.curl("GET", f"/api/{path}").status == 200
    async with connect(BusSettings(url=running.server.url), node="tests", daemon="tests") as bus:
        assert [await bus.last_sequence(stream) for stream in (REGISTRY, REMEDY)] == before
