"""The settings of [limits], and which of them hold at a given time. A description says meaning, unit and why."""

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from pydantic import Field, field_validator, model_validator

from fleetcast.config.group import Group
from fleetcast.config.hours import MINUTES_A_WEEK, Hours

LEAST_CAP = 64 * 1024
"""Bytes per second: four blocks of BitTorrent; under a lower cap each of them would look like a stall."""


def can_be_held(cap: int) -> int:
    """Return a cap that bytes can move under.

    Raises:
        ValueError: it is so low that every transfer would count as stalled.
    """
    if 0 < cap < LEAST_CAP:
        raise ValueError(f"is {cap}; the least cap that can be held is {LEAST_CAP}, and 0 means none")
    return cap


class Window(Hours):
    """Hours of the week with caps of their own, in local time."""

    download_bytes_per_second: int | None = Field(
        default=None, ge=0, examples=[0], description="Cap for receiving meanwhile. 0: none. None: as outside."
    )
    upload_bytes_per_second: int | None = Field(
        default=None, ge=0, examples=[0], description="Cap for sending meanwhile. 0: none. None: as outside."
    )

    @field_validator("download_bytes_per_second", "upload_bytes_per_second")
    @classmethod
    def _lets_a_block_pass(cls, cap: int | None) -> int | None:
        return cap if cap is None else can_be_held(cap)

    @model_validator(mode="after")
    def _says_something(self) -> "Window":
        if self.download_bytes_per_second is None and self.upload_bytes_per_second is None:
            raise ValueError("a window without a cap changes nothing: set download_ or upload_bytes_per_second in it")
        return self


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

    @property
    def can_cap(self) -> bool:
        """Whether there is a cap at any time."""
        return bool(self.download_bytes_per_second or self.upload_bytes_per_second or self.windows)

    @field_validator("download_bytes_per_second", "upload_bytes_per_second")
    @classmethod
    def _lets_a_block_pass(cls, cap: int) -> int:
        return can_be_held(cap)

    @field_validator("windows")
    @classmethod
    def _do_not_overlap(cls, windows: tuple[Window, ...]) -> tuple[Window, ...]:
        spans = [(*span, number) for number, window in enumerate(windows, 1) for span in window.spans]
        # What begins on Sunday may end on Monday: the week is laid down twice.
        again = [(start + MINUTES_A_WEEK, end + MINUTES_A_WEEK, number) for start, end, number in spans]
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
    window = next((window for window in limits.windows if window.hold_at(now)), None)
    download, upload = limits.download_bytes_per_second, limits.upload_bytes_per_second
    if window is not None and window.download_bytes_per_second is not None:
        download = window.download_bytes_per_second
    if window is not None and window.upload_bytes_per_second is not None:
        upload = window.upload_bytes_per_second
    return Caps(download or None, upload or None)
