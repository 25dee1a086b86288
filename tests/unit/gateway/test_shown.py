"""Versions, commands, problems, paths and pages, as they are shown; and the description that is committed."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.cli.daemon import check_gateway
from fleetcast.cli.problems import Problem
from fleetcast.config.gateway import GatewaySettings
from fleetcast.daemons.gateway import export, words
from fleetcast.daemons.gateway.app import make_app
from fleetcast.daemons.gateway.entries import (
    Deployment,
    Registration,
    announcement,
    entry_shown,
    is_about,
    row_shown,
    split_tags,
    stage_filter,
)
from fleetcast.daemons.gateway.guard import check_path
from fleetcast.daemons.gateway.pages import load
from fleetcast.daemons.gateway.problems import Refused, document, refusal_of
from fleetcast.daemons.gateway.reads import lanes_told
from fleetcast.registry.api.values import DeploymentStage, GateRefused, ModelNotFound, ModelRegistryEntry
from fleetcast.registry.commands import Answer
from fleetcast.registry.errors import NoKeeper, NoMonitor, RecordDamaged, VersionsDiffer

ROOT = Path(__file__).parents[3]
ROW: dict[str, Any] = {"model": "m", "version": "1", "stage": "quarantined", "artifact": "none", "was_served": True}


def test_the_committed_description_is_the_one_that_is_served() -> None:
    kept = (ROOT / "docs" / export.NAME).read_text(encoding="utf-8")
    assert kept == export.rendered(), "python -m fleetcast.daemons.gateway.export docs"


def test_a_registration_without_bytes_is_said_with_all_that_it_says() -> None:
    entry = Registration(
        model_id="fraud_detector_v1",
        version="1.0.0",
        name="Fraud Detector",
        framework="sklearn",
        training_dataset_size=50000,
        evaluation_metrics={"accuracy": 0.96},
        constitutional_compliance=True,
        flags={"parity": False},
        metadata={"ticket": "T-1"},
    )
    command = announcement(entry, node="gw")
    assert (command.model, command.version, command.origin) == ("fraud_detector_v1", "1.0.0", "gw")
    assert (command.facts.display_name, command.facts.training_dataset_size) == ("Fraud Detector", 50000)
    assert command.facts.evaluation_metrics == {"accuracy": 0.96}
    assert {name: flag.value for name, flag in command.flags.items()} == {
        "constitutional_compliance": True,
        "parity": False,
    }
    assert command.metadata == {"ticket": "T-1"}


def test_a_version_that_was_served_and_is_quarantined_was_rolled_back() -> None:
    assert row_shown(ROW)["deploy_status"] == "rollback"
    assert row_shown({**ROW, "was_served": False})["deploy_status"] == "quarantined"
    assert stage_filter(DeploymentStage.ROLLBACK) == {"stage": "quarantined", "served": True}
    assert stage_filter(DeploymentStage.QUARANTINED) == {"stage": "quarantined", "served": False}
    assert stage_filter(DeploymentStage.CANARY) == {"stage": "canary"}
    assert stage_filter(None) == {"stage": None}


@pytest.mark.parametrize(
    ("model", "text", "found"),
    [
        (None, None, True),
        ("hex8", None, True),
        ("hex*", None, True),
        ("square*", None, False),
        (None, "ADA openings", True),
        (None, "ada endgames", False),
        ("square*", "ada", False),
    ],
)
def test_a_list_without_a_read_model_keeps_its_filters(model: str | None, text: str | None, *, found: bool) -> None:
    entry = ModelRegistryEntry(model_id="hex8", version="1", owner="ada", description="Better at Openings")
    assert is_about(entry, model, text) is found


def test_a_list_and_a_version_name_things_alike() -> None:
    one = entry_shown(ModelRegistryEntry(model_id="m", version="1"))
    assert one["artifact"] == "none"
    assert set(row_shown(ROW)) - {"slots", "since"} <= set(one)


def test_tags_are_separated_by_commas() -> None:
    assert split_tags("nlp, transformer,,") == ("nlp", "transformer")
    assert split_tags(None) == ()


@pytest.mark.parametrize("stage", ["development", "sandbox", "canary", "production", "rollback"])
def test_every_stage_of_the_documents_is_a_status_with_a_command(stage: str) -> None:
    order = Deployment.model_validate({"status": stage})
    said = words.deployment("m", "1", order.status, None, "why not")
    assert said.startswith("fleetcast ")
    assert "m" in said.split()[2]
    assert "'why not'" in said


def test_a_command_can_be_pasted_whatever_it_is_made_from() -> None:
    said = words.command("rollback", "m; rm -rf /", reason="it's $(bad)")
    assert said == "fleetcast rollback 'm; rm -rf /' --reason 'it'\"'\"'s $(bad)'"


# -- problems


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ModelNotFound("none"), 404, "not-found"),
        (NoKeeper("away"), 503, "no-registry"),
        (NoMonitor("away"), 503, "no-monitor"),
        (VersionsDiffer("two versions"), 422, "invalid"),
        (Refused(418, "tea", "no"), 418, "tea"),
    ],
)
def test_errors_have_a_status_a_code_and_a_next_step(error: Exception, status: int, code: str) -> None:
    found = refusal_of(error)
    assert found is not None
    assert (found.status, found.code) == (status, code)


def test_a_refusal_by_gates_has_their_numbers() -> None:
    answer = Answer.model_validate(
        {
            "outcome": "refused",
            "model": "m",
            "message": "m@1 does not go to production: of 1 gates 1 failed",
            "code": "gates",
            "next_step": "fleetcast evidence set m 1 games=…",
            "gates": [{"gate": "win_rate", "verdict": "fail", "required": ">= 90 %", "actual": "81 %"}],
        }
    )
    found = refusal_of(GateRefused(answer))
    assert found is not None
    body = document(found, cli="fleetcast promote m 1", instance="/x")
    assert (body["status"], body["code"], body["why"]) == (409, "gates", "win_rate: required >= 90 %, actual 81 %")
    assert body["gates"][0]["actual"] == "81 %"
    assert body["next"].startswith("fleetcast evidence")
    assert body["cli"] == "fleetcast promote m 1"


def test_an_answer_of_a_trainer_that_cannot_be_read_is_not_called_a_mistake_of_whoever_asked() -> None:
    with pytest.raises(RecordDamaged) as told:
        lanes_told(b'{"lanes": 7}')
    refused = refusal_of(told.value)
    assert refused is not None
    assert (refused.status, refused.code) == (500, "damaged")


def test_no_request_takes_a_thread() -> None:
    """FastAPI runs dependencies and routes that are plain functions in a pool of forty threads."""
    routers = [getattr(each, "original_router", None) for each in make_app(GatewaySettings()).routes]
    asked = [route for router in routers if router for route in router.routes if isinstance(route, APIRoute)]
    calls = [each.call for route in asked for each in (route.dependant, *route.dependant.dependencies)]
    assert len(calls) > 60
    assert [call for call in calls if not inspect.iscoroutinefunction(call)] == []


def test_a_fault_of_ours_is_no_refusal() -> None:
    assert refusal_of(KeyError("secret")) is None


# -- paths and pages


@pytest.mark.parametrize(
    "path",
    [
        b"/../x",
        b"/a/../b",
        b"/a/./b",
        b"/%2e%2e/x",
        b"/a%2fb",
        b"/a%5Cb",
        b"/a\\b",
        b"//x",
        b"/%252e",
        b"/%00",
        b"/a%0ab",
        b"x",
        b"/" + b"a" * 5000,
        b"/%ff",
    ],
)
def test_a_path_that_is_not_written_plainly_is_refused(path: bytes) -> None:
    with pytest.raises(Refused) as refused:
        check_path(path)
    assert refused.value.status == 400


@pytest.mark.parametrize("path", [b"/", b"/api/model-registry/models/m@1.2+b?x=../..", b"/a..b/c", b"/%C3%A9"])
def test_a_plain_path_is_let_through(path: bytes) -> None:
    check_path(path)


@given(st.binary(max_size=40))
def test_no_path_that_is_let_through_climbs(rest: bytes) -> None:
    try:
        check_path(b"/" + rest)
    except Refused:
        return
    assert ".." not in (b"/" + rest.partition(b"?")[0]).decode("latin-1").split("/")


def test_pages_are_files_of_the_package_and_nothing_else() -> None:
    pages = load()
    assert pages[""] == pages["index.html"]
    assert all(".." not in path and not path.startswith("/") for path in pages)
    assert not any(path.endswith(".py") for path in pages)


def test_without_what_it_needs_the_command_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    check_gateway()
    monkeypatch.setattr("fleetcast.daemons.gateway.find_spec", lambda name: None if name == "uvicorn" else name)
    with pytest.raises(Problem, match="uvicorn") as lacking:
        check_gateway()
    assert lacking.value.next_step == "pip install 'fleetcast[gateway]'"
