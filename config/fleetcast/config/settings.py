"""The settings of fleetcast: frozen, grouped by purpose. A description says meaning, unit and why the default."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from fleetcast.config.archival import ArchivalSettings
from fleetcast.config.backup import BackupSettings
from fleetcast.config.exports import ExportSettings
from fleetcast.config.gateway import GatewaySettings
from fleetcast.config.group import Group
from fleetcast.config.hooks import HookSettings
from fleetcast.config.incidents import IncidentSettings
from fleetcast.config.limits import LimitsSettings
from fleetcast.config.metrics import MetricsSettings
from fleetcast.config.monitor import MonitorSettings
from fleetcast.config.notifier import NotifierSettings
from fleetcast.config.remedy import RemedySettings
from fleetcast.config.signing import SigningSettings
from fleetcast.config.tracing import TracingSettings
from fleetcast.config.trainer import TrainerSettings
from fleetcast.config.transports import (
    Aria2Settings,
    BittorrentSettings,
    HttpSettings,
    LadderSettings,
    RsyncSettings,
)

__all__ = [
    "GIB",
    "MIB",
    "SECRETS",
    "ArchivalSettings",
    "Aria2Settings",
    "BittorrentSettings",
    "BusSettings",
    "DistributorSettings",
    "ExportSettings",
    "HookSettings",
    "HttpSettings",
    "IncidentSettings",
    "LadderSettings",
    "LimitsSettings",
    "LogSettings",
    "MetricsSettings",
    "MonitorSettings",
    "NetworkSettings",
    "NodeSettings",
    "NotifierSettings",
    "RegistrySettings",
    "RemedySettings",
    "RsyncSettings",
    "Settings",
    "StoreSettings",
    "TracingSettings",
    "TrainerSettings",
    "VerifySettings",
]

MIB = 2**20
GIB = 2**30

SECRETS = frozenset({"bus.password", "bus.token"})
"""Settings whose values are not shown."""


class NodeSettings(Group):
    """This machine's place in the fleet."""

    id: str = Field(
        default="",
        pattern=r"^([a-z0-9][a-z0-9_-]{0,47})?$",
        description="Name of this node, unique in the fleet: a-z 0-9 _ - and at most 48 of them, because it is part of "
        "subjects and paths. Empty: the host name, which is unique in most fleets.",
    )
    models: tuple[str, ...] = Field(
        default=("*",),
        description="Shell patterns of the models kept here. All of them: a node for any model needs no setting.",
    )
    lanes: tuple[str, ...] = Field(
        default=("*",),
        description="Shell patterns of the data lanes kept here. All of them: any node may be the next to train.",
    )
    labels: dict[str, str] = Field(
        default={},
        description='Facts about this node that rules may ask for, such as {gpu = "nvidia"}. None: nothing is assumed.',
    )


class BusSettings(Group):
    """How NATS is reached. The usual variables of the NATS CLI are honoured as well."""

    url: str = Field(
        default="nats://127.0.0.1:4222",
        min_length=1,
        description="Server addresses, separated by commas (NATS_URL). A server on this machine: the workstation case.",
    )
    creds: Path | None = Field(
        default=None,
        examples=["/etc/fleetcast/node.creds"],
        description="NATS credentials file (NATS_CREDS). None: the server asks for nothing.",
    )
    nkey: Path | None = Field(
        default=None, examples=["/etc/fleetcast/node.nk"], description="File with an nkey seed (NATS_NKEY)."
    )
    user: str | None = Field(default=None, examples=["node"], description="User name (NATS_USER).")
    password: str | None = Field(
        default=None,
        repr=False,
        examples=["..."],
        description="Password (NATS_PASSWORD). Prefer creds or nkey: their files are not shown by anything.",
    )
    token: str | None = Field(
        default=None, repr=False, examples=["..."], description="Token of the server (NATS_TOKEN)."
    )
    ca: Path | None = Field(
        default=None,
        examples=["/etc/fleetcast/ca.pem"],
        description="CA certificate that the server is checked against (NATS_CA). None: those of the system.",
    )
    cert: Path | None = Field(
        default=None, examples=["/etc/fleetcast/node.pem"], description="Client certificate (NATS_CERT)."
    )
    key: Path | None = Field(
        default=None, examples=["/etc/fleetcast/node.key"], description="Key of the client certificate (NATS_KEY)."
    )
    inbox: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_-]*$",
        description="Name under which answers reach this process (_INBOX.NAME.>); a role hears only its own. Empty: "
        "the name in the client certificate, which is the role's; without one the node's id.",
    )
    replicas: int = Field(
        default=1, ge=1, le=5, description="Copies of every stream: 1 on a workstation, 3 in a fleet."
    )
    connect_timeout_seconds: float = Field(
        default=5.0, gt=0, description="Seconds for one dial; a LAN needs far less, a cold VPN about 3."
    )
    request_timeout_seconds: float = Field(
        default=5.0,
        gt=0,
        description="Seconds for one JetStream request (NATS_TIMEOUT); a server that elects a leader answers later "
        "than this, and the request is retried.",
    )
    publish_deadline_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Seconds that a publish is retried before it goes to the spool; two leader elections took 38.",
    )
    canary_interval_seconds: float = Field(
        default=5.0,
        gt=0,
        description="Seconds between the round trips that prove the connection; two misses replace it, which is within "
        "30 seconds of a fault.",
    )
    canary_timeout_seconds: float = Field(
        default=5.0, gt=0, description="Seconds for one such round trip; a healthy one takes milliseconds."
    )
    resync_seconds: float = Field(
        default=15.0,
        gt=0,
        description="Seconds after which whoever follows a stream and hears nothing asks the stream itself whether "
        "something was lost on the way. 15: an answer without content, of which a server gives thousands a second.",
    )


