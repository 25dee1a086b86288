"""One pipeline of logs: our lines and those of libraries, in the form that the reader wants."""

import io
import json
import logging
import os
import pty
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import structlog

from fleetcast.config.settings import LogSettings
from fleetcast.daemons.runtime import bind_correlation
from fleetcast.daemons.runtime.logs import choose_form, configure

pytestmark = pytest.mark.usefixtures("logging_put_back")


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def to_stream(**settings: Any) -> io.StringIO:
    stream = io.StringIO()
    configure(LogSettings(**settings), node="gpu-1", daemon="distributor", stream=stream, env={})
    return stream


def test_piped_line_is_one_json_object_with_the_place_it_comes_from() -> None:
    stream = to_stream()

    structlog.get_logger().info("transfer.verified", model="hex8_2p", seconds=1.5, path=Path("/m"))

    (line,) = lines(stream)
    assert list(line)[:5] == ["timestamp", "level", "event", "node", "daemon"]
    assert line["timestamp"].endswith("Z")
    assert {key: line[key] for key in list(line)[1:]} == {
        "level": "info",
        "event": "transfer.verified",
        "node": "gpu-1",
        "daemon": "distributor",
        "model": "hex8_2p",
        "seconds": 1.5,
        "path": "/m",
    }


def test_correlation_is_on_every_line_inside_the_block_and_on_none_outside() -> None:
    stream = to_stream()
    log = structlog.get_logger()

    with bind_correlation("01J", model="hex8_2p"):
        log.info("one")
        logging.getLogger("nats").warning("two")
    log.info("three")

    one, two, three = lines(stream)
    assert (one["correlation_id"], one["model"]) == ("01J", "hex8_2p")
    assert two["correlation_id"] == "01J"
    assert "correlation_id" not in three


def test_line_of_a_library_goes_the_same_way_with_its_logger_named() -> None:
    stream = to_stream()

    logging.getLogger("nats.aio.client").error("nats: %s", "slow consumer")
    logging.getLogger("odd").log(25, "between two levels")
    logging.getLogger("quiet").debug("not wanted")

    first, second = lines(stream)
    assert (first["event"], first["logger"], first["level"]) == ("nats: slow consumer", "nats.aio.client", "error")
    assert second["level"] == "info"


def test_python_warning_becomes_a_log_line() -> None:
    stream = to_stream()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old name", DeprecationWarning, stacklevel=1)

    assert lines(stream)[0]["logger"] == "py.warnings"


def test_traceback_is_text_without_the_values_of_local_variables() -> None:
    stream = to_stream()

    try:
        log_in("hunter" + "2")
    except ValueError:
        structlog.get_logger().exception("handler.failed")

    (line,) = lines(stream)
    assert "ValueError: refused" in line["exception"]
    assert "hunter2" not in stream.getvalue()


def log_in(password: str) -> None:
    raise ValueError("refused" if password else "empty")


def test_level_of_the_settings_holds_for_our_lines_too() -> None:
    stream = to_stream(level="warning")

    structlog.get_logger().info("hidden")
    structlog.get_logger().warning("shown")

    assert [line["event"] for line in lines(stream)] == ["shown"]


def test_last_configuration_holds_also_for_loggers_made_before() -> None:
    early = structlog.get_logger()
    to_stream()
    stream = to_stream()

    early.info("late")

    assert [line["event"] for line in lines(stream)] == ["late"]


def test_logfmt_takes_keys_that_have_spaces() -> None:
    stream = to_stream(format="logfmt")

    structlog.get_logger().info("x", **{"two words": 1})

    assert stream.getvalue().endswith("level=info event=x node=gpu-1 daemon=distributor two_words=1\n")


def test_entry_in_the_journal_names_model_correlation_and_calling_line(journal: Any) -> None:
    configure(
        LogSettings(format="journal"),
        node="gpu-1",
        daemon="distributor",
        stream=io.StringIO(),
        env={},
        journal=Path(journal.address),
    )

    with bind_correlation("01J"):
        structlog.get_logger().warning("transfer.slow", model="hex8_2p")
    logging.getLogger("nats").error("gone")

    ours, theirs = (journal.receive().decode() for _ in range(2))
    assert "MESSAGE=transfer.slow model=hex8_2p" in ours
    assert "PRIORITY=4\n" in ours
    assert "FC_MODEL=hex8_2p\n" in ours
    assert "FC_CORRELATION_ID=01J\n" in ours
    assert f"CODE_FILE={__file__}\n" in ours
    assert "PRIORITY=3\n" in theirs
    assert f"CODE_FILE={__file__}\n" in theirs


def test_stream_that_is_the_journal_is_recognised_and_a_redirected_one_is_not(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as journalled, (tmp_path / "b").open("w") as redirected:
        status = os.fstat(journalled.fileno())
        env = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}

        assert choose_form("auto", journalled, env) == "journal"
        assert choose_form("auto", redirected, env) == "json"
        assert choose_form("console", journalled, env) == "console"


def test_terminal_gets_colours_unless_they_are_refused() -> None:
    shown, hidden = on_terminal({}), on_terminal({"NO_COLOR": "1"})

    assert "\x1b[" in shown
    assert "\x1b[" not in hidden
    assert "transfer.verified" in hidden


def on_terminal(env: dict[str, str]) -> str:
    """What a terminal shows of one log line."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        configure(LogSettings(), node="n", daemon="d", stream=stream, env=env)
        structlog.get_logger().info("transfer.verified")
        text = os.read(ours, 10_000).decode()
    os.close(ours)
    return text


def test_stream_that_is_full_or_closed_never_harms_the_daemon() -> None:
    with io.FileIO("/dev/full", "w") as device:
        full = io.TextIOWrapper(device, write_through=True)
        configure(LogSettings(), node="n", daemon="d", stream=full, env={})
        structlog.get_logger().info("no space")
    stream = to_stream()
    stream.close()

    structlog.get_logger().info("nobody reads")
    logging.getLogger("nats").error("nobody reads")


def test_standard_output_stays_clean() -> None:
    code = (
        "import structlog; from fleetcast.config.settings import LogSettings;"
        "from fleetcast.daemons.runtime import logs;"
        "logs.configure(LogSettings(), node='n', daemon='d'); structlog.get_logger().info('x'); print('data')"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.stdout == "data\n"
    assert json.loads(done.stderr)["event"] == "x"
