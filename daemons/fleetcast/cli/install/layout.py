"""What belongs on a machine of each role: users, folders, files and links, as values. Paths are those of the machine,
never of the folder that stands for it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleetcast.cli.install import units
from fleetcast.config.settings import Settings
from fleetcast.config.template import render
from fleetcast.daemons.distributor.forwarder import SPOOL_MODE
from fleetcast.daemons.trainer.lanes.loading import Lanes

UNITS: Final = Path("/etc/systemd/system")
SETTINGS: Final = Path(units.SETTINGS)
CREDENTIALS: Final = Path(units.CREDENTIALS)
STATE: Final = Path("/var/lib/fleetcast")
PROGRAMS: Final = Path("/opt/fleetcast")
CURRENT: Final = PROGRAMS / "current"
SYSUSERS: Final = Path("/etc/sysusers.d/fleetcast.conf")
TMPFILES: Final = Path("/etc/tmpfiles.d/fleetcast.conf")
PATHS_DROP_IN: Final = "20-settings.conf"
HOMES: Final = (Path("/home"), Path("/root"), Path("/run/user"))
OPERATOR: Final = "operator"
"""The folder of credentials that the command line uses, beside those of the daemons."""


@dataclass(frozen=True, slots=True)
class File:
    """A file as it should be. *keep*: one that is there is somebody's own, and stays as it is."""

    path: Path
    text: str
    mode: int = 0o644
    group: str = "root"
    keep: bool = False


def unit_path(daemon: str) -> Path:
    """Where a daemon's unit lies."""
    return UNITS / units.unit_name(daemon)


def drop_in_path(daemon: str) -> Path:
    """Where the paths that the settings name lie."""
    return UNITS / f"{units.unit_name(daemon)}.d" / PATHS_DROP_IN


def daemons_of(roles: Iterable[str]) -> tuple[str, ...]:
    """The daemons of *roles*, in the order in which they are started anew."""
    wanted = {daemon for role in roles for daemon in units.ROLES[role]}
    return tuple(daemon for daemon in units.RESTART_ORDER if daemon in wanted)


def with_backup(daemons: Iterable[str]) -> tuple[str, ...]:
    """*daemons*, and the service that makes backups where they have one beside them."""
    chosen = tuple(daemons)
    return (*chosen, units.BACKUP) if units.beside(chosen) else chosen


def files_of(
    daemons: Iterable[str],
    writable: Mapping[str, tuple[Path, ...]],
    data: Path = STATE,
    at_home: Collection[str] = (),
) -> list[File]:
    """Every file of a machine that runs *daemons*, with its store in *data*.

    Args:
        writable: what each writes besides its state folder.
        at_home: those that read what is in a home folder.
    """
    chosen = tuple(daemons)
    found = [File(UNITS / units.TARGET, units.target())]
    found += [File(unit_path(daemon), units.service(daemon)) for daemon in chosen]
    found += [File(UNITS / name, text) for name, text in units.beside(chosen).items()]
    for daemon in with_backup(chosen):
        paths = writable.get(daemon, ())
        homes = daemon in at_home or any(map(is_at_home, paths))
        if paths or homes:
            found.append(File(drop_in_path(daemon), units.paths_drop_in(map(str, paths), homes=homes)))
    return [
        File(SYSUSERS, sysusers(chosen)),
        File(TMPFILES, tmpfiles(chosen, data)),
        File(SETTINGS, render(), mode=0o640, group=units.USER, keep=True),
        *found,
    ]


def sysusers(daemons: Iterable[str]) -> str:
    """The user, for systemd-sysusers(8). What computes on GPUs is a member of the groups that may."""
    rows = [f'u {units.USER} - "fleetcast daemons" {STATE} /usr/sbin/nologin']
    if units.GPU_UNITS & set(daemons):
        rows += [f"m {units.USER} render", f"m {units.USER} video"]
    return _made("\n".join(rows))


def tmpfiles(daemons: Iterable[str], data: Path = STATE) -> str:
    """The folders, for systemd-tmpfiles(8), which makes those again at every start that have gone."""
    chosen = tuple(daemons)
    owner = f"{units.USER} {units.USER}"
    rows = [
        "d /etc/fleetcast 0755 root root",
        *(f"d {folder} 0700 root root" for folder in (CREDENTIALS, CREDENTIALS / OPERATOR)),
        *(f"d {CREDENTIALS / daemon} 0700 root root" for daemon in with_backup(chosen)),
        *(f"d {folder} 0755 {owner}" for folder in dict.fromkeys((STATE, data))),
    ]
    if "distributor" in chosen:
        # Jobs of other users add to it: the group's bit of a folder is not to be set from inside of a unit's walls.
        rows.append(f"d {data / 'spool'} {SPOOL_MODE:04o} {owner}")
    return _made("\n".join(rows))


def writable(settings: Settings, lanes: Lanes, daemon: str) -> tuple[Path, ...]:
    """What a daemon writes by these settings that is not below its state folder."""
    data = settings.store.data
    if daemon == units.BACKUP:
        folder = settings.backup.folder
        return () if folder.is_relative_to(STATE / "backups") else (folder,)
    found = [data / "metrics"]
    if daemon == "distributor":
        # A spool is emptied, and a file that is handed over loses its write bits.
        found += [data, *settings.distributor.spools, *settings.store.handover_roots]
    elif daemon == "trainer":
        folders = (lane.definition.checkpoints.folder for lane in lanes.all.values())
        found += [data, *(data / folder for folder in folders if folder)]
    elif daemon == "registry":
        read_model = settings.registry.read_model
        found.append(read_model.parent if read_model else data / "registry")
    states = [STATE.parent / state for state in units.PROFILES[daemon].state]
    return tuple(path for path in dict.fromkeys(found) if not any(path.is_relative_to(state) for state in states))


def is_at_home(path: Path) -> bool:
    """Whether it is in somebody's home folder, which units do not see."""
    return any(path.is_relative_to(home) for home in HOMES)


def works_at_home(lanes: Lanes) -> bool:
    """Whether the program, an argument or the folder of a lane's runs is in a home folder."""
    found = (lane.definition for lane in lanes.all.values())
    return any(is_at_home(Path(word)) for lane in found for word in (*lane.command, lane.cwd or ""))


def _made(text: str) -> str:
    return f"# Made by `fleetcast install`, which replaces it.\n{text}\n"