class StoreSettings(Group):
    """Where content is kept, and what may enter it."""

    data: Path = Field(
        default=Path("/var/lib/fleetcast"),
        description="Folder of the store, the models, the data sets and the spool; one file system, because content is "
        "shared by hard links. The place that systemd makes for the daemon.",
    )
    publish_roots: tuple[Path, ...] = Field(
        default=(),
        description="Folders that files may be published from on this node. None: an event cannot make a node read "
        "what nobody opened to it.",
    )
    handover_roots: tuple[Path, ...] = Field(
        default=(),
        description="Publish roots whose files are given over to fleetcast: hard-linked and made read-only. None: the "
        "producer's files are copied and left alone.",
    )
    reserve_bytes: int = Field(
        default=1 * GIB,
        ge=0,
        description="Bytes that a transfer must leave free, 1 GiB; a full disk breaks everything else on the machine.",
    )
    room_check_seconds: float = Field(
        default=10.0,
        gt=0,
        description="Seconds between looks at the free space; below reserve_bytes, what nothing pins is removed, the "
        "oldest first. 10: a look costs microseconds, and a disk seldom fills faster.",
    )
    quarantine_bytes: int = Field(
        default=4 * GIB,
        ge=0,
        description="Most bytes kept of failed verifications, 4 GiB: enough to look into a few; the oldest go first.",
    )
    keep_versions: int = Field(
        default=3,
        ge=2,
        description="Production versions kept per model at least: this one and two to roll back to without a transfer.",
    )
    orphan_seconds: float = Field(
        default=3600.0,
        ge=0,
        description="Seconds that content may lie in the store without belonging to a version before it is removed; an "
        "hour, because younger content may be on its way in.",
    )
    essential_name: str = Field(
        default="{model}{suffix}",
        description="Name of a model's file in models_essential/, made of {model}, {version} and {suffix}. Without the "
        "version, so that readers open the same path for ever.",
    )
    max_file_bytes: int = Field(
        default=2**41,
        ge=1,
        description="Largest file that is taken, in bytes: 2 TiB, above any model and below what lies about its size.",
    )


class VerifySettings(Group):
    """The format test, which runs in a child process."""

    timeout_seconds: float = Field(
        default=120.0,
        gt=0,
        description="Seconds for one file; a torch file of 1 GiB takes under 5, most of it importing torch.",
    )
    memory_bytes: int = Field(
        default=4 * GIB,
        ge=256 * MIB,
        description="Address space of the child in bytes, 4 GiB; importing torch maps about half of it.",
    )
    max_inflation_ratio: float = Field(
        default=200.0, gt=1, description="Unpacked over packed size that an archive may claim; bombs reach 1000."
    )
    pickle_policy: Literal["accept", "refuse"] = Field(
        default="accept",
        description="Whether pickles, which can be inspected but never loaded safely, are installed. Accepted, and "
        "shown as not tested: many models are pickles.",
    )


class NetworkSettings(Group):
    """The address by which other nodes reach this one."""

    address: str = Field(
        default="",
        description="IP address that other nodes reach. Empty: the address used to reach NATS, which others share.",
    )
    bind: str = Field(
        default="0.0.0.0", min_length=1, description="Address that the transports listen on. All: nodes have several."
    )


