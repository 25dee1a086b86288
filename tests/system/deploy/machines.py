"""Machines made of bare Debian root folders, each in a network namespace of its own, on one switch.

What systemd would do there is done from the units, because it does not run: users, state folders, credentials,
ExecStart and ExecReload. Everything else is what the page says, run as it stands in a shell of that root."""

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

LIMIT_SECONDS = 900.0
NETWORK = "10.77.0."
ENVIRONMENT = {
    "HOME": "/root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "TERM": "dumb",
    "DEBIAN_FRONTEND": "noninteractive",
    # systemctl then edits links, and asks nobody.
    "SYSTEMD_OFFLINE": "1",
}
INSIDE = """
set -e
mount -t proc proc "$0/proc"
mount --rbind /dev "$0/dev"
exec chroot "$0" "$@"
"""


def host(*command: str | Path) -> str:
    """Run a command of this machine; its output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def inside(root: Path, space: str = "") -> list[str]:
    """What runs a command in a root folder, with mounts of its own, in a network namespace."""
    net = ["ip", "netns", "exec", space] if space else []
    return [*net, "unshare", "--mount", "--propagation", "private", "bash", "-c", INSIDE, str(root)]


@dataclass
class Machine:
    """One of them.

    Attributes:
        space: its network namespace; empty: the one of this machine.
        env: of its shells, besides what all have.
    """

    name: str
    root: Path
    space: str = ""
    env: dict[str, str] = field(default_factory=dict)
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def run(self, script: str, *, codes: tuple[int, ...] = (0,)) -> str:
        """Run lines of a shell as root, in its home; ends at the first that fails. What they said."""
        words = ["env", "-i", *(f"{k}={v}" for k, v in {**ENVIRONMENT, **self.env}.items())]
        command = [*inside(self.root, self.space), *words, "bash", "-c", f"cd; set -e\n{script}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
        said = done.stdout + done.stderr
        assert done.returncode in codes, f"{self.name}: {script}\nended with {done.returncode}:\n{said[-4000:]}"
        return said

    def page(self, block: str, names: Mapping[str, str] = {}, *, codes: Mapping[str, tuple[int, ...]] = {}) -> None:
        """Run a block of the page in the checkout: its lines as they are, but those that need a running systemd.

        Args:
            names: words of the page with what they are on this machine.
            codes: what a line may end with, where that is not 0.
        """
        for line in _whole_lines(block):
            for old, new in names.items():
                line = line.replace(old, new)  # noqa: PLW2901
            if line.startswith("systemctl"):
                self._systemctl(line)
            else:
                # `V` as the first step sets it: a person has one shell for all of it.
                self.run(f"cd checkout; V=/opt/fleetcast/0.1.0\n{line}", codes=codes.get(line, (0,)))

    # -- what systemd does

    def _systemctl(self, line: str) -> None:
        match shlex.split(line, comments=True)[1:]:
            case ["daemon-reload"]:
                pass
            case ["enable", "--now", unit]:
                self.run(f"systemctl enable {unit}")
                self.start(f"{unit}.service")
            case ["reload", unit]:
                self._reload(f"{unit}.service")
            case ["start", "fleetcast.target"]:
                wants = self.root / "etc/systemd/system/fleetcast.target.wants"
                for each in sorted(wants.iterdir()):
                    self.start(each.name)
            case other:
                raise AssertionError(f"the page says systemctl {other}")

    def start(self, unit: str) -> None:
        """As `systemctl start`, without waiting for readiness."""
        self.run(f"systemd-analyze verify {unit}")
        user = self._value(unit, "User") or self._dynamic_user(unit)
        for state in self._value(unit, "StateDirectory").split():
            self.run(f"install -d -o {user} -g {user} /var/lib/{state}")
        self._hand_over(unit, user)
        switched = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"]
        words = ["env", "-i", f"PATH={ENVIRONMENT['PATH']}", f"CREDENTIALS_DIRECTORY=/run/credentials/{unit}"]
        command = [*inside(self.root, self.space), *switched, *words, *shlex.split(self._value(unit, "ExecStart"))]
        with (self.root.parent / f"{self.name}.{unit}.log").open("ab") as log:
            self.running[unit] = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self, *units: str) -> None:
        """As `systemctl stop`; without names all, whoever serves the others last."""
        chosen = units or sorted(self.running, key=lambda unit: unit == "nats-server.service")
        for unit in chosen:
            process = self.running.pop(unit)
            process.send_signal(signal.SIGINT if unit == "nats-server.service" else signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)

    def _reload(self, unit: str) -> None:
        command = self._value(unit, "ExecReload").replace("$MAINPID", str(self.running[unit].pid))
        self.run(command)

    def _hand_over(self, unit: str, user: str) -> None:
        """What `LoadCredential=ID:FOLDER` does."""
        name, _, folder = self._value(unit, "LoadCredential").partition(":")
        place = f"/run/credentials/{unit}"
        self.run(
            f"rm -rf {place}; install -d -m 0755 /run/credentials; install -d -m 0500 -o {user} {place}\n"
            f'for f in {folder}/*; do [ -e "$f" ] || continue; '
            f'install -m 0400 -o {user} "$f" "{place}/{name}_${{f##*/}}"; done'
        )

    def _dynamic_user(self, unit: str) -> str:
        user = unit.removesuffix(".service")
        self.run(f"id {user} >/dev/null 2>&1 || useradd --system --no-create-home {user}")
        return user

    def _value(self, unit: str, key: str) -> str:
        lines = (self.root / "etc/systemd/system" / unit).read_text().splitlines()
        return next((line.partition("=")[2] for line in lines if line.startswith(f"{key}=")), "")


def _whole_lines(block: str) -> list[str]:
    """Its commands: a line that ends with a backslash goes on, and so does a loop."""
    return [line for line in block.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]


@contextmanager
def switched(names: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """A network namespace for each name, with an address that follows from its place."""
    mark = f"fc{os.getpid()}"
    spaces = {name: f"{mark}-{number}" for number, name in enumerate(names)}
    try:
        host("ip", "netns", "add", mark)
        host("ip", "-n", mark, "link", "add", "br0", "type", "bridge")
        host("ip", "-n", mark, "link", "set", "br0", "up")
        for number, space in enumerate(spaces.values()):
            host("ip", "netns", "add", space)
            host(
                "ip", "link", "add", "eth0", "netns", space, "type", "veth", "peer", "name", f"p{number}", "netns", mark
            )
            host("ip", "-n", space, "addr", "add", f"{address(number)}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                host("ip", "-n", space, "link", "set", link, "up")
            host("ip", "-n", mark, "link", "set", f"p{number}", "master", "br0", "up")
        yield spaces
    finally:
        for space in (*spaces.values(), mark):
            subprocess.run(["ip", "netns", "del", space], capture_output=True, timeout=30, check=False)


def address(number: int) -> str:
    """Of the machine with this place on the switch."""
    return f"{NETWORK}{10 + number}"


@contextmanager
def copied(base: Path, folder: Path, name: str) -> Iterator[Path]:
    """A root folder that is *base* until something is written there."""
    places = [folder / f"{name}{part}" for part in ("", ".upper", ".work")]
    for place in places:
        place.mkdir()
    root, upper, work = places
    host("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={base},upperdir={upper},workdir={work}", root)
    try:
        yield root
    finally:
        _unmounted(root)
        for place in places:
            shutil.rmtree(place, ignore_errors=True)


def _unmounted(root: Path) -> None:
    deadline = time.monotonic() + 30
    while subprocess.run(["umount", root], capture_output=True, timeout=30, check=False).returncode != 0:
        if time.monotonic() > deadline:
            with suppress(subprocess.SubprocessError):
                subprocess.run(["umount", "--lazy", root], timeout=30, check=False)
            return
        time.sleep(0.2)
