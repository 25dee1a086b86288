"""Other ways of distributing the same bytes between the same hosts, one after the other."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.benchmarks._hosts import FleetHost, FleetHosts
from tests.benchmarks._processes import cpu_seconds, forget_peaks, peak_mib
from tests.benchmarks._runs import NodeRun, Run
from tests.benchmarks._tracker import Tracker

PORT = 6881
HTTP_PORT = 6880
RSYNC_PORT = 8730
START_SECONDS = 30.0
POLL_SECONDS = 0.02
NAME = "model.safetensors"
HOOK = """#!/bin/sh
printf '{"proven": %s}' "$(date +%s.%N)" >"$FC_DONE.new" && mv "$FC_DONE.new" "$FC_DONE"
"""
"""What aria2c runs when it has everything."""


class PeerFailed(Exception):
    """A program that we are compared with did not do its work; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be distributed, and where.

    Attributes:
        file: what the origin has, called `NAME`.
        folder: fresh; receivers write below it.
        seconds: after which a program is given up.
    """

    hosts: FleetHosts
    file: Path
    folder: Path
    seconds: float

    def place(self, number: int) -> Path:
        """Folder of a receiver."""
        path = self.folder / f"receiver-{number}"
        path.mkdir(parents=True, exist_ok=True)
        return path


class Program:
    """A program on a host, ended with the benchmark; its output goes to a file."""

    def __init__(self, host: FleetHost, log: Path, *words: str, **environment: str) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                host.bound_command(*words),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def said(self, line: str) -> bool:
        """Whether it wrote this line; fails when it has ended without."""
        if line in self._log.read_text(errors="replace").splitlines():
            return True
        self.must_run()
        return False

    def must_run(self) -> None:
        """Fail when it has ended."""
        if self.process.poll() is not None:
            raise PeerFailed(f"ended with {self.process.returncode}: {self.tail()}")

    def tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()


def until(what: str, holds: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds.

    Raises:
        PeerFailed: not in time.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise PeerFailed(f"{what}: not within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


def _until_said(program: Program, line: str) -> None:
    until(f"{line!r} from {program.pid}", lambda: program.said(line), START_SECONDS)


@contextlib.contextmanager
def _running(*programs: Program) -> Iterator[None]:
    try:
        yield
    finally:
        for program in programs:
            program.end()


# -- programs that end when they have the file


def aria2_http(work: Work) -> Run:
    """aria2c with up to 8 connections from the origin's file server."""
    origin = Program(
        work.hosts.origin,
        work.folder / "origin.log",
        *(sys.executable, "-m", "tests.benchmarks._file_server", str(work.file)),
        *(work.hosts.origin.address, str(HTTP_PORT)),
    )
    with _running(origin):
        _until_said(origin, "ready")
        url = f"http://{work.hosts.origin.address}:{HTTP_PORT}/bench/c/{'0' * 64}"
        return _fetched_by(
            work,
            lambda place: [
                *("aria2c", "--no-conf", "--split=8", "--max-connection-per-server=8", "--min-split-size=1M"),
                *("--file-allocation=none", "--console-log-level=warn", "--summary-interval=0"),
                *(f"--dir={place}", f"--out={NAME}", url),
            ],
        )


def rsync(work: Work) -> Run:
    """rsync --whole-file from a read-only module of the origin."""
    configuration = work.folder / "rsyncd.conf"
    configuration.write_text(
        f"use chroot = no\nuid = root\ngid = root\n[bench]\npath = {work.file.parent}\nread only = yes\n"
    )
    address = work.hosts.origin.address
    words = ("rsync", "--daemon", "--no-detach", f"--config={configuration}", f"--address={address}")
    origin = Program(work.hosts.origin, work.folder / "origin.log", *words, f"--port={RSYNC_PORT}")
    source = f"rsync://{address}:{RSYNC_PORT}/bench/"
    with _running(origin):
        until("the rsync daemon is up", lambda: _lists(work.hosts.receivers[0], source), START_SECONDS)
        return _fetched_by(work, lambda place: ["rsync", "--whole-file", f"{source}{work.file.name}", f"{place}/"])


def _lists(host: FleetHost, source: str) -> bool:
    return subprocess.run(host.command("rsync", source), check=False, capture_output=True, timeout=10).returncode == 0


def _fetched_by(work: Work, command: Callable[[Path], list[str]]) -> Run:
    """Start the command on all receivers at once and wait until each has ended."""
    psutil.cpu_percent()
    before, began = work.hosts.origin.counters(), time.monotonic()
    programs = {
        f"node-{n}": Program(host, work.place(n) / "log", *command(work.place(n)))
        for n, host in enumerate(work.hosts.receivers, 1)
    }
    nodes: list[NodeRun] = []
    try:
        while len(nodes) < len(programs):
            ended = _reap(programs, began)
            nodes += ended
            if not ended:
                time.sleep(POLL_SECONDS)
            if time.monotonic() > began + work.seconds:
                raise PeerFailed(f"{len(programs) - len(nodes)} did not end within {work.seconds:.0f} s")
    finally:
        for program in programs.values():
            program.end()
    sent, busy = work.hosts.origin.counters().sent_since(before), psutil.cpu_percent() / 100
    _check_whole(work)
    return Run(work.file.stat().st_size, sent, tuple(nodes), busy)


