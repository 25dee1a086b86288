"""From what a machine has and what it is to have to the steps in between. Reads the machine, changes nothing."""

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from fleetcast.cli.install import layout, units
from fleetcast.cli.install.layout import File
from fleetcast.cli.problems import Exit, Problem, not_found
from fleetcast.config.loader import load
from fleetcast.config.settings import Settings
from fleetcast.daemons.trainer.lanes.loading import Lanes, load_all

State = Literal["new", "changed", "same", "kept"]
RUNNING: Final = Path("/run/systemd/system")
"""Is there where systemd is the first process (sd_booted(3))."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine by the folder that its root is: `/` is this one, another an image."""

    root: Path = Path("/")

    def place(self, path: Path) -> Path:
        """Where *path* of the machine lies here."""
        return self.root / path.relative_to("/")

    def own(self, place: Path) -> Path:
        """The reverse of `place`; what lies outside is left as it is."""
        return Path("/") / place.relative_to(self.root) if place.is_relative_to(self.root) else place

    @property
    def live(self) -> bool:
        """Whether its systemd can be told to start something."""
        return self.root == Path("/") and RUNNING.is_dir()

    def tool(self, name: str, *arguments: str) -> tuple[str, ...]:
        """A command of systemd about this machine."""
        return (name, *(() if self.live else (f"--root={self.root}",)), *arguments)

    def installed(self) -> tuple[str, ...]:
        """The daemons whose units are there."""
        return tuple(daemon for daemon in units.PROFILES if self.place(layout.unit_path(daemon)).is_file())


