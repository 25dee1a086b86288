"""`fleetcast demo`: runs the steps, and leaves nothing behind, however it ends."""

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fleetcast.bus import connect
from fleetcast.cli.call import Call
from fleetcast.cli.connection import quiet_logs
from fleetcast.cli.demo import circle
from fleetcast.cli.demo import report as reporting
from fleetcast.cli.demo.report import Report, StepResult
from fleetcast.cli.demo.stage import SLOW, SLOW_BYTES_PER_SECOND, Stage
from fleetcast.cli.demo.steps import STEPS, Step
from fleetcast.cli.live import watched
from fleetcast.cli.local.answering import any_port_of_gateway
from fleetcast.cli.local.fleet import LocalFleet, Plan, local_fleet
from fleetcast.cli.local.layout import Layout, Policies, node_names
from fleetcast.cli.local.processes import end_leftovers
from fleetcast.cli.problems import Exit, Problem
from fleetcast.cli.running import ENDING, run_async
from fleetcast.cli.translate import translate
from fleetcast.cli.units import duration, size
from fleetcast.config.settings import GIB, BusSettings, DistributorSettings

NODES = 3
NEEDED_BYTES = 3 * GIB // 2
"""Three nodes with three versions of 64 MiB, what they came from, and the space that nodes leave free."""
STREAMS_SECONDS = 30.0
POLICIES = Policies(Path(__file__).with_name("gates.toml"), Path(__file__).with_name("monitor.toml"))


def run(call: Call, *, keep: bool, full: bool = False) -> Exit:
    """Tell the story; exit 1 when a step did not do what it should.

    Args:
        keep: leave the folder there.
        full: with training, which takes two minutes more.
    """
    quiet_logs()
    began = time.monotonic()
    report = Report()
    with _folder(call, keep=keep) as folder:
        layout = Layout(folder)
        _guarded(call, layout, report, full=full)
        _stopped(call, report)
    seconds = time.monotonic() - began
    if not keep:
        _gone(call, report, folder)
    _tell(call, report, layout, seconds, kept=keep)
    return Exit.OK if report.ok else Exit.FAILED


@contextmanager
def _folder(call: Call, *, keep: bool) -> Iterator[Path]:
    """A folder of its own; removed afterwards unless it is to be kept.

    Raises:
        Problem: there is not enough space.
    """
    folder = Path(tempfile.mkdtemp(prefix="fleetcast-demo-"))
    try:
        free = shutil.disk_usage(folder).free
        if free < NEEDED_BYTES:
            raise Problem(
                "no_space",
                f"the demo needs {size(NEEDED_BYTES)} in {folder.parent}, and {size(free)} are free",
                next_step="TMPDIR=/var/tmp fleetcast demo",
            )
        yield folder
    finally:
        # From here on nothing interrupts it: first nothing runs any more, then nothing lies around.
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        end_leftovers()
        if keep:
            call.out.say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _guarded(call: Call, layout: Layout, report: Report, *, full: bool) -> None:
    """Run the steps; what goes wrong is put into the report."""
    try:
        run_async(_steps(call, layout, report, full=full))
    except Exception as error:
        problem = error if isinstance(error, Problem) else translate(error)
        report.error = problem.document()
        call.out.say(f"  failed: {problem.what}")
        _show_logs(call, layout)


async def _steps(call: Call, layout: Layout, report: Report, *, full: bool) -> None:
    slow = {SLOW: SLOW_BYTES_PER_SECOND}
    plan = Plan(node_names(NODES), download_limits=slow, policies=POLICIES, gateway_port=any_port_of_gateway())
    if full:
        policies = replace(POLICIES, lanes=circle.write_lanes(layout))
        plan = replace(plan, policies=policies, trainers=circle.TRAINERS)
    began = time.monotonic()
    async with local_fleet(layout, plan) as local:
        await _story(call, local, report, began, (*STEPS, *circle.STEPS) if full else STEPS)
        began = time.monotonic()
        killed = await local.stop()
        detail = f"{', '.join(killed)} had to be killed" if killed else "nodes and nats-server ended in order"
        report.steps.append(StepResult("stop", not killed, time.monotonic() - began, detail))


async def _story(
    call: Call, local: LocalFleet, report: Report, began: float, steps: Sequence[tuple[str, Step]]
) -> None:
    settings = BusSettings(url=local.url)
    heartbeat = DistributorSettings().heartbeat_seconds
    async with (
        connect(settings, node="demo", daemon="cli", wait=True) as bus,
        watched(bus, heartbeat, streams_seconds=STREAMS_SECONDS) as fleet,
    ):
        stage = Stage(call.out, local, bus, fleet)
        for number, (name, step) in enumerate(steps, 1):
            call.out.say(f"[{number}/{len(steps)}] {name}")
            # The first step began when the first process was started.
            await _take(call, stage, name, step, report, began if number == 1 else time.monotonic())
            if number == 1 and local.gateway:
                call.out.say(f"      watch it: {local.gateway}")
        report.installs = await reporting.installs(stage)
        report.nodes = reporting.nodes(stage)


async def _take(call: Call, stage: Stage, name: str, step: Step, report: Report, began: float) -> None:
    try:
        detail = await step(stage)
    except Exception as error:
        problem = error if isinstance(error, Problem) else translate(error)
        why = f"{problem.what}: {problem.why}" if problem.why else problem.what
        report.steps.append(StepResult(name, False, time.monotonic() - began, why))
        raise problem from error
    seconds = time.monotonic() - began
    report.steps.append(StepResult(name, True, seconds, detail))
    call.out.say(f"      ok, {duration(seconds)}: {detail}")


def _stopped(call: Call, report: Report) -> None:
    """Prove that no process is left."""
    left = end_leftovers()
    if left:
        call.out.say(f"  left behind and killed: {'; '.join(left)}")
    report.steps.append(StepResult("leave no process", not left, 0.0, "; ".join(left) or "none is left"))


def _gone(call: Call, report: Report, folder: Path) -> None:
    """Prove that no file is left."""
    there = folder.exists()
    if there:
        call.out.say(f"  could not be removed: {folder}")
    report.steps.append(StepResult("leave no folder", not there, 0.0, f"{folder} {'is left' if there else 'is gone'}"))


def _show_logs(call: Call, layout: Layout) -> None:
    """The end of every log, because the folder is about to go."""
    for log in sorted(layout.logs.glob("*.log")):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:]
        call.out.say(f"--- the end of {log.name}")
        for line in lines:
            call.out.say(f"    {line}")


def _tell(call: Call, report: Report, layout: Layout, seconds: float, *, kept: bool) -> None:
    call.out.document(report.document(seconds))
    if report.ok:
        reporting.tell(call.out, report, layout, kept=kept)
        call.out.say(f"all of it in {duration(seconds)}")
        return
    failed = next((step for step in report.steps if not step.ok), None)
    call.out.say(f"error: the demo failed{f' at: {failed.name}' if failed else ''}")
    if report.error:
        call.out.say(f"  why:  {report.error['message']} {report.error['why']}")
    call.out.say("  next: fleetcast doctor, then fleetcast demo --keep and read the logs in its folder")
