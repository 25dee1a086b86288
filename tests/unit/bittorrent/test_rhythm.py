"""How often the child of libtorrent looks and is heard."""

from fleetcast.transport.bittorrent import rhythm


def test_news_of_a_small_torrent_wait_for_next_to_nothing() -> None:
    assert rhythm.notes_pause(0.0) == 0.0
    assert rhythm.notes_pause(0.5) <= 0.01


def test_news_of_a_long_transfer_wait_no_longer_than_a_tenth_of_a_second() -> None:
    assert rhythm.notes_pause(3600.0) == rhythm.NOTES_SECONDS <= 0.1


def test_what_waits_for_the_disk_is_looked_at_the_more_often_the_more_comes() -> None:
    pauses = [rhythm.load_pause(rate) for rate in (0.0, 1e6, 20e6, 50e6, 1e9)]
    assert pauses == sorted(pauses, reverse=True)
    assert (pauses[0], pauses[-1]) == (rhythm.LOAD_STILL_SECONDS, rhythm.LOAD_SECONDS)
    assert rhythm.load_pause(20e6) * 20e6 <= rhythm.LOAD_STEP_BYTES
