"""How a version performs, as values: what serving code reports (`Snapshot`), what is kept of it (`Minute`).

Counts, histograms and binned inputs, which can be added up over nodes and minutes; percentages and percentiles cannot,
and are taken with the weight that they can honestly have. What is to be thought of them is the monitor's affair.
"""

from fleetcast.events.performance.drift import DriftInput
from fleetcast.events.performance.histogram import LatencyHistogram
from fleetcast.events.performance.minute import Minute, OpenMinute, minute_subject, read_minute
from fleetcast.events.performance.parsing import parse_snapshot
from fleetcast.events.performance.snapshot import Snapshot, SnapshotInvalid, Weight

__all__ = [
    "DriftInput",
    "LatencyHistogram",
    "Minute",
    "OpenMinute",
    "Snapshot",
    "SnapshotInvalid",
    "Weight",
    "minute_subject",
    "parse_snapshot",
    "read_minute",
]
