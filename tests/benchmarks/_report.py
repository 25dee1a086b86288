"""What every benchmark prints: one document with its conditions, its figures and what was asked of them."""

import argparse
import json
import logging
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

import structlog


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    Attributes:
        required: the bound that a run must keep, None when it is only reported.
        goal: the bound that is aimed for.
        at_least: whether larger is better.
    """

    value: float
    unit: str
    required: float | None = None
    goal: float | None = None
    at_least: bool = False

    @property
    def ok(self) -> bool:
        if self.required is None:
            return True
        return self.value >= self.required if self.at_least else self.value <= self.required

    def document(self) -> dict[str, object]:
        return {
            "value": round(self.value, 4),
            "unit": self.unit,
            "required": self.required,
            "goal": self.goal,
            "ok": self.ok,
        }


@dataclass
class Report:
    """Figures of one benchmark, with the conditions under which they were measured."""

    bench: str
    conditions: dict[str, object] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    peers: dict[str, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.conditions = {"command": command(self.bench), **machine(), **self.conditions}

    def finish(self, *, as_json: bool) -> int:
        """Print the report; 1 when a required figure was missed."""
        if as_json:
            json.dump(self.document(), sys.stdout, indent=1)
            sys.stdout.write("\n")
        else:
            self._print()
        return 0 if all(f.ok for f in self.figures.values()) else 1

    def document(self) -> dict[str, object]:
        return {
            "bench": self.bench,
            "conditions": self.conditions,
            "figures": {k: f.document() for k, f in self.figures.items()},
            "peers": self.peers,
        }

    def _print(self) -> None:
        for key, value in self.conditions.items():
            sys.stdout.write(f"  {key}: {value}\n")
        for key, figure in self.figures.items():
            bound = (
                ""
                if figure.required is None
                else f"  (required {'>=' if figure.at_least else '<='} {figure.required:g})"
            )
            verdict = "ok    " if figure.ok else "MISSED"
            sys.stdout.write(f"{verdict} {key} = {figure.value:.4g} {figure.unit}{bound}\n")
        for name, values in self.peers.items():
            sys.stdout.write(f"  beside it, {name}: {', '.join(f'{k} = {v:.4g}' for k, v in values.items())}\n")


def command(bench: str) -> str:
    """What a person types to have this measured again."""
    return " ".join(["./fleetcast bench", bench, *(word for word in sys.argv[1:] if word != "--json")])


def machine() -> dict[str, object]:
    """What a figure depends on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load_1m": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "fleetcast": version("fleetcast"),
        "libtorrent": version("libtorrent"),
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least *share* of *values* do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * share // 1))
    return ordered[int(rank) - 1]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def quiet_logs(level: int = logging.WARNING) -> None:
    """Keep log lines of the libraries that a benchmark uses itself off stdout, which is for the document.

    Args:
        level: lines of this level and above are shown, on stderr.
    """
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def arguments(
    description: str, options: Mapping[str, tuple[int, str]] | None = None, *, full: str = ""
) -> argparse.Namespace:
    """Parse `--json` and integer *options* (name -> default, help); with *full*, what it says of `--full` too."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    for name, (default, text) in (options or {}).items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default {default})")
    if full:
        parser.add_argument("--full", action="store_true", help=full)
    quiet_logs()
    return parser.parse_args()
