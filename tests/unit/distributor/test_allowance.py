"""The allowance over parts that are values: who is told what, and when."""

from dataclasses import dataclass, field
from datetime import datetime

import pytest

from fleetcast.config.limits import LimitsSettings, Window
from fleetcast.daemons.distributor.allowance import Allowance
from fleetcast.transport import shares
from fleetcast.transport.capped import Moved

TICK = 0.125
CAP = 25_600_000


@dataclass
class Part:
    """Moves what it can, up to its share."""

    speed: float = 0.0
    share: tuple[int | None, int | None] = (None, None)
    shares: list[tuple[int | None, int | None]] = field(default_factory=list)
    received: float = 0.0
    told: int = 0

    def moved(self) -> Moved:
        return Moved(received=int(self.received))

    def limit(self, download: int | None, upload: int | None) -> None:
        self.share, self.told = (download, upload), self.told + 1
        self.shares.append(self.share)

    def run(self) -> float:
        """What moves in one tick."""
        rate = self.speed if self.share[0] is None else min(self.speed, self.share[0])
        self.received += rate * TICK
        return rate


def ran(allowance: Allowance, *parts: Part, ticks: int = 40) -> float:
    """Let time pass; returns the rate of all parts together at the end."""
    total = 0.0
    for _ in range(ticks):
        total = sum(part.run() for part in parts)
        allowance.look(TICK)
    return total


def test_one_part_alone_has_the_cap_but_for_the_floor_of_the_other() -> None:
    busy, idle = Part(speed=1e9), Part()
    allowance = Allowance(LimitsSettings(download_bytes_per_second=CAP), {"a": busy, "b": idle})
    allowance.look(0.0)
    assert 0.98 * CAP < ran(allowance, busy, idle) <= 1.05 * CAP


def test_part_that_begins_later_has_its_equal_part_within_a_second() -> None:
    first, second = Part(speed=1e9), Part()
    allowance = Allowance(LimitsSettings(download_bytes_per_second=CAP), {"a": first, "b": second})
    ran(allowance, first, second)
    second.speed = 1e9
    assert ran(allowance, first, second, ticks=8) <= 1.05 * CAP
    assert second.share[0] is not None
    assert second.share[0] >= 0.49 * CAP


def test_share_of_a_transport_is_that_of_all_its_ways() -> None:
    parts = {name: Part() for name in ("bittorrent", "bittorrent/borrowing", "aria2", "http")}
    allowance = Allowance(LimitsSettings(download_bytes_per_second=CAP), parts)
    assert allowance.share("bittorrent") is None
    allowance.look(0.0)
    assert allowance.share("bittorrent") == CAP // 2
    assert allowance.share("aria2") == CAP // 4


def averaged(*passes: float) -> float:
    """Rate over the cap in 20 s of a part that lets each of *passes* of what it is told pass, in turn."""
    part, idle = Part(), Part()
    allowance = Allowance(LimitsSettings(download_bytes_per_second=CAP), {"a": part, "b": idle})
    allowance.look(0.0)
    for tick in range(160):
        part.received += (part.share[0] or 0) * passes[tick % len(passes)] * TICK
        allowance.look(TICK)
    return part.received / (160 * TICK) / CAP


def test_limiter_that_lets_less_pass_than_it_is_told_is_told_more() -> None:
    assert 0.98 < averaged(0.96) < 1.01


def test_limiter_that_lets_more_pass_is_told_less() -> None:
    assert 0.99 < averaged(1.1) < 1.03


def test_broken_variant_that_makes_good_for_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "TRIM_UP", 0.0)
    monkeypatch.setattr(shares, "TRIM_DOWN", 0.0)
    assert averaged(0.96) < 0.98
    assert averaged(1.1) > 1.05


def test_window_begins_and_ends_without_a_restart() -> None:
    night = Window.model_validate({"from": "22:00", "to": "06:00", "download_bytes_per_second": 0})
    limits = LimitsSettings(download_bytes_per_second=CAP, windows=(night,))
    clock = [datetime(2026, 11, 16, 21, 59, 59)]  # noqa: DTZ001 - the clock on the wall
    part = Part()
    allowance = Allowance(limits, {"a": part}, now=lambda: clock[0])
    allowance.look(0.0)
    clock[0] = datetime(2026, 11, 16, 22, 0)  # noqa: DTZ001
    allowance.look(TICK)
    clock[0] = datetime(2026, 11, 17, 6, 0)  # noqa: DTZ001
    allowance.look(TICK)
    assert part.shares == [(CAP, None), (None, None), (CAP, None)]


def test_node_can_have_a_cap_by_its_settings_or_by_a_window() -> None:
    night = Window.model_validate({"from": "22:00", "to": "06:00", "upload_bytes_per_second": CAP})
    assert LimitsSettings(download_bytes_per_second=CAP).can_cap
    assert LimitsSettings(upload_bytes_per_second=CAP).can_cap
    assert LimitsSettings(windows=(night,)).can_cap
    assert not LimitsSettings().can_cap


def test_without_caps_nobody_is_told_anything() -> None:
    part = Part(speed=1e6)
    allowance = Allowance(LimitsSettings(), {"a": part})
    ran(allowance, part)
    assert part.told == 0


def test_steady_transfer_is_not_told_again_and_again() -> None:
    part, idle = Part(speed=1e9), Part()
    allowance = Allowance(LimitsSettings(download_bytes_per_second=CAP), {"a": part, "b": idle})
    ran(allowance, part, idle)
    before = part.told
    ran(allowance, part, idle)
    assert part.told == before
