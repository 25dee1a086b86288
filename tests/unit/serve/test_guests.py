"""Room of the file server, shared among clients."""

from fleetcast.transport.guests import Guest, Guests


def guest(guests: Guests, address: str = "a", gone: list[str] | None = None) -> Guest:
    found = guests.come(address)
    assert found is not None
    found.drop = lambda: (gone if gone is not None else []).append(address)
    return found


def test_a_client_gets_no_more_than_its_share() -> None:
    guests = Guests(2, 100.0)
    first = guest(guests)
    guest(guests)
    assert guests.come("a") is None
    assert guests.come("b") is not None
    first.leave(0.0)
    assert guests.come("a") is not None


def test_when_it_is_crowded_whoever_rests_longest_goes() -> None:
    guests, gone = Guests(9, 100.0), list[str]()
    for address in "abc":
        guest(guests, address, gone).rest()
    guests.crowded(now_full=True)
    assert gone == ["a"]


def test_whoever_works_is_not_sent_away_until_it_rests() -> None:
    guests, gone = Guests(9, 100.0), list[str]()
    busy = guest(guests, "a", gone)
    busy.rest()
    busy.work(0.0)
    guests.crowded(now_full=True)
    assert gone == []
    busy.rest()
    assert gone == ["a"]


def test_nobody_is_sent_away_while_there_is_room() -> None:
    guests, gone = Guests(9, 100.0), list[str]()
    guest(guests, "a", gone).rest()
    guests.crowded(now_full=False)
    assert gone == []


def test_requests_beyond_the_rate_wait_and_each_client_waits_for_itself() -> None:
    guests = Guests(9, 10.0)
    hasty, calm = guest(guests, "a"), guest(guests, "b")
    pauses = [hasty.work(100.0) for _ in range(20)]
    assert pauses[:10] == [0.0] * 10
    assert 0.9 < pauses[-1] < 1.1
    assert calm.work(100.0) == 0.0


def test_a_client_that_comes_again_is_still_known_by_its_haste() -> None:
    guests = Guests(9, 10.0)
    hasty = guest(guests)
    for _ in range(20):
        hasty.work(100.0)
    hasty.leave(100.0)
    assert guest(guests).work(100.0) > 0.9


def test_clients_that_are_gone_are_forgotten() -> None:
    guests = Guests(9, 10.0)
    for n in range(100):
        guest(guests, f"client {n}").leave(float(n))
    assert len(guests._clients) == 0
