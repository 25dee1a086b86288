"""The settings of fleetcast: frozen, grouped by purpose. A description says meaning, unit and why the default."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from fleetcast.config.archival import ArchivalSettings
from fleetcast.config.exports import ExportSettings
from fleetcast.config.group import Group
from fleetcast.config.limits import LimitsSettings

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


class BittorrentSettings(Group):
    """The swarm."""

    enabled: bool = Field(
        default=True, description="Whether this node takes part in swarms, the quickest way to many nodes."
    )
    port: int = Field(
        default=6881, ge=0, le=65535, description="Listen port, the usual one of BitTorrent; 0 takes a free one."
    )
    seed_seconds: float = Field(
        default=900.0,
        ge=0,
        description="Seconds that a finished node keeps seeding once every node that wants the content has it: 15 "
        "minutes, for nodes that start late. Content of slots is seeded always.",
    )
    stall_seconds: float = Field(
        default=5.0,
        gt=0,
        description="Seconds without a byte, while a source is alive, that count as a stall; libtorrent's own retries "
        "are shorter.",
    )


class HttpSettings(Group):
    """Serving of the store over HTTP ranges."""

    port: int = Field(
        default=6880, ge=0, le=65535, description="Listen port, next to BitTorrent's; 0 takes a free one."
    )
    max_connections: int = Field(
        default=256,
        ge=1,
        description="Connections served at once, some per node of a large fleet; more wait in the backlog, and idle "
        "ones make room for them.",
    )
    max_connections_per_client: int = Field(
        default=64,
        ge=1,
        description="Connections of one address: a few per artifact, for some nodes on one machine. More are turned "
        "away, so that nobody takes all the room.",
    )
    requests_per_second: float = Field(
        default=500.0,
        gt=0,
        description="Requests of one address that are answered in a second; more wait. 500: each takes about a "
        "millisecond of a core, whatever its size.",
    )
    idle_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Seconds after which a connection that neither asks nor reads is closed: above any healthy pause.",
    )


class RsyncSettings(Group):
    """The last rung: rsync over ssh, from one node that holds everything."""

    enabled: bool = Field(
        default=True, description="Whether this node fetches by rsync when nothing else brings the bytes."
    )
    serve: str = Field(
        default="",
        examples=["ssh://fleetcast@{address}:22"],
        description="How others reach the forced command of this node's sshd (docs/rsync.md); {address} is "
        "network.address. Empty: nobody fetches from here by rsync, because no one set up an account for it.",
    )
    identity: Path | None = Field(
        default=None,
        examples=["/etc/fleetcast/rsync_ed25519"],
        description="Private key for ssh. None: the usual ones of the daemon's user.",
    )
    known_hosts: Path | None = Field(
        default=None,
        examples=["/etc/fleetcast/known_hosts"],
        description="Host keys of the fleet; a host that is not in it is refused. None: the user's own file.",
    )
    modules: bool = Field(
        default=False,
        description="Whether rsync:// sources are used. No: an rsync daemon neither encrypts nor proves who it is.",
    )
    accept_older: bool = Field(
        default=False,
        description="Whether an rsync older than 3.5.0 is used. No: it has known holes, unless somebody patched it.",
    )
    connect_seconds: float = Field(
        default=10.0, gt=0, description="Seconds to connect to a source; a cold VPN needs about three."
    )
    stall_seconds: float = Field(
        default=5.0, gt=0, description="Seconds without a byte that count as a stall, as for the other transports."
    )
    delta_limit_bytes: int = Field(
        default=16 * GIB,
        ge=0,
        description="Largest file of which proven pieces are kept by rsync's delta method; it was seen to hang above "
        "16 GiB, and a larger one is fetched whole.",
    )


class Aria2Settings(Group):
    """Fetching by HTTP from every node that holds an artifact, with aria2c."""

    enabled: bool = Field(
        default=True, description="Whether this node may fetch by HTTP with aria2c, which must be installed."
    )
    max_sources: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Nodes asked at once for one artifact, each node choosing others; a few fill any link, and one "
        "that fails is replaced by the next.",
    )
    connections_per_source: int = Field(
        default=2,
        ge=1,
        le=16,
        description="Connections to each of them; 2, so that one sends while the other asks for its next range.",
    )
    parallel_files: int = Field(
        default=4, ge=1, le=16, description="Files of a bundle fetched at once; more share the same connections."
    )
    stall_seconds: float = Field(
        default=5.0,
        gt=0,
        description="Seconds without a byte that count as a stall; after half of them the download is started anew.",
    )
    floor_bytes_per_second: int = Field(
        default=32 * 1024,
        ge=0,
        description="Least rate of a whole transfer, in bytes per second, 32 KiB: below it 1 GiB takes 9 hours. A "
        "transfer that stays below is started anew twice and then left to the next transport.",
    )
    floor_seconds: float = Field(
        default=5.0, gt=0, description="Seconds over which that rate is taken; shorter pauses are usual."
    )
    slow_ratio: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="A source under this share of the best one's rate is replaced: the last piece of a file waits for "
        "whoever has it.",
    )
    slow_seconds: float = Field(
        default=2.0, gt=0, description="Seconds that a source may be so slow; a connection needs one to get going."
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
    drain_seconds: float = Field(
        default=10.0,
        gt=0,
        description="Seconds that work may take to finish at shutdown before it is cancelled, to resume later.",
    )


class LadderSettings(Group):
    """Which transport is tried first, and when the next one takes over."""

    order: tuple[Literal["bittorrent", "aria2", "rsync"], ...] = Field(
        default=(),
        description="Transports in the order in which they are tried; one that is left out is never used. Empty: by "
        "size, number of receivers and bandwidth, which suits any mix of files.",
    )
    bittorrent_from_bytes: int = Field(
        default=50_000_000,
        ge=0,
        description="From this on a swarm comes first when bandwidth is not known: size times receivers, or size where "
        "receivers are not known. 50 MB: 8 nodes of 10 Gbit/s would have it in 0.3 s by HTTP, if aria2c is there.",
    )
    aria2_from_bytes: int = Field(
        default=16_000_000,
        ge=0,
        description="Below this size the swarm comes first all the same: 16 MB, since starting aria2c takes 0.2 to "
        "0.4 s, in which the swarm, which runs already, has brought such a file.",
    )
    bandwidth_bytes_per_second: int | None = Field(
        default=None,
        ge=1,
        examples=[1_250_000_000],
        description="What one node sends, in bytes per second; 1_250_000_000 for 10 Gbit/s. With it, a swarm comes "
        "first when it saves 0.3 s. None: not known, and size alone decides.",
    )
    stall_seconds: float = Field(
        default=5.0,
        gt=0,
        description="Seconds without a byte after which a transport is left for another one that has a live source; "
        "the swarm's own second tries fit into 5.",
    )
    probe_seconds: float = Field(
        default=2.0,
        gt=0,
        description="Seconds that a source may take to answer whether it is alive; a LAN needs milliseconds.",
    )
    rest_base_seconds: float = Field(
        default=1.0,
        gt=0,
        description="Seconds before a transport that brought nothing is tried again in the same transfer; doubled "
        "each time, so that a transfer never runs in circles.",
    )
    rest_cap_seconds: float = Field(
        default=60.0, gt=0, description="Longest such rest, in seconds: a source that returns is used within a minute."
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
    exports: ExportSettings = ExportSettings()
    registry: RegistrySettings = RegistrySettings()
    archival: ArchivalSettings = ArchivalSettings()
    log: LogSettings = LogSettings()
