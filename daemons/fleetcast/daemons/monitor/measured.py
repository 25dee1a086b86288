"""What was measured of a version over the last minutes, as people are shown it: the seed's means, from counts."""

from fleetcast.daemons.monitor.watch import VersionWatch
from fleetcast.events.performance import LatencyHistogram


def metrics(watch: VersionWatch, minutes: int) -> dict[str, float | int | None]:
    """The numbers of seed 003's health summary over the last minutes, from counts."""
    newest = int(watch.last_at // 60)
    counted = [each for node in watch.nodes.values() for each in node.minutes if each.minute > newest - minutes]
    errors, error_requests = sum(m.errors for m in counted), sum(m.error_requests for m in counted)
    ood, ood_requests = sum(m.ood for m in counted), sum(m.ood_requests for m in counted)
    return {
        "avg_error_rate": round(errors / error_requests, 6) if error_requests else None,
        "avg_latency_p95_ms": p95_ms(watch, minutes),
        "avg_ood_rate": round(ood / ood_requests, 6) if ood_requests else None,
        "snapshot_count": sum(m.snapshots for m in counted),
        "num_requests": round(sum(m.requests for m in counted)),
    }


def p95_ms(watch: VersionWatch, minutes: int | None = None) -> float | None:
    """The 95th percentile of all nodes together, in ms; without histograms the median of the reported ones."""
    oldest = int(watch.last_at // 60) - (minutes or watch.policy.window_minutes)
    latency, reported = LatencyHistogram(), LatencyHistogram()
    for node in watch.nodes.values():
        for each in node.minutes:
            if each.minute > oldest:
                latency.add(each.latency)
                if each.reported is not None:
                    reported.add(each.reported)
    found = latency.percentile(0.95) if latency else reported.percentile(0.5) if reported else None
    return None if found is None else round(found, 3)


def reported_drift(watch: VersionWatch) -> float | None:
    """The mean of the drift scores that nodes reported, by requests."""
    pairs = [each.drift_total for node in watch.nodes.values() for each in node.minutes]
    score, requests = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    return score / requests if requests else None
