"""The end of a process that exports traces, and one that cannot or does not."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.integration.tracing.commands import SECONDS, fleetcast, traced_by

from fleetcast.bus.otel import FLUSH_SECONDS, OtelTracer
from fleetcast.config.settings import Settings, TracingSettings
from fleetcast.config.template import render

NOT_INSTALLED = """
import sys
sys.modules["opentelemetry"] = None
from fleetcast.cli import main
sys.exit(main())
"""
"""fleetcast without the extra."""


@pytest.mark.parametrize("asked", [("config", "check"), pytest.param(("run", "registry"), marks=pytest.mark.soak)])
def test_an_endpoint_without_the_extra_is_said_at_once(tmp_path: Path, asked: tuple[str, ...]) -> None:
    file = tmp_path / "fleetcast.toml"
    file.write_text(render(traced_by("http://127.0.0.1:4318", Settings()), comments=False))

    told = fleetcast(*asked, config=file, program=NOT_INSTALLED)

    assert told.returncode == 2, told.stderr
    assert "pip install 'fleetcast[otel]'" in told.stderr


def test_a_collector_that_never_answers_keeps_the_end_for_two_seconds_at_most() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        tracer = OtelTracer(TracingSettings(endpoint=url, timeout_seconds=60), daemon="tests", node="n")
        with tracer.span("work", "internal", "", {}):
            pass
        began = time.monotonic()
        tracer.close()

    assert time.monotonic() - began < FLUSH_SECONDS + 10


def test_without_an_endpoint_nothing_of_opentelemetry_is_loaded() -> None:
    program = (
        "import sys; from fleetcast.bus import tracing;"
        "from fleetcast.config.settings import TracingSettings as T\n"
        "with tracing.exporting(T(), daemon='d', node='n'), tracing.span('work'): pass\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    assert subprocess.run([sys.executable, "-c", program], env=environment, timeout=SECONDS).returncode == 0
