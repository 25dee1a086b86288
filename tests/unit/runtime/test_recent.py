"""The lines that a daemon keeps to tell them over the bus: the newest, and never more than it has room for."""

import json
import threading
from typing import Any

import structlog

from fleetcast.config.settings import LogSettings
from fleetcast.daemons.runtime import logs
from fleetcast.daemons.runtime.recent import PAGE_BYTES, RECENT, LogsPage, LogsQuestion, Place, Recent


def said(recent: Recent, event: str, **fields: Any) -> None:
    recent(None, "info", {"event": event, **fields})


def asked(recent: Recent, *, after: Place | None = None, **question: Any) -> LogsPage:
    places = {} if after is None else {"gpu-1.trainer": after}
    return recent.page("gpu-1", "trainer", LogsQuestion(after=places, **question))


def events(page: LogsPage) -> list[str]:
    return [json.loads(line)["event"] for line in page.lines]


def of(*names: str, **limits: int) -> Recent:
    recent = Recent(**limits)
    for name in names:
        said(recent, name)
    return recent


def test_the_newest_lines_come_first_time_and_then_what_is_new() -> None:
    recent = of("a", "b", "c")
    first = asked(recent, lines=2)
    said(recent, "d")

    assert events(first) == ["b", "c"]
    assert events(asked(recent, after=first.at)) == ["d"]
    assert events(asked(recent, after=asked(recent, after=first.at).at)) == []


def test_what_was_dropped_meanwhile_is_counted() -> None:
    recent = of("a", "b", lines=3)
    place = asked(recent).at
    for name in "cdefg":
        said(recent, name)

    page = asked(recent, after=place)
    assert (events(page), page.lost) == (["e", "f", "g"], 2)


def test_lines_of_another_life_of_the_daemon_are_all_news() -> None:
    recent = of("a", "b")

    assert events(asked(recent, after=Place(life="before", number=70))) == ["a", "b"]


def test_only_lines_of_the_correlation_that_was_asked_for() -> None:
    recent = Recent()
    said(recent, "a", correlation_id="01KAG")
    said(recent, "b", correlation_id="02XYZ")
    said(recent, "c")

    page = asked(recent, cid="01K")
    assert events(page) == ["a"]
    # What does not match was read too: it is not asked for again.
    assert page.at.number == page.newest == 3


def test_an_answer_fits_into_a_message_and_says_that_there_is_more() -> None:
    recent = Recent()
    for number in range(100):
        said(recent, str(number), text="x" * 10_000)
    place, seen = Place(life=recent.life, number=0), []
    while True:
        page = asked(recent, after=place)
        assert len(page.model_dump_json()) < 2 * PAGE_BYTES
        seen += events(page)
        place = page.at
        if page.at.number == page.newest:
            break

    assert seen == [str(number) for number in range(100)]
    assert events(asked(recent, lines=2000))[-1] == "99"


def test_memory_is_bounded_whatever_is_logged() -> None:
    recent = Recent(size=100_000)
    for number in range(50):
        said(recent, str(number), text="x" * 1_000_000)
    kept = asked(recent, lines=2000)

    assert sum(map(len, kept.lines)) < 100_000
    assert json.loads(kept.lines[-1])["cut_off"] > 1_000_000


def test_values_that_json_does_not_know_and_exceptions_are_told_as_text() -> None:
    recent = Recent()
    said(recent, "a", exc_info=RuntimeError("broken"), path=object())
    (line,) = asked(recent).lines

    assert "RuntimeError: broken" in json.loads(line)["exception"]


def test_threads_that_log_at_the_same_time_lose_nothing() -> None:
    recent = Recent()

    def many() -> None:
        for _ in range(100):
            said(recent, "a")

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert asked(recent).newest == 800


def test_a_line_that_is_logged_is_kept_with_who_said_it(logging_put_back: None) -> None:
    logs.configure(LogSettings(), node="gpu-1", daemon="trainer")
    structlog.get_logger().info("version.installed", model="hex8_2p")

    line = json.loads(RECENT.page("gpu-1", "trainer", LogsQuestion(lines=1)).lines[0])
    assert (line["event"], line["node"], line["daemon"], line["model"]) == (
        "version.installed",
        "gpu-1",
        "trainer",
        "hex8_2p",
    )
