"""`fleetcast install` and `uninstall`: shows what would be done, or does it."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from fleetcast.cli.call import Call
from fleetcast.cli.install import layout, units
from fleetcast.cli.install.plan import Link, Machine, Plan, Remove, Run, Step, Write, plan_install, plan_uninstall
from fleetcast.cli.problems import Exit, Problem, usage
from fleetcast.daemons.runtime.journal import JOURNAL_SOCKET, JournalWriter

CHILD = "fleetcast.daemons.trainer.supervision.child"
COMMAND_SECONDS = 180.0
"""For one program: a daemon that is started anew is ready long before."""


def install(call: Call, role: str, *, root: Path, use: str | None, start: bool, show: bool) -> Exit:
    """Make this machine, or the image in *root*, one of *role*."""
    machine = _machine(role, root)
    plan = plan_install(machine, role, use=use or _own_version(), start=start)
    return _carry(call, machine, plan, doing=f"install {role}", show=show)


def uninstall(call: Call, role: str, *, root: Path, purge: bool, reason: str | None, show: bool) -> Exit:
    """Take *role* away again."""
    machine = _machine(role, root)
    if purge and not reason:
        raise usage("--purge needs --reason TEXT", why="it deletes every model, setting and secret of this machine")
    plan = plan_uninstall(machine, role, purge=purge)
    if purge and not show:
        _refuse_while_running(machine)
        entry = {"MESSAGE": f"fleetcast uninstall {role} --purge: {reason}", "PRIORITY": "5", "FC_REASON": str(reason)}
        if machine.live:
            JournalWriter(JOURNAL_SOCKET, fallback=sys.stderr).write(entry)
    return _carry(call, machine, plan, doing=f"uninstall {role}", show=show)


def _machine(role: str, root: Path) -> Machine:
    if role not in units.ROLES:
        raise usage(f"no role is called {role!r}", why=f"there is {', '.join(units.ROLES)}")
    if not root.is_dir():
        raise usage(f"--root: {root} is no folder")
    return Machine(root.resolve())


def _own_version() -> str | None:
    """The folder below /opt/fleetcast that this program runs from; None: it runs from elsewhere, or from `current`."""
    here = Path(sys.prefix)
    return here.name if here.parent == layout.PROGRAMS and here != layout.CURRENT else None


def _refuse_while_running(machine: Machine) -> None:
    """Nothing is purged below a process: a training run outlives its daemon, and so the units."""
    if machine.root != Path("/"):
        return
    try:
        uid = pwd.getpwnam(units.USER).pw_uid
    except KeyError:
        return
    # The daemons themselves are stopped by the plan; they are in units of their own.
    left = [pid for pid in _processes(uid) if _supervises(pid) or not _in_a_unit_of_ours(pid)]
    if left:
        raise Problem(
            "refused",
            f"what processes of the user {units.USER} work on would be deleted: {', '.join(map(str, left[:5]))}",
            next_step="fleetcast runs   and: fleetcast cancel RUN --reason …; or wait until they have ended",
            exit_code=Exit.REFUSED,
        )


def _carry(call: Call, machine: Machine, plan: Plan, *, doing: str, show: bool) -> Exit:
    if not show and os.geteuid() != 0:
        raise Problem("not_root", f"{doing} changes the system", next_step=f"sudo fleetcast {doing}   (or add --print)")
    rows = [_document(step) for step in plan.steps]
    for step in plan.steps:
        if show:
            _show(call, step)
        else:
            _do(machine, step)
            call.out.text(_line(step))
    call.out.document(
        {"did": doing, "done": not show, "root": str(machine.root), "steps": rows, "notes": list(plan.notes)}
    )
    for note in plan.notes:
        call.out.say(note)
    return Exit.OK


def _do(machine: Machine, step: Step) -> None:
    match step:
        case Write(file, state):
            if state in {"new", "changed"}:
                _write(machine, file)
        case Link(path, target, state):
            if state != "same":
                _link(machine.place(path), target)
        case Remove(path, what):
            _remove(machine.place(path), what)
        case Run(command, may_fail):
            _run(command, may_fail=may_fail)


def _write(machine: Machine, file: layout.File) -> None:
    """By a rename: who reads it meanwhile has the old one or the new one, whole."""
    place = machine.place(file.path)
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f".{place.name}.new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as output:
        os.fchown(handle, 0, _gid(machine, file.group))
        os.fchmod(handle, file.mode)
        output.write(file.text)
        output.flush()
        os.fsync(handle)
    fresh.replace(place)


def _gid(machine: Machine, group: str) -> int:
    if group == "root":
        return 0
    rows = (row.split(":") for row in machine.place(Path("/etc/group")).read_text().splitlines())
    return next(int(row[2]) for row in rows if row[0] == group)


def _link(place: Path, target: str) -> None:
    fresh = place.with_name(f".{place.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(place)


def _remove(place: Path, what: str) -> None:
    if what == "folder":
        shutil.rmtree(place)
    elif what == "file":
        place.unlink(missing_ok=True)
    elif place.is_dir() and not any(place.iterdir()):
        place.rmdir()


def _run(command: tuple[str, ...], *, may_fail: bool) -> None:
    what = " ".join(command)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    except FileNotFoundError as e:
        raise Problem("no_systemd", f"{command[0]} is not there", next_step="apt-get install systemd") from e
    except subprocess.TimeoutExpired as e:
        late = f"{what}: no end in {COMMAND_SECONDS:g} s"
        raise Problem("timeout", late, next_step=_look(command), exit_code=Exit.TIMEOUT) from e
    if done.returncode != 0 and not may_fail:
        said = (done.stderr or done.stdout).strip().splitlines()
        step = _look(command)
        raise Problem("failed", f"{what}: exit {done.returncode}", why=said[-1] if said else "", next_step=step)


def _look(command: tuple[str, ...]) -> str:
    """What tells more about a command that did not end well."""
    restarts = command[:2] == ("systemctl", "restart")
    return f"journalctl -n 30 -u {command[-1]}" if restarts else f"run it by hand: {' '.join(command)}"


def _show(call: Call, step: Step) -> None:
    call.out.text(_line(step))
    if isinstance(step, Write) and step.state != "kept":
        for row in step.file.text.splitlines():
            call.out.text(f"    {row}".rstrip())


def _line(step: Step) -> str:
    match step:
        case Write(file, state):
            return f"file    {file.path}  {file.mode:04o} root:{file.group}  {state}"
        case Link(path, target, state):
            return f"link    {path} -> {target}  {state}"
        case Remove(path, what):
            return f"remove  {path}  {what}"
        case Run(command):
            return f"run     {' '.join(command)}"


def _document(step: Step) -> dict[str, object]:
    match step:
        case Write(file, state):
            said = {"mode": f"{file.mode:04o}", "group": file.group, "state": state, "text": file.text}
            return {"do": "write", "path": str(file.path), **said}
        case Link(path, target, state):
            return {"do": "link", "path": str(path), "target": target, "state": state}
        case Remove(path, what):
            return {"do": "remove", "path": str(path), "what": what}
        case Run(command):
            return {"do": "run", "command": list(command)}


def _processes(uid: int) -> Iterator[int]:
    """Numbers of a user's processes."""
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and folder.stat().st_uid == uid:
                yield int(folder.name)
        except FileNotFoundError:
            continue


def _supervises(pid: int) -> bool:
    """Whether a process keeps a training run, which the stop of the trainer's unit leaves in its control group."""
    try:
        return CHILD.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _in_a_unit_of_ours(pid: int) -> bool:
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return True
    return any(groups.rstrip().endswith(units.unit_name(daemon)) for daemon in units.PROFILES)
