"""What mirrors are asked for under a cap, and what they are understood to answer."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.transport.aria2.asking import Busy, NotUnderstood, parts, request, sent
from fleetcast.transport.pacing import FORGET_SECONDS, LEAST_RATE, MOST_OF_ONE, MOST_RECEIVERS, Full, Paces

CAPABILITY, TOKEN = "c" * 32, "0123456789abcdef" * 2
BASE = f"http://10.0.0.2:6880/{CAPABILITY}"
CAP = 10_000_000
ASKED = {"fleetcast-rate": str(CAP)}
bases = st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(st.integers(0, CAP), st.floats(0, 2 * CAP)), min_size=1)


@given(st.integers(0, CAP), bases)
def test_mirrors_are_never_asked_for_more_than_the_cap_together(cap: int, known: dict[str, tuple[int, float]]) -> None:
    told = {name: part for name, (part, _) in known.items()}
    assert sum(parts(cap, told, {name: used for name, (_, used) in known.items()}).values()) <= cap


def test_mirrors_that_send_all_they_may_have_equal_parts() -> None:
    made = parts(CAP, {"a": 0, "b": CAP // 2, "c": CAP // 3}, {"a": 0.0, "b": CAP / 2, "c": CAP / 3})
    assert made == {name: pytest.approx(CAP / 3, rel=0.01) for name in "abc"}


def test_what_a_slow_mirror_cannot_use_goes_to_the_others() -> None:
    made = parts(CAP, {"slow": CAP // 2, "a": CAP // 2}, {"slow": CAP / 20, "a": CAP / 2})
    assert made["a"] > 0.9 * CAP
    assert made["slow"] > CAP / 20


def test_parts_that_mirrors_would_not_obey_are_not_asked_for() -> None:
    assert parts(2 * LEAST_RATE, {"a": 0, "b": 0, "c": 0}, dict.fromkeys("abc", 0.0)) == {"a": 0, "b": 0, "c": 0}
    assert parts(CAP, {}, {}) == {}


def test_a_request_is_understood_by_a_file_server() -> None:
    head, *lines = request(BASE, TOKEN, CAP).decode().rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert Paces(CAPABILITY).asked("10.0.0.3", head.split()[1], headers, 0.0) == 0


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 405 Method Not Allowed\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nFleetcast-Sent: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nFleetcast-Sent: 7\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nFleetcast-Sent: " + b"9" * 5000 + b"\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_a_mirror_that_says_anything_else_knows_no_rates(head: bytes) -> None:
    with pytest.raises(NotUnderstood):
        sent(head)
    assert sent(b"HTTP/1.1 204 No Content\r\nfleetcast-sent: 7\r\n\r\n") == 7


@pytest.mark.parametrize("code", ["503 Service Unavailable", "429 Too Many Requests"])
def test_a_mirror_that_is_busy_may_know_rates(code: str) -> None:
    with pytest.raises(Busy):
        sent(f"HTTP/1.1 {code}\r\nRetry-After: 1\r\n\r\n".encode())


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (f"/{'d' * 32}/r/{TOKEN}", ASKED),
        (f"/{CAPABILITY}/r/short", ASKED),
        (f"/{CAPABILITY}/l/{TOKEN}", ASKED),
        (f"/{CAPABILITY}/r/{TOKEN}", {}),
        (f"/{CAPABILITY}/r/{TOKEN}", {"fleetcast-rate": "1e9"}),
        (f"/{CAPABILITY}/r/{TOKEN}", {"fleetcast-rate": "-1"}),
    ],
)
def test_what_is_not_a_request_for_a_rate_is_left_to_others(target: str, headers: dict[str, str]) -> None:
    assert Paces(CAPABILITY).asked("10.0.0.3", target, headers, 0.0) is None


def test_a_rate_holds_for_its_address_alone_whoever_else_knows_the_token() -> None:
    paces, mine = Paces(CAPABILITY), {"fleetcast-token": TOKEN}
    paces.asked("10.0.0.3", f"/{CAPABILITY}/r/{TOKEN}", ASKED, 0.0)
    receiver, other = paces.of("10.0.0.3", mine, 0.0), paces.of("10.0.0.4", mine, 0.0)
    assert receiver is not None
    assert receiver is paces.of("10.0.0.3", mine, 1.0)
    assert other is not receiver
    assert paces.of("10.0.0.3", {}, 0.0) is None


def test_tokens_that_nobody_speaks_of_again_are_forgotten_and_there_is_an_end_to_them() -> None:
    paces = Paces(CAPABILITY)
    made = [paces.of(f"10.0.{n // 64}.{n % 64}", {"fleetcast-token": TOKEN}, 0.0) for n in range(MOST_RECEIVERS + 1)]
    assert None not in made[:-1]
    assert made[-1] is None
    assert paces.of("10.9.9.9", {"fleetcast-token": TOKEN}, FORGET_SECONDS + 1) is not None


def test_an_address_does_not_take_the_room_of_all_others_and_is_told_to_ask_later() -> None:
    paces = Paces(CAPABILITY)
    for n in range(MOST_OF_ONE):
        assert paces.asked("10.0.0.3", f"/{CAPABILITY}/r/{n:032x}", ASKED, 0.0) == 0
    with pytest.raises(Full):
        paces.asked("10.0.0.3", f"/{CAPABILITY}/r/{TOKEN}", ASKED, 0.0)
    assert paces.of("10.0.0.3", {"fleetcast-token": TOKEN}, 0.0) is None
    assert paces.asked("10.0.0.4", f"/{CAPABILITY}/r/{TOKEN}", ASKED, 0.0) == 0


def test_a_receiver_that_is_sent_something_is_not_forgotten_and_obeys_what_is_asked_for_then() -> None:
    paces, mine = Paces(CAPABILITY), {"fleetcast-token": TOKEN}
    receiver = paces.of("10.0.0.3", mine, 0.0)
    assert receiver is not None
    with receiver:
        paces.sweep(FORGET_SECONDS + 1)
        assert paces.of("10.0.0.3", mine, FORGET_SECONDS + 1) is receiver
        paces.asked("10.0.0.3", f"/{CAPABILITY}/r/{TOKEN}", ASKED, FORGET_SECONDS + 2)
        assert receiver.pacer.slice_bytes(2**30) < 2**30
    paces.sweep(3 * FORGET_SECONDS)
    assert paces.of("10.0.0.3", mine, 3 * FORGET_SECONDS) is not receiver


def test_all_receivers_are_looked_at_once_a_second_and_not_at_every_request() -> None:
    paces, mine = Paces(CAPABILITY), {"fleetcast-token": TOKEN}
    receiver = paces.of("10.0.0.3", mine, 0.0)
    paces.sweep(FORGET_SECONDS - 0.5)
    assert paces.of("10.0.0.3", mine, FORGET_SECONDS + 0.4) is receiver
    assert paces.of("10.0.0.3", mine, FORGET_SECONDS + 0.6) is not receiver


@pytest.mark.asyncio
async def test_who_is_not_heard_for_long_is_sent_what_it_fetches_at_once() -> None:
    paces, mine = Paces(CAPABILITY), {"fleetcast-token": TOKEN}
    receiver = paces.of("10.0.0.3", mine, 0.0)
    assert receiver is not None
    paces.asked("10.0.0.3", f"/{CAPABILITY}/r/{TOKEN}", {"fleetcast-rate": str(LEAST_RATE)}, 0.0)
    await receiver.pacer.take(LEAST_RATE * 3600)
    waiting = asyncio.create_task(receiver.pacer.take(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    paces.of("10.0.0.4", mine, FORGET_SECONDS + 1)
    async with asyncio.timeout(30):
        await waiting
