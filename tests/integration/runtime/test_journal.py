"""A real daemon whose standard error is the journal's: its lines arrive at a real socket as entries with fields."""

import os
import shlex
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.runtime.service_manager import Manager, Service, told_by, wait_for

from fleetcast.bus.server import LocalServer
from fleetcast.config.settings import LogSettings
from fleetcast.daemons.testing import node_settings

ALONE = ("unshare", "--mount", "--propagation", "private", "sh", "-c")


class Journal:
    """A socket in a folder that stands for /run/systemd/journal, and what came: entries by their fields; of a field of
    several lines nothing. Read all the time: its queue holds ten."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.entries: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "socket"))
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while data := self._socket.recv(65536):
            self.entries.append(dict(line.split("=", 1) for line in data.decode().splitlines() if "=" in line))

    def close(self) -> None:
        """Take in what is still there, and end."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._reader.join()
        self._socket.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    if os.geteuid() != 0 or subprocess.run([*ALONE, "mount -t tmpfs tmpfs /run"], capture_output=True).returncode:
        pytest.skip("needs root and a mount namespace, to put a journal where a daemon looks for one")
    made = Journal(tmp_path / "journal")
    yield made
    made.close()


class Journalled(Service):
    """A daemon with a /run of its own, in which the journal listens."""

    def command(self) -> list[str]:
        place = shlex.quote(str(self.folder.parent / "journal"))
        prepare = (
            f"mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && mount --bind {place} /run/systemd/journal"
        )
        return [*ALONE, f"{prepare} && exec {shlex.join(super().command())}"]


def test_lines_of_a_daemon_are_entries_with_fields_to_search_by(journal: Journal, tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    manager = Manager(folder / "notify")
    log = folder / "registry.log"
    log.touch()
    # What systemd says of the stream that it gave the unit as standard error (systemd.exec(5)).
    stream = f"{log.stat().st_dev}:{log.stat().st_ino}"
    with LocalServer(tmp_path / "nats") as server:
        base = node_settings(folder, "node-1", server.url)
        settings = base.model_copy(update={"log": LogSettings(format="auto", level="info")})
        service = Journalled("registry", folder, settings, told_by(manager, JOURNAL_STREAM=stream))
        service.start()
        try:
            manager.until("READY=1")
            service.send(signal.SIGTERM)
            assert service.ended() == 0, service.tail()
        finally:
            service.kill()
            manager.close()
    wait_for(lambda: any(entry["FC_EVENT"] == "daemon.stopped" for entry in journal.entries), "the last entry")

    (ready,) = (entry for entry in journal.entries if entry["FC_EVENT"] == "daemon.ready")
    assert (ready["FC_NODE"], ready["FC_DAEMON"], ready["PRIORITY"]) == ("node-1", "registry", "6")
    assert ready["SYSLOG_IDENTIFIER"] == "fleetcast-registry"
    assert ready["FC_STATUS"] == "no rollout under way"
    # What its queue does not take in a burst comes as text, with the priority that the journal reads from it.
    assert all(line.startswith("<6>") for line in log.read_text().splitlines())
