"""The systemd units of fleetcast, as data: the one place that they are written in.

`python -m fleetcast.cli.install.units deploy` renews the copies that are shipped. They work with systemd 252,
and score at most 1.5 in `systemd-analyze security`, those that compute on GPUs at most 2.0.
"""

import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CURRENT: Final = "/opt/fleetcast/current"
PROGRAM: Final = f"{CURRENT}/bin/fleetcast"
SETTINGS: Final = "/etc/fleetcast/fleetcast.toml"
CREDENTIALS: Final = "/etc/fleetcast/credentials"
USER: Final = "fleetcast"
TARGET: Final = "fleetcast.target"
BACKUP: Final = "backup"
BACKUP_UNIT, TIMER = "fleetcast-backup.service", "fleetcast-backup.timer"
WIDTH: Final = 118


@dataclass(frozen=True, slots=True)
class Line:
    """One setting of a unit; *why* stands above it as a comment, *value* None takes a common one away."""

    key: str
    value: str | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """What is particular about a daemon as a service.

    Attributes:
        does: the unit's description, after the daemon's name.
        ready: when it becomes so.
        ends: why its stop takes no longer than `TimeoutStopSec`.
        state: its folders below /var/lib, which it may write.
        files: descriptors that it may hold.
        after: further units that it starts after.
        differs: settings in place of the common ones of the same key, or besides them.
    """

    does: str
    ready: str
    ends: str
    state: tuple[str, ...] = (f"{USER}/metrics",)
    files: int = 4096
    after: tuple[str, ...] = ()
    differs: tuple[Line, ...] = ()


