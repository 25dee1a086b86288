"""How libtorrent is set up for a private, friendly network, and under which caps (ADR 0009, 0012, 0017). Pure.

Standard library only: the child imports this.
"""

import ipaddress
from typing import Any

MIB = 2**20
BLOCK = 16 * 1024
"""Bytes of one disk buffer."""
MAX_RATE = 2**31 - 1
"""Rates are 32-bit integers in libtorrent; larger caps would wrap around."""

MAX_QUEUE = 64
"""Blocks that a peer may be asked for at once. It has to say so itself: what a peer says of this in its handshake takes
the place of our own limit, which holds before that only (ADR 0032)."""
LEAST_QUEUE = 4
QUEUE_SECONDS = 0.06
"""The same under a cap, in seconds of it: several peers are asked at the same time."""


def listen_interfaces(bind: str, port: int) -> str:
    """Where libtorrent listens: *bind*, and loopback beside it.

    libtorrent ties a listen socket to its network device and announces from each of them; from the device of another
    address, the tracker on loopback cannot be reached (tried with 2.1.1: not one peer was found).
    """
    listen = f"[{bind}]:{port}" if ":" in bind else f"{bind}:{port}"
    address = ipaddress.ip_address(bind)
    return listen if address.is_loopback or address.is_unspecified else f"{listen},127.0.0.1:0"


def outgoing_interfaces(bind: str) -> str:
    """Where connections come from: *bind*, so that a node has one host for others; the system's choice for all."""
    return "" if ipaddress.ip_address(bind).is_unspecified else bind


def caps(download: int, upload: int) -> dict[str, int]:
    """Settings that let all torrents together receive and send so many bytes per second; 0: no cap."""
    return {
        "download_rate_limit": min(download, MAX_RATE),
        "upload_rate_limit": min(upload, MAX_RATE),
        "max_out_request_queue": queue(download),
    }


def queue(download: int) -> int:
    """Blocks that a peer may be asked for at once; 0 bytes per second: no cap.

    libtorrent lets what was asked for pass, at whatever rate it then comes: by 3 peers with 64 blocks each, twice a cap
    of 4 MB/s for seconds (seen).
    """
    return max(LEAST_QUEUE, min(MAX_QUEUE, int(download * QUEUE_SECONDS / BLOCK))) if download else MAX_QUEUE


NETWORK: dict[str, Any] = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    # uTP made loopback and LAN transfers 10 to 25 times slower at twice the CPU time.
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "allow_multiple_connections_per_ip": True,
    # A port that is taken is an error that a person must see, not a reason to take the next one.
    "max_retry_port_bind": 0,
    "listen_system_port_fallback": False,
    "listen_queue_size": 512,
    "connections_limit": 1000,
    "connection_speed": 500,
    "torrent_connect_boost": 255,
    "smooth_connects": False,
    # A node that was restarted must be back in the swarm at once, and a silent one out of it.
    "min_reconnect_time": 1,
    "max_failcount": 100,
    "peer_connect_timeout": 5,
    "handshake_timeout": 5,
    "request_timeout": 10,
    "piece_timeout": 5,
    "peer_timeout": 30,
    "inactivity_timeout": 30,
    "stop_tracker_timeout": 0,
    "min_announce_interval": 1,
    "tracker_backoff": 1,
    "user_agent": "fleetcast",
}
SWARM: dict[str, Any] = {
    # A friendly network: everybody gets from everybody.
    "unchoke_slots_limit": -1,
    # A peer that has everything is kept, so that the count of what it sent is not lost with its connection.
    "close_redundant_connections": False,
    # Otherwise whoever has nothing to ask for asks for what others were asked for: 1.09 to 1.54 of the file (measured).
    "strict_end_game_mode": True,
    "piece_extent_affinity": True,
    # Short queues: what a peer was asked for long ago cannot be asked from one that has it by now (ADR 0012).
    "max_out_request_queue": MAX_QUEUE,
    "max_allowed_in_request_queue": MAX_QUEUE,
    "request_queue_time": 1,
    "active_downloads": -1,
    "active_seeds": -1,
    "active_limit": -1,
    "active_checking": 2,
    "tick_interval": 100,
    # A cap counts what is in the streams (ADR 0017); the estimate of the headers below made it 5 to 15 % less.
    "rate_limit_ip_overhead": False,
}
BUFFERS: dict[str, Any] = {
    # With 256 MiB the resident size reached 1 GiB; with 32 MiB speed is the same.
    "max_queued_disk_bytes": 32 * MIB,
    "aio_threads": 4,
    # Shallow: news of pieces and requests wait behind what is in the buffer; a fifth of a second's worth is enough.
    "send_buffer_watermark": 1 * MIB,
    "send_buffer_low_watermark": 64 * 1024,
    "send_buffer_watermark_factor": 20,
    "send_not_sent_low_watermark": 16 * 1024,
    "max_peer_recv_buffer_size": 2 * MIB,
}
