"""A tracker (BEP 3, BEP 23) that knows one swarm and answers at once: who announces is told of all the others."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, urlsplit


class Tracker:
    """Runs in a thread; peers are known by the address that they give as `ip`."""

    def __init__(self, address: str) -> None:
        known: dict[tuple[str, int], None] = {}
        self._known = known

        class Announce(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = parse_qs(urlsplit(self.path).query)
                own = (asked["ip"][0], int(asked["port"][0]))
                others = [peer for peer in known if peer != own]
                known[own] = None
                body = answer(others)
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer((address, 0), Announce)
        self._thread = threading.Thread(target=self._server.serve_forever, name="tracker")

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/announce"

    def announced(self, address: str) -> bool:
        """Whether a peer of this address has announced itself."""
        return any(known == address for known, _ in tuple(self._known))

    def __enter__(self) -> "Tracker":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def answer(peers: list[tuple[str, int]]) -> bytes:
    """The bencoded answer, with compact peers."""
    compact = b"".join(socket.inet_aton(host) + port.to_bytes(2, "big") for host, port in peers)
    return b"d8:intervali60e5:peers%d:%be" % (len(compact), compact)
