"""A collector for tests: takes OTLP over HTTP and keeps the spans."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """A span as it arrived."""

    name: str
    service: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, str]
    failed: str | None

    @property
    def node(self) -> str:
        return self.attributes.get("fleetcast.node", "")


class Collector:
    """What arrived so far; `url` is where."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.spans: list[Seen] = []
        self.paths: set[str] = set()

    def take(self, path: str, body: bytes) -> None:
        self.paths.add(path)
        asked = ExportTraceServiceRequest.FromString(body)
        for group in asked.resource_spans:
            about = {each.key: each.value.string_value for each in group.resource.attributes}
            for scope in group.scope_spans:
                for span in scope.spans:
                    attributes = {a.key: a.value.string_value or str(a.value.int_value) for a in span.attributes}
                    self.spans.append(
                        Seen(
                            span.name,
                            about["service.name"],
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            {**about, **attributes},
                            span.status.message if span.status.code == 2 else None,
                        )
                    )

    def find(self, name: str, *, model: str, node: str = "") -> Seen | None:
        """The first span of a name about *model*, on *node* where given."""
        for span in list(self.spans):
            if span.name == name and span.attributes.get("fleetcast.model") == model and node in {"", span.node}:
                return span
        return None

    def way_up(self, span: Seen) -> list[str]:
        """Names from *span* to the root of its trace."""
        known = {each.id: each for each in list(self.spans)}
        names = [span.name]
        while span.parent:
            if span.parent not in known:
                return [*names, "?"]
            span = known[span.parent]
            names.append(span.name)
        return names


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """A test's output is not its access log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
