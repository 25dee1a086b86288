"""Power cuts: what a machine has not written to its disk is lost by copying the disk."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.integration.store.crashes.judging import judge, target
from tests.integration.store.crashes.scenarios import SCENARIOS, Scenario
from tests.integration.store.crashes.site import Site

from fleetcast.transport import failpoints
from fleetcast.transport.failpoints import failpoint


class disk:  # noqa: N801 - reads as a noun
    """An ext4 file system in an image file, mounted; what the machine has not written to it is lost by copying it."""

    def __init__(self, image: Path) -> None:
        self._image, self._place = image, image.with_suffix(".mnt")

    def __enter__(self) -> Path:
        self._place.mkdir(exist_ok=True)
        # No commit of the journal by the clock: only what was synced counts.
        subprocess.run(["mount", "-o", "loop,commit=600", self._image, self._place], check=True)
        return self._place

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", self._place], check=True)


def power(name: str, points: list[str], *, synced: bool = True) -> dict[str, list[str]]:
    """Cut the power at each of *points* (`end`: after everything returned); says which cases went wrong."""
    failures = {}
    with tempfile.TemporaryDirectory(prefix="power-") as top:
        template = Path(top) / "template.img"
        with template.open("wb") as image:
            image.truncate(40 * 2**20)
        subprocess.run(["mkfs.ext4", "-q", "-F", template], check=True)
        with disk(template) as root:
            SCENARIOS[name].prepare(Site(root / "site"))
        for point in points:
            if wrong := _cut(SCENARIOS[name], template, point, synced=synced):
                failures[point] = wrong
    return failures


def _cut(scenario: Scenario, template: Path, point: str, *, synced: bool) -> list[str]:
    running, cut = template.with_name("running.img"), template.with_name("cut.img")
    shutil.copyfile(template, running)
    with disk(running) as root:
        child = _run_and_stop(scenario, root / "site", point, synced=synced)
        shutil.copyfile(running, cut)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with disk(cut) as root:
        wrong = _not_final(scenario, root / "site") if point == "end" else []
        return wrong + judge(scenario, root / "site")


def _run_and_stop(scenario: Scenario, root: Path, point: str, *, synced: bool) -> int:
    child = os.fork()
    if child == 0:
        if not synced:
            os.fsync = _no_sync
        failpoints.arm(f"{point}=stop;end=stop")
        scenario.run(Site(root))
        failpoint("end")
        os._exit(0)
    assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
    return child


def _no_sync(fd: object) -> None:
    """What a disk that lies, or a store that forgets to sync, does."""


def _not_final(scenario: Scenario, root: Path) -> list[str]:
    found = {line: target(root / "data" / line / "current") for line in scenario.final}
    return [] if found == scenario.final else [f"everything had returned, and the pointers are {found}"]
