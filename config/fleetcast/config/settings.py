"""The settings of fleetcast: frozen, grouped by purpose. A field's description says meaning, unit and why the default."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MIB = 2**20
GIB = 2**30


class Group(BaseModel):
    """Base of all groups of settings: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeSettings(Group):
    """This machine's place in the fleet."""

    id: str = Field(
        default="",
        pattern=r"^([a-z0-9][a-z0-9_-]{0,47})?$",
        description="Name of this node; empty: derived from the host name.",
    )
    models: tuple[str, ...] = Field(
        default=("*",), description="Shell patterns of the models kept here. Default: all of them."
    )
    lanes: tuple[str, ...] = Field(
        default=("*",), description="Shell patterns of the data lanes kept here. Default: all of them."
    )
    labels: dict[str, str] = Field(
        default={}, description='Facts about this node that rules may ask for, e.g. {gpu = "nvidia"}.'
    )


class BusSettings(Group):
    """How NATS is reached. The usual variables of the NATS CLI are honoured as well."""

    url: str = Field(default="nats://127.0.0.1:4222", description="Comma-separated server addresses.")
    creds: Path | None = Field(default=None, description="NATS credentials file (NATS_CREDS).")
    nkey: Path | None = Field(default=None, description="File with an nkey seed (NATS_NKEY).")
    user: str | None = Field(default=None, description="User name (NATS_USER).")
    password: str | None = Field(default=None, description="Password (NATS_PASSWORD); prefer creds or nkey.")
    token: str | None = Field(default=None, description="Token (NATS_TOKEN).")
    ca: Path | None = Field(default=None, description="CA certificate that the server is checked against (NATS_CA).")
    cert: Path | None = Field(default=None, description="Client certificate (NATS_CERT).")
    key: Path | None = Field(default=None, description="Client key (NATS_KEY).")
    replicas: int = Field(
        default=1, ge=1, le=5, description="Copies of every stream: 1 on a workstation, 3 in a fleet."
    )
    connect_timeout_seconds: float = Field(
        default=5.0, gt=0, description="Time for one dial; a LAN needs far less, a cold VPN about 3 s."
    )
    request_timeout_seconds: float = Field(
        default=5.0,
        gt=0,
        description="Time for one JetStream request; one leader election answers later than this and is retried.",
    )
    publish_deadline_seconds: float = Field(
        default=60.0,
        gt=0,
        description="How long a publish is retried before it goes to the spool; two leader elections took 38 s.",
    )
    canary_interval_seconds: float = Field(
        default=5.0,
        gt=0,
        description="Distance of the round trips that prove the connection; two misses replace it, within 30 s of a fault.",
    )
    canary_timeout_seconds: float = Field(default=5.0, gt=0, description="Time for one such round trip.")


class StoreSettings(Group):
    """Where content is kept, and what may enter it."""

    data: Path = Field(
        default=Path("/var/lib/fleetcast"), description="Folder of the store, the models, the data sets and the spool."
    )
    publish_roots: tuple[Path, ...] = Field(
        default=(), description="Folders that files may be published from on this node. Default: none."
    )
    handover_roots: tuple[Path, ...] = Field(
        default=(), description="Publish roots whose files are given over to fleetcast: hard-linked and made read-only."
    )
    reserve_bytes: int = Field(
        default=1 * GIB, ge=0, description="Free space that a transfer must leave; full disks break the other tenants."
    )
    quarantine_bytes: int = Field(
        default=4 * GIB, ge=0, description="Most bytes kept of failed verifications; the oldest go first."
    )
    keep_versions: int = Field(
        default=3, ge=2, description="Production versions kept per model at least; a rollback needs no transfer."
    )
    essential_name: str = Field(
        default="{model}{suffix}",
        description="Name of a model's file in models_essential/, from {model}, {version} and {suffix}.",
    )
    max_file_bytes: int = Field(default=2**41, ge=1, description="Largest file that is taken: 2 TiB.")


