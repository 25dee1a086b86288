"""A node that others fetch from by rsync: a read-only module of its store, as only tests have it."""

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.rsync.conftest import free_port, started
from tests.system.faults.stage import RATE, Change, both, carried_by

from fleetcast.config.settings import Settings

needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed: apt-get install rsync")


@contextlib.contextmanager
def rsync_source(folder: Path, node: str) -> Iterator[str]:
    """Serve the store that a node of a stage in *folder* has or will have; gives the endpoint."""
    port, place = free_port(), folder / "rsyncd"
    place.mkdir()
    (place / "conf").write_text(
        f"address = 127.0.0.1\nport = {port}\nuse chroot = no\nlog file = {place / 'log'}\n"
        f"[store]\npath = {folder / node / 'data' / 'store'}\nread only = yes\nlist = no\n"
    )
    server = started(["rsync", "--daemon", "--no-detach", f"--config={place / 'conf'}"], port, place / "log")
    try:
        yield f"rsync://127.0.0.1:{port}/store"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)


def by_rsync(endpoint: str, **more: object) -> Change:
    """Settings with rsync alone, from *endpoint* of node-1, at RATE; *more*: other settings of rsync."""

    def change(name: str, settings: Settings) -> Settings:
        serve = endpoint if name == "node-1" else ""
        rsync = settings.rsync.model_copy(update={"modules": True, "accept_older": True, "serve": serve, **more})
        limits = settings.limits.model_copy(update={"download_bytes_per_second": RATE})
        return settings.model_copy(update={"rsync": rsync, "limits": limits})

    return both(carried_by("rsync"), change)
