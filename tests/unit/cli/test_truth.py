"""What status says of the streams, of their copies, of the read model and of the room that there is."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.cli.builders import node

from fleetcast.registry.picture.truth import (
    LEAST_ROOM_BYTES,
    Copy,
    ReadModel,
    Stored,
    Truth,
    rooms,
    short_of_room,
    stream_of,
)

WELL = Stored("FC_REGISTRY", 100, 250, 1000, None, 1, "", led=True)
SECOND = 10**9


def answer(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "config": {"name": "FC_EVENTS", "max_bytes": 4096, "num_replicas": 3},
        "state": {"messages": 7, "bytes": 1024, "first_seq": 1, "last_seq": 9},
        "cluster": {
            "leader": "n1",
            "replicas": [
                {"name": "n2", "current": True, "active": 1, "lag": 0},
                {"name": "n3", "current": True, "active": 1, "lag": 0},
            ],
        },
        "sources": [{"name": "FC_REGISTRY", "lag": 0, "active": SECOND}],
    }
    return given | changes


def test_a_stream_is_read_as_the_server_describes_it() -> None:
    read = stream_of(answer())

    assert (read.name, read.messages, read.sequence, read.bytes, read.limit) == ("FC_EVENTS", 7, 9, 1024, 4096)
    assert (read.copies, read.leader, [c.server for c in read.others]) == (3, "n1", ["n2", "n3"])
    assert read.problems == ()


def test_a_server_without_a_cluster_leads_by_itself() -> None:
    alone = stream_of(answer(cluster=None, sources=None, config={"name": "FC_WORK", "max_bytes": -1}))

    assert (alone.led, alone.limit, alone.problems) == (True, None, ())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cluster": {"leader": "", "replicas": []}}, "has no leader"),
        ({"cluster": {"leader": "n1", "replicas": [{"name": "n2", "current": True}]}}, "has 2 of 3 copies"),
        (
            {"cluster": {"leader": "n1", "replicas": [{"name": n, "current": False, "lag": 9} for n in ("n2", "n3")]}},
            "its copy on n2 is 9 messages behind",
        ),
        (
            {"cluster": {"leader": "n1", "replicas": [{"name": n, "offline": True, "lag": 0} for n in ("n2", "n3")]}},
            "its copy on n3 is offline",
        ),
        ({"sources": [{"name": "x", "lag": 12, "active": 60 * SECOND}]}, "has not copied 12 messages"),
    ],
)
def test_what_is_wrong_with_a_stream_is_said(changes: dict[str, Any], said: str) -> None:
    assert any(said in each for each in stream_of(answer(**changes)).problems)


def test_a_source_that_is_being_copied_is_no_problem() -> None:
    assert stream_of(answer(sources=[{"name": "x", "lag": 12, "active": SECOND}])).problems == ()


def test_a_full_stream_is_a_problem_where_that_loses_something_and_not_where_time_takes_it_anyway() -> None:
    full = {"messages": 1, "bytes": 3900, "last_seq": 1}
    truth = stream_of(answer(config={"name": "FC_TRAINING", "max_bytes": 4096}, state=full))
    events = stream_of(answer(config={"name": "FC_EVENTS", "max_bytes": 4096}, state=full))

    assert "FC_TRAINING is 95% full" in truth.problems[0]
    assert events.problems == ()


def test_a_read_model_that_lags_and_an_account_that_is_full_are_problems() -> None:
    assert Truth((WELL,), 10, 1000, ReadModel(250, 3)).problems == ()
    lagging, full = (
        Truth((WELL,), used, 1000, ReadModel(1, behind)).problems for used, behind in ((10, 5000), (900, 0))
    )
    assert "5000 changes behind" in lagging[0]
    assert "JetStream has" in full[0]


def test_one_line_tells_lag_copies_read_model_and_room() -> None:
    copied = replace(WELL, copies=3, others=(Copy("n2", current=True, offline=False, lag=4),), source_lag=2)
    line = Truth((copied, WELL), 2048, None, ReadModel(250, 3)).sentence([("n1", 2**33), ("n2", 2**30)])

    assert line == (
        "truth: 2 streams (1 to 3 copies, 4 behind, 2 to copy), 2.0 KiB, read model as of 250, 3 behind, "
        "least room: 1.0 GiB on n2"
    )
    assert "no read model" in Truth((WELL,)).sentence([])


def test_the_least_of_what_the_daemons_of_a_node_say_is_its_room() -> None:
    said = [node("n1").model_copy(update={"disk_free": free}) for free in (5, 3, None)]

    assert rooms([*said, node("n2")]) == [("n1", 3)]
    assert short_of_room([("n1", 3), ("n2", LEAST_ROOM_BYTES)]) == ("node n1 has 3 B free on its disk",)