class VerifySettings(Group):
    """The format test, which runs in a child process."""

    timeout_seconds: float = Field(
        default=120.0,
        gt=0,
        description="Time for one file; a 1 GiB torch file takes under 5 s, most of it importing torch.",
    )
    memory_bytes: int = Field(
        default=4 * GIB, ge=256 * MIB, description="Address space of the child; importing torch maps about 2 GiB."
    )
    max_inflation_ratio: float = Field(
        default=200.0, gt=1, description="Unpacked over packed size that an archive may claim; bombs reach 1000."
    )
    pickle_policy: Literal["accept", "refuse"] = Field(
        default="accept", description="Whether pickles, which cannot be tested, are installed at all."
    )


class BittorrentSettings(Group):
    """The swarm."""

    enabled: bool = Field(default=True, description="Whether this node takes part in swarms.")
    port: int = Field(default=6881, ge=0, le=65535, description="Listen port; 0 takes a free one.")
    download_limit_bytes_per_second: int = Field(
        default=0, ge=0, description="Cap for receiving; 0: none. Holds on LAN and loopback too."
    )
    upload_limit_bytes_per_second: int = Field(default=0, ge=0, description="Cap for sending; 0: none.")
    seed_seconds: float = Field(
        default=900.0,
        ge=0,
        description="How long a finished node keeps seeding at least; content of slots is seeded always.",
    )
    stall_seconds: float = Field(
        default=5.0, gt=0, description="No byte for so long while a source is alive is a stall."
    )


class HttpSettings(Group):
    """Serving of the store over HTTP ranges."""

    port: int = Field(default=6880, ge=0, le=65535, description="Listen port; 0 takes a free one.")
    max_connections: int = Field(default=256, ge=1, description="Connections served at once; more wait in the backlog.")
    idle_seconds: float = Field(
        default=30.0, gt=0, description="A connection that neither asks nor reads for so long is closed."
    )


class NetworkSettings(Group):
    """The address by which other nodes reach this one."""

    address: str = Field(
        default="", description="IP address that other nodes reach; empty: the address used to reach NATS."
    )
    bind: str = Field(default="0.0.0.0", description="Address that the transports listen on.")


class DistributorSettings(Group):
    """The distributor daemon."""

    heartbeat_seconds: float = Field(
        default=5.0, gt=0, description="Distance of heartbeats; also sent at once when something changes."
    )
    resync_seconds: float = Field(default=15.0, gt=0, description="Distance of full comparisons of slots and pointers.")
    parallel_transfers: int = Field(default=4, ge=1, description="Artifacts fetched at once.")
    progress_interval_seconds: float = Field(
        default=0.5, ge=0.5, description="Distance of progress messages of one transfer."
    )
    retry_base_seconds: float = Field(
        default=1.0, gt=0, description="First delay after a failed transfer; doubles with jitter."
    )
    retry_cap_seconds: float = Field(default=60.0, gt=0, description="Longest delay between two tries of a transfer.")
    drain_seconds: float = Field(default=10.0, gt=0, description="Time to finish at shutdown before work is cancelled.")


class LogSettings(Group):
    """Logs."""

    format: Literal["auto", "console", "json", "journal", "logfmt"] = Field(
        default="auto", description="auto: journal under systemd, console on a terminal, JSON lines otherwise."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is written."
    )


class Settings(Group):
    """All settings of one node."""

    node: NodeSettings = NodeSettings()
    bus: BusSettings = BusSettings()
    network: NetworkSettings = NetworkSettings()
    store: StoreSettings = StoreSettings()
    verify: VerifySettings = VerifySettings()
    bittorrent: BittorrentSettings = BittorrentSettings()
    http: HttpSettings = HttpSettings()
    distributor: DistributorSettings = DistributorSettings()
    log: LogSettings = LogSettings()
