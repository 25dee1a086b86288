"""What every request passes first: its path, its size, who made the browser ask; and what every answer carries."""

import asyncio
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleetcast.config.gateway import GatewaySettings
from fleetcast.daemons.gateway.access import foreign
from fleetcast.daemons.gateway.pages import POLICY
from fleetcast.daemons.gateway.problems import MEDIA_TYPE, Refused, document, refusal_of

log = structlog.get_logger("fleetcast.gateway")

MAX_PATH: Final = 4096
SHUT: Final = "default-src 'none'; frame-ancestors 'none'"
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Guard:
    """An ASGI layer around the application."""

    def __init__(self, app: ASGIApp, *, settings: GatewaySettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse what must not come through, answer what goes wrong, and leave the rest to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                _add_headers(scope, message, https=self._settings.certificate is not None)
            await send(message)

        scope.setdefault("state", {})
        try:
            self._check(scope)
            await self._app(scope, self._bounded(scope, receive), sending)
        except Exception as error:
            if begun:
                # Half an answer is out: the connection ends, which tells the client that it is not whole.
                log.exception("gateway.answer_broken", path=scope["path"])
                raise
            await answer(error, scope)(scope, receive, sending)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        check_path(scope.get("raw_path") or scope["path"].encode())
        if self._settings.tokens is None:
            site = None if _follows_a_link(scope, headers) else headers.get("sec-fetch-site")
            why = foreign(headers.get("host"), headers.get("origin"), site)
            if why is not None:
                raise Refused(
                    403,
                    "foreign",
                    "this gateway has no tokens, and answers only programs and pages of its own",
                    why=why,
                )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self._settings.max_body_bytes:
            raise self._too_large()

    def _too_large(self) -> Refused:
        most = self._settings.max_body_bytes
        return Refused(
            413,
            "too-large",
            f"the body has more than {most} bytes",
            next_step="files go by `artifact_path`; gateway.max_body_bytes is the limit",
            headers={"Connection": "close"},
        )

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """*receive*, with an end to how much comes and how long it takes. After the body there is no limit: a stream
        waits there for its client to go."""
        taken = 0
        whole = False
        deadline = asyncio.get_running_loop().time() + self._settings.body_seconds

        async def bounded() -> Message:
            nonlocal taken, whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as late:
                raise Refused(
                    408,
                    "slow",
                    f"the body did not come whole in {self._settings.body_seconds:g} s",
                    headers={"Connection": "close"},
                ) from late
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                whole = not message.get("more_body", False)
                if taken > self._settings.max_body_bytes:
                    raise self._too_large()
            return message

        return bounded


def _follows_a_link(scope: Scope, headers: Headers) -> bool:
    """Whether somebody came to a page of the dashboard from elsewhere, as from a chat. The page holds nothing of the
    fleet, nobody may frame it, and what it asks for then comes from itself."""
    goes = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    return goes and scope["method"] in {"GET", "HEAD"} and not scope["path"].startswith("/api")


def check_path(raw: bytes) -> None:
    """Raises Refused: a path that means something else than it says: encoded slashes, `..`, control characters."""
    path = raw.partition(b"?")[0]
    decoded = unquote_to_bytes(path)
    lower = path.lower()
    tricks = b"%2f" in lower or b"%5c" in lower or b"%25" in lower or b"\\" in decoded or b"//" in decoded
    climbs = any(part in {b"..", b"."} for part in decoded.split(b"/"))
    odd = any(byte < 0x20 or byte == 0x7F for byte in decoded)
    if len(path) > MAX_PATH or tricks or climbs or odd or not decoded.startswith(b"/"):
        raise Refused(400, "path", "the path is not written plainly", next_step="/api/openapi.json lists the paths")
    try:
        decoded.decode()
    except UnicodeDecodeError as error:
        raise Refused(400, "path", "the path is no UTF-8") from error


def answer(error: Exception, scope: Scope) -> JSONResponse:
    """The answer to a request that went wrong; a fault of ours is logged, and not told."""
    refused = refusal_of(error)
    if refused is None:
        log.error("gateway.fault", path=scope["path"], method=scope["method"], exc_info=error)
        refused = Refused(
            500, "fault", "the gateway failed at this request", next_step="its log has more; fleetcast doctor"
        )
    cli = str(_state(scope, "cli") or "")
    body = document(refused, cli=cli, instance=scope["path"][:500])
    return JSONResponse(body, status_code=refused.status, headers=refused.headers, media_type=MEDIA_TYPE)


def _state(scope: Scope, name: str) -> Any:
    return dict(scope.get("state") or {}).get(name)


def _add_headers(scope: Scope, message: Message, *, https: bool) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    api = scope["path"].startswith("/api/")
    headers.setdefault("Content-Security-Policy", SHUT if api else POLICY)
    headers.setdefault("Cache-Control", "no-store" if api else "no-cache")
    if https:
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")