SERVICE: Final = (
    Line("NotifyAccess", "main"),
    Line("User", USER),
    Line("Group", USER),
    Line(
        "WatchdogSec",
        "30",
        "Fed by proven progress of its parts, its event loop and the bus: one that hangs is started anew.",
    ),
    Line("Restart", "always"),
    Line("RestartSec", "2"),
    Line(
        "RestartPreventExitStatus",
        "2",
        "A mistake in the settings is not cured by another start: exit 2 stays down, and the journal names it.",
    ),
)
HARDENING: Final = (
    Line("CapabilityBoundingSet", ""),
    Line("AmbientCapabilities", ""),
    Line("NoNewPrivileges", "yes"),
    Line("PrivateUsers", "yes"),
    Line(
        "ProtectSystem",
        "strict",
        "Only its state folder can be written; `fleetcast install` adds what the settings name elsewhere.",
    ),
    Line("ProtectHome", "yes"),
    Line("PrivateTmp", "yes"),
    Line("PrivateMounts", "yes"),
    Line("PrivateDevices", "yes"),
    Line("DevicePolicy", "closed"),
    Line("ProtectProc", "invisible"),
    Line("ProcSubset", "pid"),
    Line("ProtectKernelTunables", "yes"),
    Line("ProtectKernelModules", "yes"),
    Line("ProtectKernelLogs", "yes"),
    Line("ProtectControlGroups", "yes"),
    Line("ProtectClock", "yes"),
    Line("ProtectHostname", "yes"),
    Line("RestrictNamespaces", "yes"),
    Line("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
    Line("RestrictRealtime", "yes"),
    Line("RestrictSUIDSGID", "yes"),
    Line("LockPersonality", "yes"),
    Line("MemoryDenyWriteExecute", "yes"),
    Line("KeyringMode", "private"),
    Line(
        "RemoveIPC",
        "no",
        "With yes, the end of this user's last unit would take the shared memory of training runs, which go on.",
    ),
    Line("SystemCallArchitectures", "native"),
    Line("SystemCallFilter", "@system-service"),
    Line("SystemCallFilter", "~@privileged @resources"),
    Line("SystemCallErrorNumber", "EPERM"),
    Line("UMask", "0027"),
)

_CALLS: Final = (Line("SystemCallFilter", "@system-service"), Line("SystemCallFilter", "~@privileged"))
PROFILES: Final[Mapping[str, Profile]] = {
    "distributor": Profile(
        does="fetches, verifies, installs and serves models",
        ready="once what is installed is offered again",
        ends="10 s for transfers to finish, 15 s to clean up, 5 s to leave",
        state=(USER,),
        files=65536,
        differs=(
            Line("ProtectHome", "read-only", "Folders to publish from are often in a home."),
            Line("ProcSubset", "all", "Looks at the pressure on the disk, and on which port its aria2c listens."),
            Line(
                "RestrictAddressFamilies",
                "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
                "libtorrent asks the kernel by netlink which addresses there are.",
            ),
            *_CALLS[:1],
            Line(
                _CALLS[1].key, _CALLS[1].value, "limits.nice lowers its own priority, for which @resources is needed."
            ),
            Line("UMask", "0022", "Serving processes of other users read the models."),
        ),
    ),
    "trainer": Profile(
        does="starts what lanes ask for, and sees it to its end",
        ready="once it knows which runs there are",
        ends="runs are left alone, there is little to finish",
        state=(USER,),
        files=65536,
        after=("fleetcast-distributor.service",),
        differs=(
            Line(
                "KillMode",
                "process",
                "A run outlives the daemon that started it: only the daemon is stopped, its next life goes on with it.",
            ),
            Line(
                "Delegate",
                "yes",
                "Each run has a control group of its own below this one; one killed for its memory ends nobody else.",
            ),
            Line("OOMPolicy", "continue"),
            Line("ProtectControlGroups", "no"),
            Line(
                "PrivateUsers",
                "no",
                "A daemon in a user namespace of its own would not see the runs that its former life started.",
            ),
            Line("PrivateTmp", "no", "A private /tmp would be emptied under the runs when the daemon is started anew."),
            Line("ReadWritePaths", "/tmp /var/tmp"),  # noqa: S108  # what jobs may write
            Line("PrivateDevices", "no", "The GPUs, and nothing else of /dev that is not everybody's."),
            Line("DeviceAllow", "char-nvidia rw"),
            Line("DeviceAllow", "char-nvidiactl rw"),
            Line("DeviceAllow", "char-nvidia-frontend rw"),
            Line("DeviceAllow", "char-nvidia-uvm rw"),
            Line("DeviceAllow", "char-nvidia-caps rw"),
            Line("DeviceAllow", "char-drm rw"),
            Line("DeviceAllow", "char-kfd rw"),
            Line("ProcSubset", "all", "PyTorch asks for processors and memory."),
            Line(
                "RestrictAddressFamilies",
                "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
                "NCCL and Gloo ask for addresses by netlink.",
            ),
            Line("MemoryDenyWriteExecute", "no", "CUDA, ROCm and torch.compile write code and run it."),
            *_CALLS[:1],
            Line(
                _CALLS[1].key,
                _CALLS[1].value,
                "Threads of numpy and PyTorch choose their processors, for which @resources is needed.",
            ),
            Line("UMask", "0022"),
        ),
    ),
    "registry": Profile(
        does="decides which version of a model is served",
        ready="once it answers",
        ends="decisions are atomic: only answers under way are finished",
        state=(f"{USER}/metrics", f"{USER}/registry"),
    ),
    "monitor": Profile(
        does="judges how the served versions perform",
        ready="once it has read what was judged before",
        ends="what it knows is in the stream: there is nothing to finish",
    ),
    "remedy": Profile(
        does="keeps incidents, and runs playbooks",
        ready="once it answers",
        ends="every step of a playbook is kept before it is taken; another life goes on with it",
    ),
    "notifier": Profile(
        does="tells people what happened and what was done",
        ready="once it listens",
        ends="a message on its way is finished, the others wait in the stream",
    ),
    "gateway": Profile(
        does="answers over HTTP, and shows the dashboard",
        ready="once it answers",
        ends="requests under way are finished, streams of events are closed",
        files=65536,
    ),
}
ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "node": ("distributor",),
    "gpu": ("distributor", "trainer"),
    "control": ("registry", "monitor", "remedy", "notifier"),
    "gateway": ("gateway",),
}
"""Which daemons make a machine what it is; one machine may have several roles."""
GPU_UNITS: Final = frozenset({"trainer"})
RESTART_ORDER: Final = ("registry", "monitor", "remedy", "notifier", "gateway", "distributor", "trainer")
"""Who decides before who carries out: a newer order is never met by an older registry."""


def unit_name(daemon: str) -> str:
    """`fleetcast-distributor.service`."""
    return f"fleetcast-{daemon}.service"