def _reap(programs: dict[str, Program], began: float) -> list[NodeRun]:
    """Whoever has ended since the last call, with what it used."""
    ended = []
    for name, program in programs.items():
        if program.process.returncode is not None:
            continue
        pid, status, used = os.wait4(program.pid, os.WNOHANG)
        if pid:
            program.process.returncode = os.waitstatus_to_exitcode(status)
            if program.process.returncode != 0:
                raise PeerFailed(f"{name} ended with {program.process.returncode}: {program.tail()}")
            # Not its ru_maxrss: that begins with what this process held when it forked.
            ended.append(NodeRun(name, time.monotonic() - began, cpu_seconds=used.ru_utime + used.ru_stime))
    return ended


def _check_whole(work: Work) -> None:
    size = work.file.stat().st_size
    for n in range(1, len(work.hosts.receivers) + 1):
        got = work.place(n) / work.file.name
        if not got.exists() or got.stat().st_size != size:
            raise PeerFailed(f"{got} is not whole")


# -- swarms, whose members stay when they have the file


def libtorrent_defaults(work: Work) -> Run:
    """libtorrent as it comes: default session, default torrent (v1 and v2), every peer told of every other."""
    torrent = work.folder / "bench.torrent"
    torrent.write_bytes(_make_torrent(work.file, v1_only=False))
    peers = ",".join(host.address for host in work.hosts.all)

    def member(host: FleetHost, place: Path) -> Program:
        words = ("tests.benchmarks._plain_swarm", str(torrent), str(place), host.address, str(PORT), peers)
        return Program(
            host, work.folder / f"{place.name}.log", sys.executable, "-m", *words, FC_DONE=str(place / "done")
        )

    origin = member(work.hosts.origin, work.file.parent)
    members = [member(host, work.place(n)) for n, host in enumerate(work.hosts.receivers, 1)]
    with _running(origin, *members):
        for each in (origin, *members):
            _until_said(each, "ready")
        origin.tell("go")
        _until_said(origin, "seeding")
        return _watched(work, members, lambda: _tell_all(members))


def _tell_all(members: list[Program]) -> None:
    for each in members:
        each.tell("go")


def aria2_bittorrent(work: Work) -> Run:
    """aria2c's own BitTorrent with its defaults, behind a tracker that answers at once."""
    torrent = work.folder / "bench.torrent"
    torrent.write_bytes(_make_torrent(work.file, v1_only=True))
    hook = work.folder / "hook.sh"
    hook.write_text(HOOK)
    hook.chmod(0o755)
    with Tracker(work.hosts.control) as tracker:

        def member(host: FleetHost, place: Path, *more: str) -> Program:
            words = (
                *("aria2c", "--no-conf", f"--dir={place}", f"--bt-tracker={tracker.url}", "--enable-dht=false"),
                *(f"--bt-external-ip={host.address}", f"--listen-port={PORT}", "--seed-ratio=0.0"),
                *("--file-allocation=none", "--console-log-level=warn", "--summary-interval=0", *more, str(torrent)),
            )
            return Program(host, work.folder / f"{place.name}.log", *words, FC_DONE=str(place / "done"))

        origin = member(work.hosts.origin, work.file.parent, "--check-integrity=true")
        members: list[Program] = []

        def start() -> None:
            members.extend(
                member(host, work.place(n), f"--on-bt-download-complete={hook}")
                for n, host in enumerate(work.hosts.receivers, 1)
            )

        try:
            until(
                "the origin has announced itself", lambda: tracker.announced(work.hosts.origin.address), START_SECONDS
            )
            return _watched(work, members, start)
        finally:
            for each in (origin, *members):
                each.end()


def _watched(work: Work, members: list[Program], start: Callable[[], None]) -> Run:
    """Start, and wait until each member's file `done` tells when it had everything."""
    idle = {each.pid: cpu_seconds(each.pid) for each in members}
    forget_peaks(idle)
    psutil.cpu_percent()
    before, began = work.hosts.origin.counters(), time.time()
    start()
    places = [work.place(n) for n in range(1, len(work.hosts.receivers) + 1)]

    def all_done() -> bool:
        for each in members:
            each.must_run()
        return all((place / "done").exists() for place in places)

    until("everybody has the file", all_done, work.seconds)
    sent, busy = work.hosts.origin.counters().sent_since(before), psutil.cpu_percent() / 100
    _check_whole(work)
    nodes = [_told(place, began, each, idle.get(each.pid, 0.0)) for place, each in zip(places, members, strict=True)]
    return Run(work.file.stat().st_size, sent, tuple(nodes), busy)


def _told(place: Path, began: float, program: Program, idle: float) -> NodeRun:
    told = {key: float(at) - began for key, at in json.loads((place / "done").read_text()).items()}
    return NodeRun(
        place.name,
        told["proven"],
        first_byte=told.get("first_byte"),
        nearly=told.get("nearly"),
        cpu_seconds=cpu_seconds(program.pid) - idle,
        rss_mib=peak_mib(program.pid),
    )


def _make_torrent(file: Path, *, v1_only: bool) -> bytes:
    import libtorrent as lt

    storage = lt.file_storage()
    lt.add_files(storage, str(file))
    made = lt.create_torrent(storage, flags=lt.create_torrent.v1_only if v1_only else 0)
    lt.set_piece_hashes(made, str(file.parent))
    return bytes(lt.bencode(made.generate()))


PEERS: dict[str, Callable[[Work], Run]] = {
    "libtorrent": libtorrent_defaults,
    "aria2_bittorrent": aria2_bittorrent,
    "aria2_http": aria2_http,
    "rsync": rsync,
}
ONCE = frozenset({"aria2_http", "rsync"})
"""Those that only wait for the origin's link, N times the bound: one run tells all."""
