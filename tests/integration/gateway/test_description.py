"""The description (docs/openapi.json) against a running gateway: whatever is asked, by whomever, the answer is one that
is described: schemathesis makes the requests, right ones and wrong ones, always the same."""

import http.client
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.integration.gateway.gateways import GatewayProcess, gateway_of, small, started
from tests.integration.registry.small_fleet import SECONDS

from fleetcast.daemons.gateway import tokens
from fleetcast.daemons.gateway.access import Role, Token, Tokens, digest, new_token

DESCRIBED: Final[dict[str, Any]] = json.loads((Path(__file__).parents[3] / "docs" / "openapi.json").read_text())
OPERATIONS: Final = sorted(
    (method.upper(), path)
    for path, verbs in DESCRIBED["paths"].items()
    for method in verbs
    if path != "/api/events"  # it goes on for ever: test_streams has it
)


def can_be_wrong(method: str, path: str) -> bool:
    """Whether a request can have a body or a parameter that the description does not allow; any text is a name."""
    said = DESCRIBED["paths"][path][method.lower()]
    return "requestBody" in said or any(each["in"] != "path" for each in said.get("parameters", ()))


KINDS: Final = [
    (mode, method, path)
    for mode in GenerationMode
    for method, path in OPERATIONS
    if mode is GenerationMode.POSITIVE or can_be_wrong(method, path)
]
CHECKS: Final = (
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
EXAMPLES: Final = 2
MANY: Final = 60
AWAY: Final = 503
"""What a gateway says whose monitor does not run, as here."""


@dataclass(frozen=True)
class Guarded:
    """A gateway with tokens, one of each role."""

    gateway: GatewayProcess
    secrets: Mapping[Role, str]

    def bearer(self, role: Role) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secrets[role]}"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("described")
    secrets = {role: new_token() for role in Role}
    at = "2026-01-01T00:00:00.000Z"
    kept = tuple(
        Token(name=role.value, role=role, sha256=digest(secret), created_at=at, created_by="test")
        for role, secret in secrets.items()
    )
    tokens.write(folder / "tokens.json", Tokens(tokens=kept))
    with small(folder) as running:
        own = gateway_of(folder, running.gateway.settings, "guarded", tokens=folder / "tokens.json")
        with started(own):
            for version in ("1", "2"):
                body = {"model_id": "m", "version": version, "owner": "ada", "evaluation_metrics": {"accuracy": 0.9}}
                assert running.gateway.curl("POST", "/api/model-registry/models", body).status == 201
            yield Guarded(own, secrets)


def requests_of(method: str, path: str, mode: GenerationMode, guarded: Guarded) -> Any:
    """A strategy for requests of one operation."""
    schema = schemathesis.openapi.from_dict(DESCRIBED)
    schema.config.update(base_url=guarded.gateway.url)
    return schema[path][method].as_strategy(generation_mode=mode)


def tried(method: str, path: str, mode: GenerationMode, guarded: Guarded, examples: int) -> int:
    """Ask so often, as somebody who may do everything; how many answers there were."""
    answered = 0

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=requests_of(method, path, mode, guarded))
    def ask(case: Case[Any]) -> None:
        nonlocal answered
        answer = case.call(headers=guarded.bearer(Role.PROMOTER), timeout=60)
        answered += 1
        checks = [*CHECKS, *([] if answer.status_code == AWAY else [not_a_server_error])]
        if mode is GenerationMode.NEGATIVE:
            checks.append(negative_data_rejection)
        case.validate_response(answer, checks=checks)

    ask()
    return answered


each_kind = pytest.mark.parametrize(("mode", "method", "path"), KINDS)


@each_kind
def test_every_answer_is_one_that_is_described(guarded: Guarded, mode: GenerationMode, method: str, path: str) -> None:
    assert tried(method, path, mode, guarded, EXAMPLES) > 0


@pytest.mark.soak
@each_kind
def test_every_answer_to_many_requests_is_too(guarded: Guarded, mode: GenerationMode, method: str, path: str) -> None:
    assert tried(method, path, mode, guarded, MANY) > 0


@pytest.mark.soak
def test_an_answer_that_is_not_described_would_be_noticed(guarded: Guarded) -> None:
    described = deepcopy(DESCRIBED)
    del described["paths"]["/api/nodes/{node}"]["get"]["responses"]["404"]
    for document, noticed in ((DESCRIBED, False), (described, True)):
        schema = schemathesis.openapi.from_dict(document)
        schema.config.update(base_url=guarded.gateway.url)
        case = schema["/api/nodes/{node}"]["GET"].Case(path_parameters={"node": "nobody"})
        answer = case.call(headers=guarded.bearer(Role.VIEWER))
        with pytest.raises(FailureGroup) if noticed else nullcontext():
            case.validate_response(answer, checks=list(CHECKS))


# -- who may


def asked(guarded: Guarded, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """Status and code of an answer to an operation about things called `m`."""
    connection = http.client.HTTPConnection("localhost", guarded.gateway.port, timeout=SECONDS)
    connection.request(method, re.sub(r"\{\w+\}", "1", path), headers=dict(headers))
    answer = connection.getresponse()
    document = json.loads(answer.read())
    connection.close()
    return answer.status, str(document.get("code"))


def test_nothing_is_answered_to_somebody_without_a_token(guarded: Guarded) -> None:
    for method, path in OPERATIONS:
        assert asked(guarded, method, path, {}) == (401, "token"), (method, path)


def test_nothing_is_changed_for_a_viewer(guarded: Guarded) -> None:
    changes = [each for each in OPERATIONS if each[0] != "GET" and not each[1].endswith("/generate-card")]
    assert len(changes) >= 6
    for method, path in changes:
        assert asked(guarded, method, path, guarded.bearer(Role.VIEWER)) == (403, "role"), (method, path)