@dataclass(frozen=True, slots=True)
class Write:
    """A file is written, unless it is as it should be already."""

    file: File
    state: State


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link is set."""

    path: Path
    target: str
    state: State


@dataclass(frozen=True, slots=True)
class Remove:
    """A file or a whole folder is removed."""

    path: Path
    what: Literal["file", "folder", "folder if empty"] = "file"


@dataclass(frozen=True, slots=True)
class Run:
    """A program is run; *may_fail*: what it ends may be gone already."""

    command: tuple[str, ...]
    may_fail: bool = False


Step = Write | Link | Remove | Run


@dataclass(frozen=True)
class Plan:
    """What is to be done, in order, and what a person should know about it."""

    steps: tuple[Step, ...]
    daemons: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())


def plan_install(machine: Machine, role: str, *, use: str | None, start: bool) -> Plan:
    """What makes *machine* one of *role*, besides what it is already.

    Args:
        use: folder below /opt/fleetcast whose fleetcast is run; None: what is run already.
        start: whether its daemons are started, where there were settings before.

    Raises:
        ConfigError: the settings or lanes that are there are wrong.
        Problem: there is no fleetcast where the units look for one.
    """
    daemons = layout.daemons_of([role])
    every = tuple(d for d in units.RESTART_ORDER if d in {*daemons, *machine.installed()})
    settings = _settings(machine)
    data = machine.own(settings.store.data)
    lanes = _lanes(machine, settings)
    writable: dict[str, tuple[Path, ...]] = {
        d: tuple(map(machine.own, layout.writable(settings, lanes, d))) for d in layout.with_backup(every)
    }
    at_home = {"trainer"} if layout.works_at_home(lanes) else set[str]()
    writes = [_write(machine, file) for file in layout.files_of(every, writable, data, at_home)]
    users, folders, *others = writes
    current = _current(machine, use)
    stale = [Remove(path) for path in _stale(machine, every, {w.file.path for w in writes})]
    steps: list[Step] = [
        users,
        folders,
        Run(machine.tool("systemd-sysusers", layout.SYSUSERS.name)),
        Run(machine.tool("systemd-tmpfiles", "--create", layout.TMPFILES.name)),
        *others,
        *stale,
        *current,
        *([Run(("systemctl", "daemon-reload"))] if machine.live else []),
        Run(machine.tool("systemctl", "enable", units.TARGET, *map(units.unit_name, daemons), *_timers(daemons))),
    ]
    configured = any(w.state == "kept" for w in writes)
    if machine.live and start and configured:
        states = {*(write.state for write in writes), *(link.state for link in current)}
        anew = bool(stale) or not states <= {"same", "kept"}
        # One after the other: each is ready, by a round trip over the bus, before the next is taken down.
        steps += [Run(("systemctl", "restart", units.unit_name(daemon))) for daemon in every if anew]
        steps.append(Run(("systemctl", "start", units.TARGET, *_timers(daemons))))
    return Plan(
        tuple(steps), daemons, tuple(_notes(machine, configured=configured, start=start, current=bool(current)))
    )


def plan_uninstall(machine: Machine, role: str, *, purge: bool) -> Plan:
    """What takes *role* away from *machine*; data, settings and the user go by *purge* only.

    Raises:
        Problem: nothing of it is there; other roles are left, which need what would be purged.
    """
    there = machine.installed()
    daemons = tuple(d for d in layout.daemons_of([role]) if d in there)
    left = tuple(d for d in there if d not in daemons)
    if not daemons and not (purge and not left):
        raise not_found(f"no unit of {role} is installed", next_step="fleetcast install --help")
    if purge and left:
        raise Problem(
            "refused",
            f"{', '.join(left)} still need what would be purged",
            next_step="uninstall the other roles first, or leave --purge out",
            exit_code=Exit.REFUSED,
        )
    steps: list[Step] = []
    names = [units.unit_name(daemon) for daemon in daemons]
    if machine.live and names:
        steps.append(Run(("systemctl", "stop", *names, *_timers(daemons)), may_fail=True))
    gone = [*names, *_timers(daemons), *([] if left else [units.TARGET])]
    if names:
        steps.append(Run(machine.tool("systemctl", "disable", *gone), may_fail=True))
    for daemon in layout.with_backup(daemons):
        steps.append(Remove(layout.unit_path(daemon)))
        if machine.place(layout.drop_in_path(daemon)).is_file():
            steps += [
                Remove(layout.drop_in_path(daemon)),
                Remove(layout.drop_in_path(daemon).parent, "folder if empty"),
            ]
    steps += [Remove(layout.UNITS / name) for name in _timers(daemons)]
    if not left:
        steps += [Remove(path) for path in (layout.UNITS / units.TARGET, layout.SYSUSERS, layout.TMPFILES)]
    if machine.live:
        steps.append(Run(("systemctl", "daemon-reload")))
    if purge:
        steps += _purge(machine)
    return Plan(tuple(s for s in steps if _is_due(machine, s)), daemons, tuple(_left(machine, purge=purge, left=left)))


def _timers(daemons: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in units.beside(daemons) if name.endswith(".timer"))


def _write(machine: Machine, file: File) -> Write:
    place = machine.place(file.path)
    if not place.exists():
        return Write(file, "new")
    if file.keep:
        return Write(file, "kept")
    same = place.read_text() == file.text and stat.S_IMODE(place.stat().st_mode) == file.mode
    return Write(file, "same" if same else "changed")


def _settings(machine: Machine) -> Settings:
    """Those of the machine; the defaults where it has none yet."""
    place = machine.place(layout.SETTINGS)
    # What this process was told by its environment is not what the units will be told.
    return load(place, env={}).settings if place.is_file() else Settings()


def _lanes(machine: Machine, settings: Settings) -> Lanes:
    """Those that the settings of the machine name."""
    file = settings.trainer.lanes
    return Lanes({}) if file is None else load_all(machine.place(machine.own(file)))


def _stale(machine: Machine, daemons: Sequence[str], wanted: set[Path]) -> list[Path]:
    paths = [layout.drop_in_path(daemon) for daemon in layout.with_backup(daemons)]
    return [path for path in paths if path not in wanted and machine.place(path).exists()]


def _current(machine: Machine, use: str | None) -> list[Link]:
    if use is None:
        if not machine.place(layout.CURRENT).is_symlink() and machine.root == Path("/"):
            raise Problem(
                "no_program",
                f"there is no fleetcast in {layout.PROGRAMS}, where the units look for it",
                why="this one runs from elsewhere, a checkout or a home, which may change or go away",
                next_step="make a virtual environment of its own, /opt/fleetcast/VERSION, and run the install of that "
                "(docs/install.md)",
            )
        return []
    if not os.access(machine.place(layout.PROGRAMS / use / "bin" / "fleetcast"), os.X_OK):
        raise not_found(
            f"there is no {layout.PROGRAMS / use}/bin/fleetcast", next_step="docs/install.md: a version of its own"
        )
    link = machine.place(layout.CURRENT)
    present = str(link.readlink()) if link.is_symlink() else None
    return [Link(layout.CURRENT, use, "new" if present is None else "same" if present == use else "changed")]


def _notes(machine: Machine, *, configured: bool, start: bool, current: bool) -> Iterable[str]:
    if not configured:
        yield f"edit {layout.SETTINGS}: at least bus.url; then: fleetcast config check {layout.SETTINGS}"
    if not machine.live:
        yield "systemd does not run there: what is enabled starts with the machine"
    elif not configured or not start:
        yield f"then: systemctl start {units.TARGET}"
    if not current and not machine.place(layout.CURRENT).is_symlink():
        yield f"{layout.CURRENT} is still to be made: a virtual environment with fleetcast (docs/install.md)"


def _purge(machine: Machine) -> list[Step]:
    prefix = () if machine.root == Path("/") else (f"--prefix={machine.root}",)
    known = any(row.startswith(f"{units.USER}:") for row in _passwd(machine))
    return [
        Remove(layout.STATE, "folder"),
        Remove(layout.SETTINGS.parent, "folder"),
        *([Run(("userdel", *prefix, units.USER))] if known else []),
    ]


def _passwd(machine: Machine) -> list[str]:
    place = machine.place(Path("/etc/passwd"))
    return place.read_text().splitlines() if place.is_file() else []


def _left(machine: Machine, *, purge: bool, left: Sequence[str]) -> Iterable[str]:
    if left:
        yield f"still installed: {', '.join(left)}"
        return
    kept = [layout.PROGRAMS] if purge else [layout.STATE, layout.SETTINGS.parent, layout.PROGRAMS]
    there = [str(path) for path in kept if machine.place(path).exists()]
    if there:
        yield f"left as they are: {', '.join(there)}" + ("" if purge else f", and the user {units.USER}")
    place = machine.place(layout.SETTINGS)
    if purge and place.is_file():
        data = machine.own(_settings(machine).store.data)
        if not data.is_relative_to(layout.STATE):
            yield f"left as it is: {data}, which the settings name as store.data"


def _is_due(machine: Machine, step: Step) -> bool:
    return not isinstance(step, Remove) or machine.place(step.path).exists() or step.what == "folder if empty"
