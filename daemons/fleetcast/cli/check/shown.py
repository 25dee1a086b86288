"""An answer in the form that a monitoring system reads."""

from collections.abc import Sequence
from typing import Final

from fleetcast.cli.check.rules import Check, Measure, State, worst

SENTENCES: Final = 5
"""Of each check, so many are said in the one line; the rest is counted."""


def nagios(checks: Sequence[Check]) -> str:
    """One line with performance data (monitoring-plugins guidelines, section 2)."""
    state = worst(each.state for each in checks)
    wrong = sorted((each for each in checks if each.state), key=lambda each: each.state is not state)
    told = "; ".join(_plain(_said(each)) for each in wrong) or "all well"
    measured = " ".join(f"{m.name}={_number(m.value)}{m.unit}" for each in checks for m in each.measures)
    return f"FLEETCAST {state.name} - {told}" + (f" | {measured}" if measured else "")


def _said(check: Check) -> str:
    rest = len(check.said) - SENTENCES
    return "; ".join((*check.said[:SENTENCES], *([f"and {rest} more"] if rest > 0 else [])))


def _plain(text: str) -> str:
    # A bar begins performance data, and a line break ends what is shown.
    return " ".join(text.replace("|", "/").split())


def _number(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e6 and value != int(value) else str(int(value))


def prometheus(checks: Sequence[Check]) -> str:
    """Text for the textfile collector of node_exporter: where no daemon can be scraped."""
    lines = [
        "# HELP fleetcast_check_state 0 ok, 1 warning, 2 critical, 3 unknown.",
        "# TYPE fleetcast_check_state gauge",
        *(f'fleetcast_check_state{{check="{each.name}"}} {int(each.state)}' for each in checks),
        "# HELP fleetcast_check_measure What was measured: seconds, bytes, or a number of things.",
        "# TYPE fleetcast_check_measure gauge",
    ]
    lines += [
        f'fleetcast_check_measure{{check="{each.name}",measure="{_measure(m)}"}} {m.value:.17g}'
        for each in checks
        for m in each.measures
    ]
    return "\n".join(lines)


def _measure(measure: Measure) -> str:
    return measure.name + {"s": "_seconds", "B": "_bytes"}.get(measure.unit, "")


def document(checks: Sequence[Check]) -> dict[str, object]:
    """As JSON."""
    state = worst(each.state for each in checks)
    return {
        "ok": state is State.OK,
        "state": state.name.lower(),
        "checks": [
            {
                "check": each.name,
                "state": each.state.name.lower(),
                "said": list(each.said),
                "measures": {_measure(m): m.value for m in each.measures},
            }
            for each in checks
        ],
    }


def rows(checks: Sequence[Check]) -> list[tuple[str, str, str]]:
    """For a table: check, state, what was found."""
    return [(each.name, each.state.name.lower(), "; ".join(each.said)) for each in checks]
