"""The options that aria2c gets, each with its reason. Pure."""

import math
from collections.abc import Mapping

from fleetcast.config.settings import Aria2Settings

BLOCK = 16 * 1024
PACKAGE = "aria2"
"""Debian's package."""
LOWEST_VERSION = (1, 36)
"""That of Debian 12; older ones were not tried."""
MAX_CONNECTIONS_PER_HOST = 16
LEAST_BUFFER_BYTES = 64 * 1024
MOST_BUFFER_BYTES = 2**20
BUFFER_SECONDS = 0.025
"""What a connection's buffer may hold of the share of a cap with which aria2c starts; there are several connections."""
MOST_SECONDS = 600
"""aria2 takes no more."""


def configuration(*, port: int, secret: str, parent: int, download_limit: int, cap: int = 0, header: str = "") -> str:
    """Return the configuration file of a process; it holds the secret and is seen by nobody else.

    Args:
        download_limit: bytes per second that it lets pass; 0: all.
        cap: bytes per second that may pass, whoever sees to it; 0: all.
        header: what every request has besides, `Name: value`.
    """
    options = {
        "enable-rpc": "true",
        "rpc-listen-all": "false",  # loopback only
        "rpc-listen-port": str(port),
        "rpc-secret": secret,
        "rpc-max-request-size": "8M",  # the Metalink of 4,096 pieces takes 250 kB
        "rpc-save-upload-metadata": "false",  # else every Metalink is left behind as a file
        "stop-with-process": str(parent),  # the second way to its end; the first is PR_SET_PDEATHSIG
        "quiet": "true",
        "no-netrc": "true",  # nobody's passwords
        "http-no-cache": "false",
        "enable-dht": "false",
        "enable-dht6": "false",
        "bt-enable-lpd": "false",
        "enable-peer-exchange": "false",
        "follow-torrent": "false",
        "follow-metalink": "false",  # what a mirror sends is a file, never an order
        "max-concurrent-downloads": "64",  # how many there are is decided here, not by a queue in aria2
        "max-download-result": "64",
        "max-overall-download-limit": str(download_limit),
        # Under a cap the kernel must not take what aria2 does not read yet: 6 MiB per connection otherwise.
        "socket-recv-buffer-size": str(_receive_buffer(cap)),
        "auto-save-interval": "0",  # proven pieces are kept by whoever waits for them
        "disk-cache": "0",  # a piece that aria2 calls finished must be in the file
        "summary-interval": "0",
    }
    if header:
        options["header"] = header
    return "".join(f"{name}={value}\n" for name, value in options.items())


def _receive_buffer(limit: int) -> int:
    """Bytes of a connection's buffer in the kernel, 0: as the kernel likes; *limit*: bytes per second, 0: no cap."""
    return max(LEAST_BUFFER_BYTES, min(MOST_BUFFER_BYTES, int(limit * BUFFER_SECONDS))) if limit else 0


def download(settings: Aria2Settings, *, folder: str, per_host: int) -> Mapping[str, str]:
    """Return the options of one file."""
    patience = str(min(max(1, math.floor(settings.stall_seconds / 2)), MOST_SECONDS))
    return {
        "dir": folder,
        "split": str(settings.max_sources * settings.connections_per_source),
        "max-connection-per-server": str(min(per_host, MAX_CONNECTIONS_PER_HOST)),
        "min-split-size": "1M",  # the smallest that there is
        "realtime-chunk-checksum": "false",  # see metalink.py
        "check-integrity": "false",
        "file-allocation": "none",  # the file is there and sparse
        "allow-overwrite": "false",  # a file without a control file would start over: what is proven would be lost
        "auto-file-renaming": "false",
        "always-resume": "true",  # a mirror without ranges is an error, not a reason to start over
        "allow-piece-length-change": "false",
        "remove-control-file": "false",
        "conditional-get": "false",
        "content-disposition-default-utf8": "true",
        "use-head": "false",
        "connect-timeout": patience,
        "timeout": patience,  # a connection that is silent so long is given up for another mirror
        "max-tries": "3",
        "retry-wait": "1",
        "max-file-not-found": "0",  # one mirror's 404 says nothing about the others
        "reuse-uri": "true",
        "uri-selector": "inorder",  # the order is ours: every node another one
        "no-proxy": "*",
        "user-agent": "fleetcast",
        "metalink-enable-unique-protocol": "false",
        "save-not-found": "false",
    }


def version_of(text: str) -> tuple[int, ...] | None:
    """Return the version in what `aria2c --version` says."""
    words = text.split(maxsplit=3)
    if len(words) < 3 or words[:2] != ["aria2", "version"]:
        return None
    parts = words[2].split(".")
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else None


def objection(path: str | None, version: tuple[int, ...] | None) -> str:
    """Return why this aria2c cannot be used, in one line with what to do; empty when it can."""
    if path is None:
        return f"aria2c is not installed: apt-get install {PACKAGE}"
    needed = ".".join(map(str, LOWEST_VERSION))
    if version is None:
        return f"{path} does not say its version: {needed} or later is needed, apt-get install {PACKAGE}"
    if version < LOWEST_VERSION:
        return (
            f"aria2c {'.'.join(map(str, version))} is too old: {needed} or later is needed, apt-get install {PACKAGE}"
        )
    return ""
