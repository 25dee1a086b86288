"""The settings of [limits], and which of them hold at a given time. A description says meaning, unit and why."""

import re
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal, get_args

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from fleetcast.config.group import Group

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEK: tuple[Day, ...] = get_args(Day)
LEAST_CAP = 64 * 1024
"""Bytes per second: four blocks of BitTorrent; under a lower cap each of them would look like a stall."""
_MINUTES_A_DAY = 24 * 60
_MINUTES_A_WEEK = 7 * _MINUTES_A_DAY


def minutes(clock: str) -> int:
    """Minutes since midnight of a time of day, `HH:MM`."""
    hours, _, rest = clock.partition(":")
    return 60 * int(hours) + int(rest)


def can_be_held(cap: int) -> int:
    """Return a cap that bytes can move under.

    Raises:
        ValueError: it is so low that every transfer would count as stalled.
    """
    if 0 < cap < LEAST_CAP:
        raise ValueError(f"is {cap}; the least cap that can be held is {LEAST_CAP}, and 0 means none")
    return cap


class Window(Group):
    """Hours of the week with caps of their own. `to` at or before `from` is meant for the next day."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    days: tuple[Day, ...] = Field(
        default=WEEK, min_length=1, description="Days on which the window begins, in local time. All of them."
    )
    begins: str = Field(alias="from", description="Time of day at which it begins, HH:MM.")
    ends: str = Field(
        alias="to", description="Time of day at which it ends, HH:MM; at or before the begin, on the next day."
    )
    download_bytes_per_second: int | None = Field(
        default=None, ge=0, examples=[0], description="Cap for receiving meanwhile. 0: none. None: as outside."
    )
    upload_bytes_per_second: int | None = Field(
        default=None, ge=0, examples=[0], description="Cap for sending meanwhile. 0: none. None: as outside."
    )

    @field_validator("begins", "ends")
    @classmethod
    def _is_a_time(cls, clock: str) -> str:
        if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d|24:00", clock):
            raise ValueError(f"{clock!r} is not a time of day from 00:00 to 24:00, such as 06:30")
        return clock

    @field_validator("ends")
    @classmethod
    def _lasts(cls, ends: str, known: ValidationInfo) -> str:
        if known.data.get("begins") == ends:
            raise ValueError("is the time at which the window begins; a whole day is from 00:00 to 24:00")
        return ends

    @field_validator("download_bytes_per_second", "upload_bytes_per_second")
    @classmethod
    def _lets_a_block_pass(cls, cap: int | None) -> int | None:
        return cap if cap is None else can_be_held(cap)

    @model_validator(mode="after")
    def _says_something(self) -> "Window":
        if self.download_bytes_per_second is None and self.upload_bytes_per_second is None:
            raise ValueError("a window without a cap changes nothing: set download_ or upload_bytes_per_second in it")
        return self

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Minutes of the week, from Monday 00:00, in which it holds: begin and end of each. May run past Sunday."""
        length = (minutes(self.ends) - minutes(self.begins)) % _MINUTES_A_DAY or _MINUTES_A_DAY
        starts = (WEEK.index(day) * _MINUTES_A_DAY + minutes(self.begins) for day in self.days)
        return tuple((start, start + length) for start in starts)


class LimitsSettings(Group):
    """What distribution leaves to others on this machine: bandwidth, processor and disk."""

    download_bytes_per_second: int = Field(
        default=0,
        ge=0,
        description="Cap for what this node receives from other nodes, by all transports together, on LAN, overlay and "
        "loopback alike; bytes in TCP streams, to which headers add 3 to 5 % on the line. 0: none.",
    )
    upload_bytes_per_second: int = Field(
        default=0,
        ge=0,
        description="Cap for what this node sends to other nodes, measured the same way. 0: none, the network decides.",
    )
    windows: tuple[Window, ...] = Field(
        default=(),
        description="Hours with caps of their own, as tables [[limits.windows]] of days, from, to and a cap, such as "
        'days = ["mon", "fri"], from = "22:00", to = "06:00", upload_bytes_per_second = 0. Local time. None: the same '
        "caps at all hours.",
    )
    nice: int = Field(
        default=5,
        ge=0,
        le=19,
        description="Niceness of transfers, hashing and format tests; above 0 they also wait for the disk behind all "
        "others. 5: a quarter of a core beside a busy program, all of an idle one; 10: a tenth. 0: as others.",
    )

    @field_validator("download_bytes_per_second", "upload_bytes_per_second")
    @classmethod
    def _lets_a_block_pass(cls, cap: int) -> int:
        return can_be_held(cap)

    @field_validator("windows")
    @classmethod
    def _do_not_overlap(cls, windows: tuple[Window, ...]) -> tuple[Window, ...]:
        spans = [(*span, number) for number, window in enumerate(windows, 1) for span in window.spans]
        # What begins on Sunday may end on Monday: the week is laid down twice.
        again = [(start + _MINUTES_A_WEEK, end + _MINUTES_A_WEEK, number) for start, end, number in spans]
        laid = sorted([*spans, *again])
        for (_, end, one), (start, _, other) in pairwise(laid):
            if start < end:
                first, second = sorted((one, other))
                raise ValueError(f"overlap: windows {first} and {second} both say what holds at the same time")
        return windows


@dataclass(frozen=True, slots=True)
class Caps:
    """What may move in bytes per second, each way; None: as much as the network takes."""

    download: int | None = None
    upload: int | None = None


def cap_at(now: datetime, limits: LimitsSettings) -> Caps:
    """The caps in force at a moment, by the clock on the wall: pass it in local time.

    Windows follow what the clock shows, so that one from 02:00 to 03:00 holds twice as long in the night in which that
    hour is repeated, and not at all in the night that leaves it out.
    """
    minute = now.weekday() * _MINUTES_A_DAY + now.hour * 60 + now.minute
    window = next((w for w in limits.windows if _holds(w, minute)), None)
    download, upload = limits.download_bytes_per_second, limits.upload_bytes_per_second
    if window is not None and window.download_bytes_per_second is not None:
        download = window.download_bytes_per_second
    if window is not None and window.upload_bytes_per_second is not None:
        upload = window.upload_bytes_per_second
    return Caps(download or None, upload or None)


def _holds(window: Window, minute: int) -> bool:
    # What began on Sunday evening runs past the end of the week.
    return any(start <= at < end for start, end in window.spans for at in (minute, minute + _MINUTES_A_WEEK))
