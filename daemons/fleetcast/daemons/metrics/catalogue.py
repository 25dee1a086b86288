"""Every metric of fleetcast, as data: name, kind, labels, meaning, and the daemons that show it.

Names follow https://prometheus.io/docs/practices/naming/: one prefix, base units, `_total` for what only grows. Labels
have few values: nodes, models, transports, words of ours. Never a version beside a measurement, an id, a path or a
digest. `node` is the node that a value is about, which for what a daemon says of itself is its own.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

DISTRIBUTOR, REGISTRY, MONITOR = "distributor", "registry", "monitor"
REMEDY, NOTIFIER, TRAINER, GATEWAY = "remedy", "notifier", "trainer", "gateway"
DAEMONS: Final = (DISTRIBUTOR, REGISTRY, MONITOR, REMEDY, NOTIFIER, TRAINER, GATEWAY)
"""In the order of their ports."""

UNITS: Final = ("seconds", "bytes", "ratio", "percent", "messages", "celsius", "samples")
"""Words that a name ends with, before `_total`, where its values have a unit; others count things, or are 0 or 1."""


class Kind(StrEnum):
    """What Prometheus knows of a metric's nature."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        labels: names of its labels, in the order in which documents show them.
        shown_by: daemons that show it.
        seed: the metric of the asking documents that it stands for (docs/metrics.md).
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    shown_by: tuple[str, ...]
    seed: str = ""

    @property
    def family(self) -> str:
        """The name as HELP and TYPE lines of the library have it: without `_total`, which it adds itself."""
        return self.name.removesuffix("_total") if self.kind is Kind.COUNTER else self.name

    @property
    def unit(self) -> str:
        """What its values are in; empty: a number of things, or 0 and 1."""
        last = self.name.removesuffix("_total").rpartition("_")[2]
        return last if last in UNITS else ""

    @property
    def series(self) -> tuple[str, ...]:
        """The names that an expression may use."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)


def _of(*daemons: str) -> "_Shelf":
    return _Shelf(daemons)


@dataclass(frozen=True, slots=True)
class _Shelf:
    """Makes metrics of the same daemons: `name: labels` and their meaning."""

    daemons: tuple[str, ...]

    def gauge(self, name: str, help_: str, *labels: str, seed: str = "") -> Metric:
        return Metric(name, Kind.GAUGE, labels, help_, self.daemons, seed)

    def counter(self, name: str, help_: str, *labels: str) -> Metric:
        return Metric(name, Kind.COUNTER, labels, help_, self.daemons)

    def histogram(self, name: str, help_: str, *labels: str) -> Metric:
        return Metric(name, Kind.HISTOGRAM, labels, help_, self.daemons)


_every = _of(*DAEMONS)
_OWN = ("node", "daemon")

EVERY: Final = (
    _every.gauge("fleetcast_build_info", "Always 1; its labels say what runs.", *_OWN, "version", "python"),
    _every.gauge("fleetcast_daemon_ready", "1 once the daemon does all that it promises, else 0.", *_OWN),
    _every.gauge("fleetcast_bus_ready", "1 while round trips to NATS come back, else 0.", *_OWN),
    _every.counter("fleetcast_bus_interruptions_total", "How often the bus stopped being ready.", *_OWN),
    _every.counter(
        "fleetcast_events_total",
        "Messages that handlers were given, by what became of them: done, again (to be delivered again), dead.",
        *_OWN,
        "type",
        "outcome",
    ),
    _every.histogram("fleetcast_handler_duration_seconds", "How long a handler had a message in hand.", *_OWN),
    _every.histogram("fleetcast_event_lag_seconds", "Age of a message when its handler got it.", *_OWN),
    _every.gauge(
        "fleetcast_certificate_expiry_timestamp_seconds",
        "When a certificate ends, since 1970: own (shown to NATS), authority (bus.ca), https (of the gateway), servers "
        "(the first of those that NATS servers show). 0: its file cannot be read.",
        *_OWN,
        "certificate",
    ),
    _every.gauge("process_virtual_memory_bytes", "Virtual memory of the process."),
    _every.gauge("process_resident_memory_bytes", "Resident memory of the process, without its children."),
    _every.gauge("process_start_time_seconds", "When the process began, in seconds since 1970."),
    _every.counter("process_cpu_seconds_total", "Processor time of the process, without its children."),
    _every.gauge("process_open_fds", "Open file descriptors."),
    _every.gauge("process_max_fds", "File descriptors that the process may have."),
)

_node = _of(DISTRIBUTOR)

ON_NODES: Final = (
    _node.gauge("fleetcast_transfers_active", "Transfers under way.", "node"),
    _node.gauge("fleetcast_transfers_waiting", "Transfers whose turn has not come.", "node"),
    _node.gauge(
        "fleetcast_transfer_idle_seconds",
        "Of the transfers under way, the longest that one got no byte and proved none; 0: none waits.",
        "node",
    ),
    _node.gauge("fleetcast_transfers_slow", "Transfers under way that say why they are slow.", "node"),
    _node.gauge("fleetcast_transfer_rate_bytes", "Bytes per second that all transfers get together.", "node"),
    _node.counter("fleetcast_transfers_total", "Transfers that ended.", "node", "transport", "outcome"),
    _node.histogram("fleetcast_transfer_duration_seconds", "How long transfers took that were installed.", "node"),
    _node.counter(
        "fleetcast_rungs_total",
        "Rungs of ladders that were climbed, by how they ended: done, failed or stalled.",
        "node",
        "transport",
        "outcome",
    ),
    _node.counter(
        "fleetcast_transfer_bytes_total",
        "Bytes received from other nodes and origins.",
        "node",
        "transport",
    ),
    _node.counter(
        "fleetcast_verify_failures_total",
        "Bytes that were refused: integrity (on the node's disk), peer (what another node sent), refused (what an "
        "origin offers can never be right).",
        "node",
        "reason",
    ),
    _node.gauge("fleetcast_transport_available", "1 where a rung of the ladder works there.", "node", "transport"),
    _node.gauge("fleetcast_disk_free_bytes", "Free where the store is.", "node"),
    _node.gauge("fleetcast_disk_reserve_bytes", "What transfers leave free there (store.reserve_bytes).", "node"),
    _node.gauge("fleetcast_disk_stall_ratio", "Share of time in which the machine waited for its disk.", "node"),
    _node.gauge("fleetcast_spool_entries", "Records of the spools that wait for NATS.", "node"),
    _node.counter("fleetcast_spool_lost_total", "Records of spools that were damaged, or dropped for room.", "node"),
    _node.gauge("fleetcast_installed_versions", "Versions on the node.", "node"),
    _node.gauge("fleetcast_installed_bytes", "What they are large, each counted whole.", "node"),
    _node.gauge(
        "fleetcast_serving_info",
        "Always 1; which version `current` of a model holds on the node, and the slot that it follows.",
        "node",
        "model",
        "version",
        "slot",
    ),
    _node.gauge("fleetcast_serving_generation", "Generation of the order that it follows.", "node", "model"),
    _node.gauge("fleetcast_hooks_failed", "Models whose activation hook failed.", "node"),
    _node.gauge("fleetcast_node_drained", "1 while the node is out of service.", "node"),
)

_registry = _of(REGISTRY)

FLEET: Final = (
    _registry.gauge("fleetcast_node_up", "1 while a node is heard from, 0 once it is silent or stopped.", "node"),
    _registry.gauge("fleetcast_node_stopped", "1 where a node's last word was that it stops in order.", "node"),
    _registry.gauge("fleetcast_node_heartbeat_age_seconds", "Age of a node's newest heartbeat.", "node"),
    _registry.gauge("fleetcast_nodes", "Nodes heard from within a day: ready, degraded, silent, drained.", "state"),
    _registry.gauge(
        "fleetcast_model_info",
        "Always 1; the version in a slot: production, canary or previous.",
        "model",
        "version",
        "slot",
    ),
    _registry.gauge("fleetcast_slot_generation", "Generation of the newest slot order.", "model"),
    _registry.gauge("fleetcast_slot_changed_timestamp_seconds", "When that was written, since 1970.", "model"),
    _registry.gauge("fleetcast_slot_wanted", "Nodes that want the model: the M of N of M.", "model"),
    _registry.gauge("fleetcast_slot_serving", "Nodes that serve production as ordered: the N.", "model"),
    _registry.gauge(
        "fleetcast_slot_behind", "Nodes that do not serve what is ordered for them, by why.", "model", "reason"
    ),
    _registry.gauge("fleetcast_slot_strangers", "Nodes that serve what no slot names.", "model"),
    _registry.gauge("fleetcast_canary_wanted", "Nodes that are to serve the canary.", "model"),
    _registry.gauge("fleetcast_canary_serving", "Nodes that do.", "model"),
    _registry.gauge("fleetcast_rollouts", "Rollouts that have not ended, by phase.", "phase"),
    _registry.counter("fleetcast_decisions_total", "Transitions that were asked for.", "action", "outcome"),
    _registry.counter("fleetcast_gate_decisions_total", "What gates said.", "gate", "decision"),
    _registry.counter(
        "fleetcast_rollbacks_total", "Rollbacks that were begun: by a person, or by a daemon (automatic).", "trigger"
    ),
    _registry.gauge("fleetcast_read_model_sequence", "Sequence of FC_REGISTRY that lists are true as of.", "node"),
    _registry.gauge("fleetcast_read_model_behind_messages", "Changes that lists do not show yet.", "node"),
    _registry.gauge("fleetcast_audit_records", "Records of the audit stream that were checked."),
    _registry.gauge("fleetcast_audit_broken", "Records of it that do not follow from the one before."),
    _registry.gauge("fleetcast_audit_checked_timestamp_seconds", "When all of it was checked last, since 1970."),
    _registry.gauge(
        "fleetcast_backup_taken_timestamp_seconds",
        "As of when the newest backup is, since 1970; 0: none was taken in 90 days.",
    ),
    _registry.gauge("fleetcast_backup_bytes", "Size of the newest backup."),
    _registry.gauge(
        "fleetcast_backup_recovery_point_seconds", "How old it may become (backup.recovery_point_seconds)."
    ),
    _registry.gauge("fleetcast_dlq_messages", "Dead letters, and messages that ran out of deliveries."),
    _registry.gauge("fleetcast_stream_messages", "Messages in a stream.", "stream"),
    _registry.gauge("fleetcast_stream_bytes", "Size of a stream.", "stream"),
    _registry.gauge("fleetcast_stream_limit_bytes", "How large it may become; missing: no limit.", "stream"),
    _registry.gauge("fleetcast_stream_led", "1 while a server leads the stream.", "stream"),
    _registry.gauge("fleetcast_stream_replicas", "Copies that are there and current.", "stream"),
    _registry.gauge("fleetcast_stream_replicas_wanted", "Copies that there are to be.", "stream"),
    _registry.gauge("fleetcast_stream_replica_lag_messages", "How far the slowest copy is behind.", "stream"),
    _registry.gauge(
        "fleetcast_stream_source_lag_messages", "Messages of other streams that it has not copied.", "stream"
    ),
    _registry.gauge(
        "fleetcast_consumer_pending_messages",
        "Messages that wait for a group of handlers; over those of all nodes where each has its own.",
        "stream",
        "consumer",
    ),
    _registry.gauge("fleetcast_jetstream_storage_bytes", "What JetStream stores for fleetcast."),
    _registry.gauge("fleetcast_jetstream_storage_limit_bytes", "What it may store; missing: no limit."),
)

_monitor = _of(MONITOR)

PERFORMANCE: Final = (
    _monitor.gauge(
        "fleetcast_models_production", "Models with a production version.", seed="grace.models.production.count"
    ),
    _monitor.gauge(
        "fleetcast_models_healthy", "Those of them that are healthy.", seed="grace.models.production.healthy"
    ),
    _monitor.gauge(
        "fleetcast_models_degraded",
        "Those with a breach that no older version would cure.",
        seed="grace.models.production.degraded",
    ),
    _monitor.gauge(
        "fleetcast_models_failing",
        "Those with a breach that an older version may cure.",
        seed="grace.models.production.failing",
    ),
    _monitor.gauge("fleetcast_models_unknown", "Those of which too little is known."),
    _monitor.gauge(
        "fleetcast_model_error_ratio",
        "Share of requests that failed, over the policy's window.",
        "model",
        "slot",
        seed="grace.models.{model_id}.error_rate",
    ),
    _monitor.gauge(
        "fleetcast_model_latency_p95_seconds",
        "95th percentile of latency over the window.",
        "model",
        "slot",
        seed="grace.models.{model_id}.latency_p95",
    ),
    _monitor.gauge(
        "fleetcast_model_ood_ratio",
        "Share of requests whose input was out of distribution.",
        "model",
        "slot",
        seed="grace.models.{model_id}.ood_rate",
    ),
    _monitor.gauge(
        "fleetcast_model_drift_score",
        "How far inputs have moved from those of training: KL of binned inputs, else the mean of what nodes report.",
        "model",
        "slot",
        seed="grace.models.{model_id}.drift_score",
    ),
    _monitor.gauge("fleetcast_model_window_requests", "Requests within the window.", "model", "slot"),
    _monitor.gauge("fleetcast_model_snapshot_age_seconds", "Since the newest snapshot.", "model", "slot"),
    _monitor.gauge("fleetcast_breaches", "Triggers that say breach, by signal.", "signal"),
    _monitor.gauge("fleetcast_monitor_shards", "Of 16, the shards of models that are judged here.", "node"),
    _monitor.counter("fleetcast_snapshots_total", "Snapshots that were counted.", "node"),
    _monitor.gauge("fleetcast_snapshots_behind_messages", "Snapshots that wait to be judged.", "node"),
    _monitor.gauge("fleetcast_snapshot_lag_seconds", "How old those are that are judged now.", "node"),
    _monitor.counter("fleetcast_snapshots_passed_over_total", "Snapshots that left before they were judged.", "node"),
    _monitor.counter("fleetcast_aggregates_total", "One-minute aggregates: written, or lost.", "node", "outcome"),
)

_remedy = _of(REMEDY)

REMEDIES: Final = (
    _remedy.gauge("fleetcast_incidents_open", "Incidents that have not ended.", "severity", "trigger"),
    _remedy.gauge("fleetcast_incidents_unattended", "Those of them that nobody has acknowledged.", "severity"),
    _remedy.gauge("fleetcast_incident_unattended_seconds", "Since the oldest of those was opened.", "severity"),
    _remedy.gauge("fleetcast_playbooks_under_way", "Runs of playbooks that this daemon carries out.", "node"),
    _remedy.gauge(
        "fleetcast_playbook_runs",
        "Of the newest 20 runs about each resource, those in a phase.",
        "playbook",
        "phase",
    ),
)

_notifier = _of(NOTIFIER)

NOTICES: Final = (
    _notifier.gauge("fleetcast_notices_waiting", "Topics that a channel is still to be told of.", "channel"),
    _notifier.counter("fleetcast_notices_sent_total", "Messages that were delivered.", "channel"),
    _notifier.counter("fleetcast_notices_parked_total", "Messages that were given up.", "channel"),
    _notifier.gauge("fleetcast_notices_parked", "Messages that were given up and are kept.", "channel"),
    _notifier.gauge("fleetcast_channel_failing_seconds", "Since when deliveries fail; 0: they go well.", "channel"),
)

_trainer = _of(TRAINER)

TRAINING: Final = (
    _trainer.gauge("fleetcast_training_runs", "Training runs that have not ended, over the fleet.", "phase"),
    _trainer.gauge("fleetcast_training_runs_here", "Those that this node has in hand.", "node"),
    _trainer.gauge("fleetcast_training_queued_seconds", "Since the oldest of those that wait was made.", "work"),
    _trainer.gauge(
        "fleetcast_training_quiet_seconds",
        "Of the runs that this node has in hand, the longest since one's record changed: an epoch, a checkpoint, "
        "a phase. 0: none is in hand.",
        "node",
    ),
    _trainer.gauge("fleetcast_lane_tokens_samples", "Samples in a lane's bucket; below 0: debt.", "lane"),
    _trainer.gauge("fleetcast_lane_paused", "1 while somebody keeps the lane from starting runs.", "lane"),
    _trainer.gauge("fleetcast_node_quarantined", "1 while a node gets no training runs because of a fault.", "node"),
    _trainer.gauge(
        "fleetcast_node_reclaim_timestamp_seconds",
        "When the node's machine is taken away, since 1970; missing: it is not.",
        "node",
    ),
    _trainer.counter("fleetcast_reclaim_notices_total", "Notices of reclaim that runs of the node got.", "node"),
    _trainer.counter("fleetcast_reclaim_saves_total", "Saves that came of them in time.", "node"),
    _trainer.gauge("fleetcast_gpu_usable", "1 where nothing is known against the GPU.", "node", "gpu", "vendor"),
    _trainer.gauge("fleetcast_gpu_memory_total_bytes", "Memory of the GPU.", "node", "gpu"),
    _trainer.gauge("fleetcast_gpu_memory_free_bytes", "What is free of it.", "node", "gpu"),
    _trainer.gauge("fleetcast_gpu_temperature_celsius", "Its temperature.", "node", "gpu"),
    _trainer.counter("fleetcast_gpu_ecc_errors_total", "Errors of its memory beyond correction.", "node", "gpu"),
)

METRICS: Final = (*EVERY, *ON_NODES, *FLEET, *PERFORMANCE, *REMEDIES, *NOTICES, *TRAINING)
BY_NAME: Final = {metric.name: metric for metric in METRICS}


def shown_by(daemon: str) -> tuple[Metric, ...]:
    """The metrics that a daemon shows, in the catalogue's order."""
    return tuple(metric for metric in METRICS if daemon in metric.shown_by)