def service(daemon: str) -> str:
    """The text of a daemon's unit."""
    profile = PROFILES[daemon]
    after = " ".join(("network-online.target", "nats-server.service", *profile.after))
    head = (
        Line("Description", f"fleetcast {daemon}: {profile.does}"),
        Line("Wants", "network-online.target"),
        Line("After", after),
        Line("PartOf", TARGET),
        Line("StartLimitIntervalSec", "0", "A machine whose NATS is away for an hour must come back by itself."),
    )
    start = (
        Line(
            "Type",
            "notify",
            f"READY=1 comes {profile.ready}, and a message was stored on the bus and read back; until then the daemon "
            "prolongs its start as long as it tries.",
        ),
        Line("ExecStart", f"{PROGRAM} run {daemon} --config {SETTINGS}"),
        Line(
            "LoadCredential",
            f"fleetcast:{CREDENTIALS}/{daemon}",
            'Every file of this folder, which only root reads; the settings name it as "credential:FILE".',
        ),
    )
    common = (*SERVICE, *_state(profile), *_stopping(profile), Line("LimitNOFILE", str(profile.files)), *HARDENING)
    body = (*start, *merged(common, profile.differs))
    tail = (Line("WantedBy", TARGET),)
    edit = f"systemctl edit {unit_name(daemon)}"
    about = f"Made by `fleetcast install`, which replaces it: changes belong in a drop-in ({edit})."
    return _text(about, {"Unit": head, "Service": body, "Install": tail})


def backup_service() -> str:
    """The text of what makes one backup, as the timer starts it."""
    head = (
        Line("Description", "fleetcast backup: writes the streams to a sealed file"),
        Line("Documentation", "man:systemd.timer(5)"),
        Line("Wants", "network-online.target"),
        Line("After", "network-online.target nats-server.service"),
    )
    start = (
        Line("Type", "oneshot", "A failed one stays failed until the next day, for systemctl and the alert to show."),
        Line("ExecStart", f"{PROGRAM} backup create --config {SETTINGS}"),
        Line(
            "LoadCredential",
            f"fleetcast:{CREDENTIALS}/{BACKUP}",
            "A key of the role control. The private key that opens backups does not belong on this machine.",
        ),
        Line("User", USER),
        Line("Group", USER),
        Line("StateDirectory", f"{USER}/backups"),
        Line("TimeoutStartSec", "2h", "A snapshot of the largest streams; NATS goes on meanwhile."),
        Line("Nice", "10"),
        Line("IOSchedulingClass", "idle"),
        *(Line(line.key, "0077") if line.key == "UMask" else line for line in HARDENING),
    )
    about = (
        f"Made by `fleetcast install`, which replaces it: changes belong in a drop-in (systemctl edit {BACKUP_UNIT})."
    )
    return _text(about, {"Unit": head, "Service": start})


def backup_timer() -> str:
    """The text of what starts a backup every day."""
    about = f"Made by `fleetcast install`, which replaces it: changes belong in a drop-in (systemctl edit {TIMER})."
    unit = (Line("Description", "fleetcast backup, every day"),)
    timer = (
        Line("OnCalendar", "daily"),
        Line("RandomizedDelaySec", "30min", "Control machines are two: not both at the same moment."),
        Line("Persistent", "yes", "A machine that was off at that hour makes it when it is back."),
        Line("Unit", BACKUP_UNIT),
    )
    return _text(about, {"Unit": unit, "Timer": timer, "Install": (Line("WantedBy", "timers.target"),)})


