"""What one daemon shows in answer to one question: values of declared metrics, and nothing else."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fleetcast.daemons.metrics.catalogue import BY_NAME, Metric
from fleetcast.daemons.metrics.tally import Distribution

Labels = tuple[str, ...]
"""Values of a metric's labels, in its order."""


@dataclass(slots=True)
class Sheet:
    """Values by metric and labels.

    Attributes:
        node, daemon: who shows it; stand for labels of these names that nothing else is given for.
    """

    node: str
    daemon: str
    values: dict[str, dict[Labels, float]] = field(default_factory=dict)
    distributions: dict[str, dict[Labels, Distribution]] = field(default_factory=dict)

    def put(self, name: str, value: float | None, **labels: str) -> None:
        """State a value; None: nobody knows it, and nothing is shown.

        Raises:
            KeyError: this daemon has no such metric, or it has other labels.
        """
        key = self._key(name, labels)
        if value is not None:
            self.values.setdefault(name, {})[key] = float(value)

    def add(self, name: str, value: float, **labels: str) -> None:
        """As `put`; values of the same labels are added up."""
        key = self._key(name, labels)
        known = self.values.setdefault(name, {})
        known[key] = known.get(key, 0.0) + value

    def start(self, name: str, label: str, of: Iterable[str]) -> None:
        """State 0 for every value that *label* can have: what counts nothing is shown all the same."""
        for each in of:
            self.add(name, 0.0, **{label: each})

    def spread(self, name: str, distribution: Distribution, **labels: str) -> None:
        """State a distribution. Errors as `put`."""
        self.distributions.setdefault(name, {})[self._key(name, labels)] = distribution

    def _key(self, name: str, labels: dict[str, str]) -> Labels:
        metric = self._metric(name)
        given = {"node": self.node, "daemon": self.daemon, **labels}
        if not labels.keys() <= set(metric.labels):
            raise KeyError(f"{name} has the labels {', '.join(metric.labels)}")
        return tuple(given[label] for label in metric.labels)

    def _metric(self, name: str) -> Metric:
        metric = BY_NAME[name]
        if self.daemon not in metric.shown_by:
            raise KeyError(f"{self.daemon} does not show {name}")
        return metric
