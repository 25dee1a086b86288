"""What a gateway does with requests that it should not do, or not so: nothing, and it says why."""

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.integration.gateway.gateways import (
    LOOPBACK,
    Answer,
    GatewayProcess,
    Small,
    gateway_of,
    read,
    small,
    started,
    until,
)
from tests.integration.registry.small_fleet import SECONDS

from fleetcast.bus import connect
from fleetcast.bus.streams import EVENTS, NODES_BUCKET, PERF, REGISTRY, REMEDY
from fleetcast.config.settings import BusSettings
from fleetcast.daemons.gateway import tokens
from fleetcast.daemons.gateway.access import AccessRefused, Role, Token, Tokens, digest, new_token
from fleetcast.daemons.gateway.daemon import listen
from fleetcast.daemons.testing import heartbeat

MODELS = "/api/model-registry/models"
BODY_SECONDS = 1.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    limits = {"body_seconds": BODY_SECONDS, "max_body_bytes": 4096, "max_connections": 40, "max_streams": 3}
    with small(tmp_path_factory.mktemp("gateway"), **limits) as made:
        yield made


@pytest.fixture
def gateway(running: Small) -> GatewayProcess:
    return running.gateway


def refused(answer: Answer, status: int, code: str) -> dict[str, object]:
    """The problem document, which names what is the same on the command line."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.body
    assert (body["status"], body["code"]) == (status, code), body
    assert {"type", "title", "detail", "instance"} <= body.keys()
    return body


def sent(gateway: GatewayProcess, request: bytes) -> Answer:
    return read(gateway.raw(request).decode())


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *lines, "", ""]).encode()


# -- bodies


def test_a_body_that_lies_about_its_types_is_refused_with_the_field(gateway: GatewayProcess) -> None:
    wrong = {"model_id": "m", "version": "1", "training_dataset_size": "many", "tags": 7}
    body = refused(gateway.curl("POST", MODELS, wrong), 422, "invalid")
    assert "training_dataset_size" in f"{body['detail']} {body['why']}"
    assert gateway.curl("GET", f"{MODELS}/m").status == 404


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        (b"{", 400, "json"),
        (b"[]", 422, "invalid"),
        (b"", 422, "invalid"),
        (b'{"model_id": "m", "version": "1", "nonsense": 1}', 422, "invalid"),
        (b'{"model_id": "../../etc", "version": "1"}', 422, "invalid"),
        (b'{"model_id": "m", "version": "1", "artifact_path": "/publish/../etc/passwd"}', 422, "invalid"),
        (b'{"model_id": "m", "version": "1", "deploy_status": "production"}', 422, "stage"),
        (b'{"model_id": "m", "version": "1", "evaluation_metrics": {"accuracy": 1e999}}', 422, "invalid"),
        (b"\xff\xfe", 400, "json"),
    ],
)
def test_a_body_that_is_none_is_refused(gateway: GatewayProcess, text: bytes, status: int, code: str) -> None:
    answer = sent(gateway, head("POST", MODELS, f"Content-Length: {len(text)}") + text)
    refused(answer, status, code)


def test_a_huge_body_is_refused_whether_it_says_so_or_not(gateway: GatewayProcess) -> None:
    refused(sent(gateway, head("POST", MODELS, "Content-Length: 9999999999")), 413, "too-large")
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    chunked = head("POST", MODELS, "Transfer-Encoding: chunked") + chunk + chunk + b"0\r\n\r\n"
    refused(sent(gateway, chunked), 413, "too-large")


def test_a_body_that_does_not_come_is_not_waited_for(gateway: GatewayProcess) -> None:
    before = time.monotonic()
    refused(sent(gateway, head("POST", MODELS, "Content-Length: 100") + b"{"), 408, "slow")
    assert time.monotonic() - before >= BODY_SECONDS


def test_an_event_stream_with_a_body_that_does_not_come_keeps_no_place(gateway: GatewayProcess) -> None:
    for _ in range(4):
        refused(sent(gateway, head("GET", "/api/events", "Content-Length: 5")), 408, "slow")
    with socket.create_connection((LOOPBACK, gateway.port)) as one:
        one.sendall(head("GET", "/api/events"))
        assert one.recv(15) == b"HTTP/1.1 200 OK"


# -- paths, methods, parameters


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/pages/..%5c..%5csettings",
        "//etc/passwd",
        "/api/model-registry/models/%00",
        "/%252e%252e/etc/passwd",
        "/api/model-registry/models/..",
    ],
)
def test_a_path_that_tries_to_climb_gets_nowhere(gateway: GatewayProcess, path: str) -> None:
    answer = sent(gateway, head("GET", path))
    refused(answer, 400, "path")
    assert "root:" not in answer.text


def test_what_is_not_there_is_said_so(gateway: GatewayProcess) -> None:
    refused(gateway.curl("GET", f"{MODELS}/nobody"), 404, "not-found")
    refused(gateway.curl("GET", f"{MODELS}/{'x' * 200}"), 404, "not-found")
    refused(gateway.curl("GET", "/api/nothing"), 404, "no-such-path")
    refused(gateway.curl("GET", "/app.py"), 404, "no-such-path")
    refused(gateway.curl("DELETE", MODELS), 405, "method")
    refused(gateway.curl("GET", f"{MODELS}/m@1?version=2"), 422, "invalid")
    refused(gateway.curl("PATCH", f"{MODELS}/m@1/deployment", {"status": "sandbox", "version": "2"}), 422, "invalid")
    refused(gateway.curl("GET", f"{MODELS}?stage=nowhere"), 422, "invalid")
    refused(gateway.curl("GET", f"{MODELS}?after=garbage"), 400, "invalid")
    body = refused(gateway.curl("GET", f"{MODELS}/m/health"), 503, "no-monitor")
    assert body["cli"] == "fleetcast monitor show m"
    assert "fleetcast run monitor" in str(body["detail"]) + str(body["next"])


def test_get_changes_nothing(running: Small) -> None:
    """Every path of the description is asked, with every trick that could make it act."""
    running.gateway.curl("POST", MODELS, {"model_id": "still", "version": "1"})
    described = running.gateway.curl("GET", "/api/openapi.json").body["paths"]
    paths = [path for path, verbs in described.items() if "get" in verbs]
    assert len(paths) > 20
    before = _stored(running)
    for path in paths:
        if path == "/api/events":
            continue
        filled = path.replace("{model_id}", "still").replace("{number}", "1").replace("{", "").replace("}", "")
        tricks = "auto_remediate=true&a=still@1&b=still@1&version=1&reason=x"
        answer = running.gateway.curl("GET", f"{filled}?{tricks}", None)
        assert answer.status in {200, 400, 404, 409, 503}, (path, answer)
    assert _stored(running) == before


def _stored(running: Small) -> dict[str, int]:
    """The newest sequence of what a change would write to."""

    async def look() -> dict[str, int]:
        async with connect(BusSettings(url=running.server.url), node="t", daemon="t", wait=False) as bus:
            return {name: await bus.last_sequence(name) for name in (REGISTRY, EVENTS, REMEDY, PERF)}

    return asyncio.run(look())


def test_a_page_of_another_site_cannot_use_the_browser_of_somebody_here(gateway: GatewayProcess) -> None:
    evil = ("-H", "Origin: https://evil.example", "-H", "Sec-Fetch-Site: cross-site")
    refused(gateway.curl("POST", MODELS, {"model_id": "evil", "version": "1"}, *evil), 403, "foreign")
    refused(gateway.curl("GET", MODELS, None, "-H", "Host: rebound.example"), 403, "foreign")
    own = ("-H", f"Origin: http://localhost:{gateway.port}", "-H", "Sec-Fetch-Site: same-origin")
    assert gateway.curl("GET", MODELS, None, *own).status == 200


def test_pages_carry_a_policy_that_lets_nothing_in_from_elsewhere(gateway: GatewayProcess) -> None:
    page = gateway.curl("GET", "/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    again = gateway.curl("GET", "/index.html", None, "-H", f"If-None-Match: {page.headers['etag']}")
    assert again.status == 304
    assert gateway.curl("GET", MODELS).headers["cache-control"] == "no-store"


# -- what one client may cost


@contextmanager
def dawdling(gateway: GatewayProcess) -> Iterator[list[socket.socket]]:
    """More connections than there may be, each of which has begun to ask and does not go on."""
    idle = [socket.create_connection((LOOPBACK, gateway.port), SECONDS) for _ in range(50)]
    try:
        for each in idle:
            each.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        yield idle
    finally:
        for each in idle:
            each.close()


def test_connections_that_never_ask_are_cut_off_and_keep_others_out_no_longer(gateway: GatewayProcess) -> None:
    with dawdling(gateway) as idle:
        assert [each.recv(1) for each in idle] == [b""] * len(idle)
        assert gateway.curl("GET", "/healthz").body["status"] == "ok"


@pytest.mark.soak
def test_without_patience_that_ends_they_would_keep_others_out(running: Small) -> None:
    limits = {"body_seconds": 3600.0, "max_connections": 40}
    patient = gateway_of(running.folder, running.gateway.settings, "patient", **limits)
    with started(patient), dawdling(patient):
        until("it is full", lambda: patient.curl("GET", "/healthz").status == 503)
        time.sleep(3 * BODY_SECONDS)
        assert patient.curl("GET", "/healthz").status == 503


# -- whether all is well


def test_whether_all_is_well_is_said_as_the_command_says_it(running: Small) -> None:
    at = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    _beat(running, "remedy", at)
    _beat(running, "trainer", at)
    until("it is noticed", lambda: len(running.gateway.curl("GET", "/api/status").body["degraded"]) >= 3)
    own = ["--server", running.server.url, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "fleetcast", "status", *own], capture_output=True, text=True, timeout=SECONDS
    )
    said = json.loads(done.stdout)
    told = running.gateway.curl("GET", "/api/status").body
    assert told["degraded"] == said["degraded"]
    assert (told["ok"], said["ok"]) == (False, False)
    assert any("no incident is opened" in each for each in told["degraded"])
    assert any("the trainer on node-1 is lost" in each for each in told["degraded"])


def _beat(running: Small, daemon: str, at: str) -> None:
    """The last heartbeat of a daemon that was killed."""
    said = heartbeat(
        "node-1",
        at=at,
        daemon=daemon,
    )

    async def put() -> None:
        async with connect(BusSettings(url=running.server.url), node="t", daemon="t", wait=False) as bus:
            await bus.kv_put(NODES_BUCKET, f"node-1.{daemon}", said.model_dump_json().encode())

    asyncio.run(put())


def test_a_head_without_end_is_cut_off(gateway: GatewayProcess) -> None:
    answer = gateway.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * 100_000)
    assert answer.startswith(b"HTTP/1.1 400")
    assert gateway.curl("GET", "/healthz").status == 200


# -- tokens


def token(gateway: GatewayProcess, action: str, name: str, *options: str) -> str:
    own = ["--reason", "tried", "--config", str(gateway.config)]
    done = subprocess.run(
        [sys.executable, "-m", "fleetcast", "gateway", "token", action, name, *options, *own],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_a_token_lets_in_as_far_as_its_role_reaches_and_until_it_is_revoked(running: Small) -> None:
    file = running.folder / "tokens.json"
    gateway = gateway_of(running.folder, running.gateway.settings, "guarded", tokens=file)
    gateway.config.write_text(f'[gateway]\ntokens = "{file}"\n')
    secrets = {"operator": new_token(), "promoter": new_token()}
    at = "2026-01-01T00:00:00.000Z"
    kept = tuple(
        Token(name=name, role=Role(name), sha256=digest(secret), created_at=at, created_by="test")
        for name, secret in secrets.items()
    )
    tokens.write(file, Tokens(tokens=kept))
    secrets["viewer"] = token(gateway, "add", "viewer", "--role", "viewer")
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    assert not any(secret in file.read_text() for secret in secrets.values())
    bearer = {role: ("-H", f"Authorization: Bearer {secret}") for role, secret in secrets.items()}
    order = {"status": "sandbox", "version": "1"}
    with started(gateway):
        assert "WWW-Authenticate".lower() in gateway.curl("GET", MODELS).headers
        refused(gateway.curl("GET", MODELS), 401, "token")
        refused(gateway.curl("GET", "/api/events"), 401, "token")
        refused(gateway.curl("GET", MODELS, None, "-H", "Authorization: Bearer fcg_guessed"), 401, "token")
        refused(gateway.curl("GET", MODELS, None, "-H", "Authorization: Basic YTpi"), 401, "token")
        assert gateway.curl("GET", MODELS, None, *bearer["viewer"]).status == 200

        entry = {"model_id": "guarded", "version": "1"}
        told = refused(gateway.curl("POST", MODELS, entry, *bearer["viewer"]), 403, "role")
        assert "needs operator" in str(told["detail"])
        assert gateway.curl("POST", MODELS, entry, *bearer["operator"]).status == 201
        path = f"{MODELS}/guarded/deployment"
        refused(gateway.curl("PATCH", path, order, *bearer["operator"]), 403, "role")
        assert gateway.curl("PATCH", path, order, *bearer["promoter"]).status == 200
        history = gateway.curl("GET", f"{MODELS}/guarded/history", None, *bearer["viewer"])
        actors = {each["actor"] for each in history.body["records"]}
        assert actors == {"/fleet/node-1/gateway/operator", "/fleet/node-1/gateway/promoter"}

        with streaming(gateway, secrets["viewer"]) as revoked, streaming(gateway, secrets["operator"]) as other:
            token(gateway, "revoke", "viewer")
            until("it is refused", lambda: gateway.curl("GET", MODELS, None, *bearer["viewer"]).status == 401)
            assert b"event: revoked" in _rest(revoked)
            other.setblocking(False)
            assert b"event: revoked" not in other.recv(65536)
        file.chmod(0o644)
        until("nobody is let in", lambda: gateway.curl("GET", MODELS, None, *bearer["promoter"]).status == 401)
        assert gateway.logged("tokens.wrong")


@contextmanager
def streaming(gateway: GatewayProcess, secret: str) -> Iterator[socket.socket]:
    """An event stream that has begun."""
    with socket.create_connection((LOOPBACK, gateway.port), SECONDS) as stream:
        stream.sendall(head("GET", "/api/events", f"Authorization: Bearer {secret}"))
        assert stream.recv(15, socket.MSG_PEEK | socket.MSG_WAITALL) == b"HTTP/1.1 200 OK"
        yield stream


def _rest(stream: socket.socket) -> bytes:
    received = bytearray()
    while chunk := stream.recv(65536):
        received += chunk
    return bytes(received)


# -- where it listens


def test_a_gateway_that_would_be_open_does_not_start(running: Small) -> None:
    gateway = gateway_of(running.folder, running.gateway.settings, "open", host="0.0.0.0")
    gateway.start()
    until("it ended", lambda: gateway.ended)
    gateway.kill()
    (failed,) = gateway.logged("daemon.failed")
    assert "there is no token file" in str(failed["reason"])
    assert "fleetcast gateway token add" in str(failed["next_step"])
    assert "exception" not in failed


def test_a_port_that_is_taken_is_named(gateway: GatewayProcess) -> None:
    with pytest.raises(AccessRefused, match=f"127.0.0.1:{gateway.port}") as refused:
        listen(gateway.settings.gateway)
    assert "gateway.port" in refused.value.next_step


def test_https_answers_with_the_certificate_that_is_set(running: Small) -> None:
    certificate, key = _certificate(running.folder)
    gateway = gateway_of(running.folder, running.gateway.settings, "https", certificate=certificate, key=key)
    with started(gateway):
        safe = gateway.curl("GET", MODELS, None, "--cacert", str(certificate))
        assert safe.status == 200
        assert "strict-transport-security" in safe.headers
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((LOOPBACK, gateway.port)) as plain, old.wrap_socket(plain) as safe_one:
            assert safe_one.version() in {"TLSv1.2", "TLSv1.3"}


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "gateway.crt", folder / "gateway.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    secret.touch(mode=0o600)
    secret.write_bytes(pem)
    return certificate, secret
