"""Settings of the transports: how files travel, and in which order the ways are tried."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from fleetcast.config.group import Group

GIB = 2**30


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
