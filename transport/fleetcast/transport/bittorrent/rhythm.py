"""How often the child looks, asks and reports: seldom, for it wakes several threads each time (ADR 0019). Pure.

Standard library only: the child imports this.
"""

FLUSH_SECONDS = 0.25
"""Distance of flushes of one torrent: finished pieces become readable this much later at most. libtorrent closes the
files at each."""
STATUS_SECONDS = 0.5
"""Distance of status reports while something is fetched; nobody is told more often."""
EAGER_SECONDS = 0.01
"""Distance of status reports until the first byte of a torrent is there, for EAGER_FOR_SECONDS at most."""
EAGER_FOR_SECONDS = 2.0
PEERS_SECONDS = 2.0
"""Distance of questions about who sent how much, while something is fetched."""

NOTES_SECONDS = 0.03
"""Longest that news of libtorrent wait for more to come, while all there is to do is to fetch. Until a ban is heard,
the banned one's blocks spoil more pieces (ADR 0032)."""
NOTES_SHARE = 0.02
"""Share of the time of a torrent so far that its news may wait: a small one is over before."""

LOAD_SECONDS = 0.05
"""Shortest distance of looks at what waits for the disk."""
LOAD_STILL_SECONDS = 0.5
"""Longest one: a link of 100 Mbit/s brings 6 MiB in this time. A quicker one is found out at the next look."""
LOAD_STEP_BYTES = 4 * 2**20
"""What may come between two looks, at the rate of the last one."""


def notes_pause(age_seconds: float) -> float:
    """How long news may wait for more; *age_seconds* is that of the youngest torrent that is fetched."""
    return min(NOTES_SECONDS, NOTES_SHARE * age_seconds)


def load_pause(bytes_per_second: float) -> float:
    """How long until the next look at what waits for the disk, when so much is received."""
    if bytes_per_second <= 0:
        return LOAD_STILL_SECONDS
    return max(LOAD_SECONDS, min(LOAD_STILL_SECONDS, LOAD_STEP_BYTES / bytes_per_second))
