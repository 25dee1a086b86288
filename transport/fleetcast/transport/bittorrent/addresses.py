"""Addresses as libtorrent and the tracker take them: literal ones."""

import asyncio
import ipaddress
import socket

import structlog

log = structlog.get_logger()


def host_of(address: str) -> str:
    return f"[{address}]" if ":" in address and not address.startswith("[") else address


async def literal(address: str) -> str | None:
    """`host:port` with the host as a literal address; None, and a line in the log, when there is none."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        log.warning("bittorrent.source_unusable", address=address, reason="not host:port")
        return None
    try:
        return f"{host_of(str(ipaddress.ip_address(host)))}:{int(port)}"
    except ValueError:
        return await _resolved(host, int(port))


async def _resolved(host: str, port: int) -> str | None:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as e:
        log.warning("bittorrent.source_unusable", address=f"{host}:{port}", reason=str(e))
        return None
    return f"{host_of(str(found[0][4][0]))}:{port}"
