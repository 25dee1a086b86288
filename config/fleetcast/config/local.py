"""Settings of a node that shares its machine with others: loopback, free ports, a data folder of its own."""

from pathlib import Path

from fleetcast.config.limits import LimitsSettings
from fleetcast.config.settings import (
    BittorrentSettings,
    BusSettings,
    HttpSettings,
    LogSettings,
    MetricsSettings,
    NetworkSettings,
    NodeSettings,
    Settings,
    StoreSettings,
)

LOOPBACK = "127.0.0.1"


def loopback_settings(
    name: str, url: str, *, data: Path, publish_roots: tuple[Path, ...], reserve_bytes: int, download_limit: int = 0
) -> Settings:
    """Settings of node *name* on the server at *url*.

    Args:
        download_limit: bytes per second that the node receives at most; 0: no limit.
    """
    return Settings(
        node=NodeSettings(id=name),
        bus=BusSettings(url=url),
        network=NetworkSettings(address=LOOPBACK, bind=LOOPBACK),
        store=StoreSettings(data=data, publish_roots=publish_roots, reserve_bytes=reserve_bytes),
        bittorrent=BittorrentSettings(port=0),
        http=HttpSettings(port=0),
        limits=LimitsSettings(download_bytes_per_second=download_limit),
        metrics=MetricsSettings(port=0),
        log=LogSettings(format="json"),
    )
