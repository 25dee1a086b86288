"""Events as server-sent events, and what waits for one client."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from fleetcast.bus import Entry
from fleetcast.daemons.gateway.frames import STILL_HERE, Client, Frame, Wanted, frame_of, last_event_id, opening
from fleetcast.events.envelope import new_event
from fleetcast.events.payloads import ModelRegistered

AT = datetime(2026, 1, 1, tzinfo=UTC)
ALL = Wanted()


def entry(sequence: int, data: bytes, subject: str = "fc.ev.model.registered.m") -> Entry:
    return Entry(subject=subject, data=data, headers={}, sequence=sequence, time=AT, pending=0)


def frame(sequence: int, size: int = 10, name: str = "model.registered", model: str = "m") -> Frame:
    return Frame(sequence, name, "key", model, b"x" * size)


def client(events: int = 16, size: int = 65536, wanted: Wanted = ALL) -> Client:
    return Client(wanted, events, size)


def test_a_frame_has_the_place_in_the_log_as_its_id_and_the_whole_event() -> None:
    event = new_event(ModelRegistered(model="m", version="1", path="/x", node="n"), source="/test")
    made = frame_of(entry(7, event.encode()[0]))
    head, _, rest = made.data.decode().partition("\n")
    assert head == "id: 7"
    assert made.data.endswith(b"\n\n")
    shown = json.loads(rest.removeprefix("data: "))
    assert (shown["sequence"], shown["event"], shown["data"]["version"]) == (7, "model.registered", "1")
    assert (made.name, made.model) == ("model.registered", "m")


def test_what_cannot_be_read_is_told_as_that() -> None:
    made = frame_of(entry(8, b"{", "fc.ev.model.registered.m"))
    assert json.loads(made.data.decode().partition("data: ")[2])["error"]
    assert Wanted().takes(made)
    assert not Wanted(frozenset({"model.registered"})).takes(made)


def test_a_line_break_in_an_event_cannot_forge_another_one() -> None:
    said = ModelRegistered(model="m", version="1", path="/x", node="n", metadata={"note": "a\n\nid: 999\ndata: {}\r\n"})
    made = frame_of(entry(9, new_event(said, source="/test").encode()[0]))
    assert made.data.count(b"\n") == 3
    assert b"\r" not in made.data


def test_a_large_payload_is_left_out_and_that_is_said() -> None:
    said = ModelRegistered(model="m", version="1", path="/x", node="n", metadata={"note": "x" * 20_000})
    made = frame_of(entry(10, new_event(said, source="/test").encode()[0]))
    assert len(made.data) < 2000
    assert json.loads(made.data.decode().partition("data: ")[2])["truncated"] is True


def test_wanted_takes_by_type_and_by_what_it_is_about() -> None:
    assert Wanted(frozenset({"model.registered"}), "m").takes(frame(1))
    assert Wanted(key="key").takes(frame(1))
    assert not Wanted(key="other").takes(frame(1))
    assert not Wanted(frozenset({"model.promoted"})).takes(frame(1))


@pytest.mark.parametrize(("text", "found"), [(None, None), ("", None), (" 12 ", 12), ("0", 0)])
def test_the_last_event_id_is_a_sequence(text: str | None, found: int | None) -> None:
    assert last_event_id(text) == found


@pytest.mark.parametrize("text", ["one", "-1", "1.5", "1e9", "९", "1" * 30, "1; drop"])
def test_anything_else_is_no_last_event_id(text: str) -> None:
    with pytest.raises(ValueError, match="Last-Event-ID"):
        last_event_id(text)


@pytest.mark.asyncio
async def test_a_client_gets_what_waits_in_order_and_once() -> None:
    one = client()
    for sequence in (1, 2, 2, 1, 3):
        one.offer(Frame(sequence, "", "", "", f"{sequence};".encode()))
    assert await one.next(1) == b"1;2;3;"
    assert await one.next(0.01) == STILL_HERE


@pytest.mark.asyncio
async def test_too_many_events_drop_a_client_with_a_last_word_and_free_its_memory() -> None:
    one = client(events=16)
    for sequence in range(1, 1000):
        one.offer(frame(sequence))
    assert one.waiting_bytes == 0
    last = await one.next(1)
    assert last is not None
    assert last.startswith(b"event: dropped\n")
    assert await one.next(1) is None


def most_waiting(one: Client) -> int:
    """How many bytes wait at most while a client takes nothing in."""
    most = 0
    for sequence in range(1, 500):
        one.offer(frame(sequence, size=1000))
        most = max(most, one.waiting_bytes)
    return most


@pytest.mark.asyncio
async def test_too_many_bytes_drop_a_client_too() -> None:
    one = client(events=1000, size=65536)
    assert most_waiting(one) <= 65536
    assert one.closed


@pytest.mark.asyncio
async def test_a_client_without_the_bound_would_hold_everything() -> None:
    """The broken variant: what the test before looks at is there to be seen."""
    assert most_waiting(client(events=10**9, size=10**9)) == 499_000


@pytest.mark.asyncio
async def test_events_that_nobody_asked_for_do_not_wait() -> None:
    one = client(events=16, wanted=Wanted(key="other"))
    for sequence in range(1, 1000):
        one.offer(frame(sequence))
    assert (one.closed, one.waiting_bytes, one.sent) == (False, 0, 999)


@pytest.mark.asyncio
async def test_events_that_nobody_asked_for_wake_nobody() -> None:
    one = client(wanted=Wanted(key="m"))
    told = asyncio.create_task(one.next(60))
    await asyncio.sleep(0)
    one.offer(frame(1, model="other"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not told.done()
    one.offer(frame(2))
    assert await told == b"x" * 10


@pytest.mark.asyncio
async def test_a_client_that_is_ended_at_once_gets_nothing_of_what_waits() -> None:
    one = client()
    one.offer(frame(1))
    one.close(b"bye", at_once=True)
    assert (await one.next(1), one.waiting_bytes) == (b"bye", 0)
    assert await one.next(1) is None


@pytest.mark.asyncio
async def test_many_changes_of_the_fleet_are_told_once() -> None:
    one = Client(Wanted(), 16, 65536, changes=True)
    for _ in range(100):
        one.fleet_changed()
    assert await one.next(1) == b"event: changed\ndata: {}\n\n"
    one.close(b"bye")
    one.fleet_changed()
    assert await one.next(1) == b"bye"
    assert await asyncio.wait_for(one.next(1), 1) is None


def test_the_opening_says_when_to_come_back() -> None:
    assert opening(5) == b'retry: 1000\nevent: hello\ndata: {"newest":5}\n\n'