def nats_server() -> str:
    """The text of a unit for the NATS server that comes with fleetcast, or with a package of one's own."""
    about = (
        "A NATS server for fleetcast, one or a member of three: deploy/nats/README.md says what it is configured with."
    )
    unit = (
        Line("Description", "NATS server"),
        Line("Wants", "network-online.target"),
        Line("After", "network-online.target"),
        Line("StartLimitIntervalSec", "0"),
    )
    service = (
        Line("ExecStart", f"{CURRENT}/bin/nats-server -c /etc/nats/nats-server.conf"),
        Line(
            "ExecReload",
            f"{CURRENT}/bin/nats-server --signal reload=$MAINPID",
            "New users and certificates, without a connection lost.",
        ),
        Line("DynamicUser", "yes"),
        Line("StateDirectory", "nats"),
        Line(
            "LoadCredential",
            "nats:/etc/nats/credentials",
            "Keys: the configuration names /run/credentials/nats-server.service/nats_FILE.",
        ),
        Line("Restart", "always"),
        Line("RestartSec", "2"),
        Line("KillSignal", "SIGUSR2", "Lame duck: clients move to another server before this one ends."),
        Line("TimeoutStopSec", "90"),
        Line("LimitNOFILE", "65536"),
        *(line for line in HARDENING if line.key not in {"PrivateTmp", "RemoveIPC"}),
    )
    return _text(about, {"Unit": unit, "Service": service, "Install": (Line("WantedBy", "multi-user.target"),)})


def target() -> str:
    """The text of what all units of a machine belong to."""
    about = "All that runs of fleetcast on this machine: systemctl start|stop|status fleetcast.target."
    return _text(
        about,
        {
            "Unit": (
                Line("Description", "fleetcast, all daemons of this machine"),
                Line(
                    "DefaultDependencies",
                    "no",
                    "Else the start of the machine would be over only when every daemon had found NATS.",
                ),
                Line("Conflicts", "shutdown.target"),
                Line("Before", "shutdown.target"),
            ),
            "Install": (Line("WantedBy", "multi-user.target"),),
        },
    )


def paths_drop_in(paths: Iterable[str], *, homes: bool) -> str:
    """The text of what a unit may reach besides its state folder: *paths* to write, and *homes* to read."""
    rows = [Line("ReadWritePaths", f"-{path}") for path in paths]
    if homes:
        rows.insert(0, Line("ProtectHome", "read-only", "Some of what it needs is in a home folder."))
    return _text("Made by `fleetcast install` from the settings: what this daemon uses elsewhere.", {"Service": rows})


def merged(common: Iterable[Line], differs: Iterable[Line]) -> list[Line]:
    """*common* with those of *differs* in place of the ones with the same keys, the others behind them."""
    instead: dict[str, list[Line]] = {}
    for line in differs:
        instead.setdefault(line.key, []).append(line)
    rows: list[Line] = []
    done: set[str] = set()
    for line in common:
        if line.key not in instead:
            rows.append(line)
        elif line.key not in done:
            done.add(line.key)
            rows.extend(instead[line.key])
    rows.extend(line for key, lines in instead.items() if key not in done for line in lines)
    return [line for line in rows if line.value is not None]


def beside(daemons: Iterable[str]) -> dict[str, str]:
    """Units that a machine with *daemons* has besides theirs, by their names: a backup belongs where decisions are
    made."""
    return {BACKUP_UNIT: backup_service(), TIMER: backup_timer()} if "registry" in set(daemons) else {}


def files() -> dict[str, str]:
    """All units by their names."""
    return {**{unit_name(daemon): service(daemon) for daemon in PROFILES}, TARGET: target(), **beside(PROFILES)}


def shipped() -> dict[str, str]:
    """All copies below deploy/ by their paths."""
    return {**{f"systemd/{name}": text for name, text in files().items()}, "nats/nats-server.service": nats_server()}


def _state(profile: Profile) -> tuple[Line, ...]:
    return (Line("StateDirectory", " ".join(profile.state)),)


def _stopping(profile: Profile) -> tuple[Line, ...]:
    kill = "SIGTERM to the daemon, which stops its children in order; SIGKILL to all that is left."
    return Line("KillMode", "mixed", kill), Line("TimeoutStopSec", "45", f"At its end: {profile.ends}.")


def _text(about: str, sections: Mapping[str, Iterable[Line]]) -> str:
    blocks = ["\n".join(_comment(about))]
    for name, lines in sections.items():
        rows = [f"[{name}]"]
        for line in lines:
            rows += [*_comment(line.why), f"{line.key}={line.value}"]
        blocks.append("\n".join(rows))
    return "\n\n".join(blocks) + "\n"


def _comment(text: str) -> list[str]:
    return [f"# {row}" for row in textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)]


if __name__ == "__main__":
    for name, text in shipped().items():
        (Path(sys.argv[1]) / name).write_text(text)