class DistributorSettings(Group):
    """The distributor daemon."""

    heartbeat_seconds: float = Field(
        default=5.0,
        gt=0,
        description="Seconds between heartbeats; three missed ones mean a lost node. Also sent at once on a change.",
    )
    resync_seconds: float = Field(
        default=15.0,
        gt=0,
        description="Seconds between full comparisons of slots and pointers, which repair what an event missed.",
    )
    parallel_transfers: int = Field(
        default=4, ge=1, description="Artifacts fetched at once; more share the same disk and network."
    )
    progress_interval_seconds: float = Field(
        default=0.5,
        ge=0.5,
        description="Seconds between progress messages of one transfer: twice a second is what a person can follow.",
    )
    retry_base_seconds: float = Field(
        default=1.0,
        gt=0,
        description="Seconds before a failed transfer is tried again; doubled each time, with jitter.",
    )
    retry_cap_seconds: float = Field(
        default=60.0, gt=0, description="Longest delay between two tries, in seconds: a node heals within a minute."
    )
    gpu_head_start_seconds: float = Field(
        default=60.0,
        ge=0,
        description="Longest time in seconds that a node without a GPU lets those with one fetch a new data set first; "
        "it starts sooner once they have it. A minute: training starts on one of them, and no node waits for one that "
        "is away. 0: all start at once.",
    )
    spools: tuple[Path, ...] = Field(
        default=(),
        examples=[["/home/ada/.local/state/fleetcast/spool"]],
        description="Spools that are forwarded beside the node's own (spool below store.data): those of users whose "
        "jobs cannot write that one. The daemon's user must own them, or be root.",
    )
    drain_seconds: float = Field(
        default=10.0,
        gt=0,
        description="Seconds that work may take to finish at shutdown before it is cancelled, to resume later.",
    )


class RegistrySettings(Group):
    """The registry daemon: what decides promotions, and where its read model lies."""

    gates: Path | None = Field(
        default=None,
        examples=["/etc/fleetcast/gates.toml"],
        description="File with the gates (config/gates.toml is one, with comments). None: whoever promotes decides.",
    )
    read_model: Path | None = Field(
        default=None,
        examples=["/var/lib/fleetcast/registry/read-model.sqlite"],
        description="SQLite file that lists and histories are read from; it can be deleted at any time. None: "
        "registry/read-model.sqlite below store.data.",
    )
    look_seconds: float = Field(
        default=1.0,
        gt=0,
        description="Seconds between looks at rollouts under way, besides those that news of nodes cause: deadlines "
        "and bake times are kept within this.",
    )


class LogSettings(Group):
    """Logs."""

    format: Literal["auto", "console", "json", "journal", "logfmt"] = Field(
        default="auto",
        description="auto, console, json, journal or logfmt. auto: journal under systemd, console on a terminal, JSON "
        "lines otherwise.",
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least severe level that is written: debug, info, warning or error. info: a line per unit.",
    )


class Settings(Group):
    """All settings of one node, as `fleetcast.toml` groups them."""

    node: NodeSettings = NodeSettings()
    bus: BusSettings = BusSettings()
    network: NetworkSettings = NetworkSettings()
    store: StoreSettings = StoreSettings()
    verify: VerifySettings = VerifySettings()
    bittorrent: BittorrentSettings = BittorrentSettings()
    http: HttpSettings = HttpSettings()
    aria2: Aria2Settings = Aria2Settings()
    limits: LimitsSettings = LimitsSettings()
    rsync: RsyncSettings = RsyncSettings()
    ladder: LadderSettings = LadderSettings()
    distributor: DistributorSettings = DistributorSettings()
    hooks: HookSettings = HookSettings()
    exports: ExportSettings = ExportSettings()
    registry: RegistrySettings = RegistrySettings()
    archival: ArchivalSettings = ArchivalSettings()
    monitor: MonitorSettings = MonitorSettings()
    incidents: IncidentSettings = IncidentSettings()
    remedy: RemedySettings = RemedySettings()
    notifier: NotifierSettings = NotifierSettings()
    trainer: TrainerSettings = TrainerSettings()
    gateway: GatewaySettings = GatewaySettings()
    metrics: MetricsSettings = MetricsSettings()
    tracing: TracingSettings = TracingSettings()
    backup: BackupSettings = BackupSettings()
    signing: SigningSettings = SigningSettings()
    log: LogSettings = LogSettings()
