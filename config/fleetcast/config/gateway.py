"""The settings of [gateway]: where it listens, who may ask, and how much one client may cost."""

from pathlib import Path

from pydantic import Field

from fleetcast.config.group import Group

_MIB = 2**20


class GatewaySettings(Group):
    """The gateway: the registry and the fleet over HTTP, for programs and browsers."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="IP address that it listens on. Loopback: anything else needs tokens, and a certificate.",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port, 8000 as in the examples; 0: a free one.")
    tokens: Path | None = Field(
        default=None,
        examples=["/etc/fleetcast/gateway-tokens.json"],
        description="File with the hashes of bearer tokens and their roles, mode 0600, kept by `fleetcast gateway "
        "token`. None: nobody needs one, and only this machine can ask.",
    )
    certificate: Path | None = Field(
        default=None,
        examples=["/etc/fleetcast/gateway.crt"],
        description="File with the certificate, and those that vouch for it (PEM). None: plain HTTP, on loopback only.",
    )
    key: Path | None = Field(
        default=None, examples=["/etc/fleetcast/gateway.key"], description="File with the certificate's key (PEM)."
    )
    max_body_bytes: int = Field(
        default=_MIB,
        ge=1024,
        le=64 * _MIB,
        description="Largest request body in bytes, 1 MiB: a registration or a snapshot has some kilobytes.",
    )
    body_seconds: float = Field(
        default=20.0,
        gt=0,
        description="Seconds in which a connection has to begin a request, and a body to come whole: nobody may hold a "
        "place.",
    )
    max_connections: int = Field(
        default=1024,
        ge=10,
        description="Connections at once; one more is told to come back. 200 dashboards with two each, and programs.",
    )
    max_streams: int = Field(
        default=400, ge=1, description="Event streams at once: twice the 200 dashboards that are to be watched by."
    )
    stream_events: int = Field(
        default=512,
        ge=16,
        description="Events that wait for a slow client before it is dropped, and begins again where it stopped.",
    )
    stream_bytes: int = Field(
        default=_MIB, ge=65536, description="Bytes that wait for a slow client before it is dropped: 1 MiB."
    )
    stalled_seconds: float = Field(
        default=30.0, gt=0, description="Seconds in which a client has to take in something of what it is sent."
    )
    serving_seconds: float = Field(
        default=5.0,
        ge=0,
        le=60,
        description="Seconds that a rollback waits for the nodes before it answers that they are under way.",
    )
