"""Hours of the week, as settings and gates name them: `days = ["fri"], from = "22:00", to = "06:00"`."""

import re
from datetime import UTC, datetime, tzinfo
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from fleetcast.config.group import Group

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEK: tuple[Day, ...] = get_args(Day)
MINUTES_A_DAY = 24 * 60
MINUTES_A_WEEK = 7 * MINUTES_A_DAY


def minutes(clock: str) -> int:
    """Minutes since midnight of a time of day, `HH:MM`."""
    hours, _, rest = clock.partition(":")
    return 60 * int(hours) + int(rest)


class Hours(Group):
    """Hours of the week, by the clock on the wall. `to` at or before `from` is meant for the next day."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    days: tuple[Day, ...] = Field(
        default=WEEK, min_length=1, description="Days on which the window begins, in local time. All of them."
    )
    begins: str = Field(alias="from", description="Time of day at which it begins, HH:MM.")
    ends: str = Field(
        alias="to", description="Time of day at which it ends, HH:MM; at or before the begin, on the next day."
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

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Minutes of the week, from Monday 00:00, in which it holds: begin and end of each. May run past Sunday."""
        length = (minutes(self.ends) - minutes(self.begins)) % MINUTES_A_DAY or MINUTES_A_DAY
        starts = (WEEK.index(day) * MINUTES_A_DAY + minutes(self.begins) for day in self.days)
        return tuple((start, start + length) for start in starts)

    def hold_at(self, now: datetime) -> bool:
        """Whether they hold at a moment, by what the clock shows: pass it in the time zone that they are meant in."""
        minute = now.weekday() * MINUTES_A_DAY + now.hour * 60 + now.minute
        # What began on Sunday evening runs past the end of the week.
        return any(start <= at < end for start, end in self.spans for at in (minute, minute + MINUTES_A_WEEK))


class ZonedHours(Hours):
    """Hours of the week by the clock of a time zone, which is the same on all machines."""

    zone: str = Field(
        default="UTC",
        description='Time zone of from and to, as the zone database names it ("Europe/Berlin"), or "UTC".',
    )

    @field_validator("zone")
    @classmethod
    def _is_known(cls, zone: str) -> str:
        zone_of(zone)
        return zone

    def hold_in_zone(self, now: datetime) -> bool:
        """Whether it holds at a moment, by the clock of its zone."""
        return self.hold_at(now.astimezone(zone_of(self.zone)))


def zone_of(name: str) -> tzinfo:
    """A time zone by its name.

    Raises:
        ValueError: this machine's zone database does not know it.
    """
    if name == "UTC":
        # Known also where no zone database is installed.
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f'{name!r} is no time zone that this machine knows; write "UTC" or "Europe/Berlin"') from error
