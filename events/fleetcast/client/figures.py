"""Metrics of a job as figures that an event can carry."""

import math
from collections.abc import Mapping

from fleetcast.client.notices import warn

MOST = 200
"""Metrics in one event."""
NAME_CHARACTERS = 128


class Figures:
    """Metrics by name, told apart by whether they are numbers that one can compute with.

    Attributes:
        finite: those that are.
        nonfinite: the others, as `nan`, `inf` or `-inf`: a diverged run is seen, and no gate compares with it.
    """

    __slots__ = ("finite", "nonfinite")

    def __init__(self) -> None:
        self.finite: dict[str, float] = {}
        self.nonfinite: dict[str, str] = {}

    def fields(self) -> dict[str, object]:
        """The two as fields of an event; what is empty is left out."""
        found: dict[str, object] = {}
        if self.finite:
            found["metrics"] = self.finite
        if self.nonfinite:
            found["nonfinite"] = self.nonfinite
        return found


def figures(metrics: Mapping[str, object]) -> Figures:
    """*metrics* with numbers of torch and numpy as Python's, and maps within as `outer/inner`. What is no number is
    left out with a warning, and so is what is more than an event may carry."""
    found = Figures()
    refused: list[str] = []
    for name, value in _flat(metrics, "", 4):
        number = _number(value)
        if number is None or len(found.finite) + len(found.nonfinite) == MOST:
            refused.append(name)
        elif math.isfinite(number):
            found.finite[name] = number
        else:
            found.nonfinite[name] = "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"
    if refused:
        warn(f"metrics that are no numbers, or more than {MOST}, are left out: {', '.join(refused[:8])}")
    return found


def _flat(metrics: Mapping[str, object], prefix: str, depth: int) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for key, value in metrics.items():
        name = _name(f"{prefix}{key}")
        if isinstance(value, Mapping) and depth:
            rows += _flat(value, f"{name}/", depth - 1)
        elif value is not None:
            rows.append((name, value))
    return rows


def _name(text: str) -> str:
    kept = "".join(c if c >= " " and c != "\x7f" else "_" for c in text[:NAME_CHARACTERS])
    return kept.encode("utf-8", "replace").decode() or "_"


def _number(value: object) -> float | None:
    """*value* as a number; None: it is none. Asking a tensor on a GPU waits for the GPU."""
    if isinstance(value, bool | str | bytes):
        return None
    try:
        item = getattr(value, "item", None)
        found = item() if callable(item) else value
        return None if isinstance(found, bool) else float(found)  # type: ignore[arg-type]
    except Exception:  # a tensor of many numbers, a metric of another library: whatever it is, no number
        return None
