"""A sheet as text that Prometheus reads. The only module that imports the library, and it is imported when somebody
asks for the first time: a daemon that nobody scrapes does not pay for it.
"""

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import (
    Metric as Family,
)

from fleetcast.daemons.metrics.catalogue import Kind, Metric, shown_by
from fleetcast.daemons.metrics.sheet import Sheet

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that every Prometheus reads; with names like ours the newer ones write the same."""


class Exposition:
    """Writes the sheets of one daemon, over a registry of its own."""

    def __init__(self, daemon: str) -> None:
        self._metrics = shown_by(daemon)
        self._sheet = Sheet("", daemon)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def write(self, sheet: Sheet) -> bytes:
        """The text. Slow enough to be kept from the loop; one call at a time."""
        self._sheet = sheet
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Family]:
        """The families, without values (protocol of the library's registry)."""
        return [_family(metric) for metric in self._metrics]

    def collect(self) -> Iterable[Family]:
        """The families of the sheet (protocol of the library's registry). One without values is shown all the same: it
        is known then that there is nothing, and not that nobody looked."""
        for metric in self._metrics:
            yield _filled(metric, self._sheet)


def _family(metric: Metric) -> GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily:
    match metric.kind:
        case Kind.GAUGE:
            return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        case Kind.COUNTER:
            return CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        case Kind.HISTOGRAM:
            return HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)


def _filled(metric: Metric, sheet: Sheet) -> Family:
    family = _family(metric)
    if isinstance(family, HistogramMetricFamily):
        for labels, spread in sheet.distributions.get(metric.name, {}).items():
            buckets = [("+Inf" if bound == float("inf") else repr(bound), n) for bound, n in spread.cumulative()]
            family.add_metric(labels, buckets, spread.total)
        return family
    for labels, value in sheet.values.get(metric.name, {}).items():
        family.add_metric(labels, value)
    return family
