"""`fleetcast up`: NATS and nodes on this machine, until Ctrl-C."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from fleetcast.bus import connect
from fleetcast.cli.call import Call
from fleetcast.cli.connection import absolute, quiet_logs
from fleetcast.cli.live import watched
from fleetcast.cli.local.answering import port_of_gateway
from fleetcast.cli.local.fleet import LocalFleet, Plan, local_fleet
from fleetcast.cli.local.layout import Layout, Policies, node_names
from fleetcast.cli.local.processes import end_leftovers
from fleetcast.cli.local.ups import announced, held
from fleetcast.cli.problems import Exit, Problem
from fleetcast.cli.running import run_async
from fleetcast.config.settings import BusSettings, DistributorSettings
from fleetcast.daemons.monitor import loading as performance
from fleetcast.daemons.trainer.lanes.loading import load_all
from fleetcast.registry import gates as judging

CHECK_SECONDS = 1.0
"""Distance of looks at whether every process still runs."""


def run(
    call: Call,
    *,
    nodes: int,
    folder: Path,
    publish: Sequence[Path],
    port: int,
    slow: float = 0,
    gates: Path | None = None,
    policy: Path | None = None,
    trainers: int = 0,
    lanes: Path | None = None,
    gateway_port: int | None = None,
    gateway: bool = True,
) -> Exit:
    """Run a local fleet in *folder* until SIGINT or SIGTERM.

    Args:
        slow: million bytes per second that each node receives at most; 0: no cap.
        gates: file that the registry judges promotions by.
        policy: file that the monitor judges performance by.
        trainers: how many of the nodes train.
        lanes: file, or folder of files, with what starts training.
        gateway_port: of the gateway; 0: a free one; None: the usual one, and no gateway where that is taken.
        gateway: whether one runs.

    Raises:
        ConfigError: one of these files is not right.
        Problem: the folder is another fleet's, or a daemon did not start.
    """
    quiet_logs()
    layout = Layout(absolute(folder))
    limits = dict.fromkeys(node_names(nodes), round(slow * 1e6)) if slow else {}
    policies = Policies(*(absolute(each) if each else None for each in (gates, policy, lanes)))
    # Said here, before anything runs, and not only in the log of a daemon that ends at once.
    if policies.gates is not None:
        judging.load(policies.gates)
    if policies.monitor is not None:
        performance.load(policies.monitor)
    load_all(policies.lanes)
    names = node_names(nodes)
    plan = Plan(
        names,
        tuple(absolute(each) for each in publish),
        port,
        limits,
        policies,
        trainers=min(trainers or (nodes if lanes else 0), nodes),
        gateway_port=port_of_gateway(call.out, gateway_port) if gateway else None,
    )
    try:
        with held(layout):
            return run_async(_run(call, layout, plan))
    finally:
        end_leftovers()


async def _run(call: Call, layout: Layout, plan: Plan) -> Exit:
    async with local_fleet(layout, plan) as running:
        try:
            with announced(layout, running.url):
                await _ready(running)
                _greet(call, running)
                await _watch_over(call, running)
        finally:
            call.out.say("stopping nodes, then nats-server")
    return Exit.OK


async def _ready(running: LocalFleet) -> None:
    settings = BusSettings(url=running.url)
    async with (
        connect(settings, node="up", daemon="cli", wait=True) as bus,
        watched(bus, DistributorSettings().heartbeat_seconds, streams_seconds=30.0) as fleet,
    ):
        await running.until_ready(fleet)


def _greet(call: Call, running: LocalFleet) -> None:
    layout = running.layout
    call.out.document(
        {
            "url": running.url,
            "folder": str(layout.folder),
            "config": str(layout.config),
            "publish": str(layout.publish),
            "gateway": running.gateway,
            "logs": str(layout.logs),
            "nodes": [
                {"node": name, "pid": child.pid, "data": str(layout.data(name)), "log": str(child.log)}
                for name, child in running.nodes.items()
            ],
            "daemons": [
                {"daemon": name, "pid": child.pid, "log": str(child.log)} for name, child in running.controls.items()
            ],
            "trainers": [
                {"node": name, "pid": child.pid, "log": str(child.log)} for name, child in running.trainers.items()
            ],
        }
    )
    for line in _greeting(running):
        call.out.text(line)
    if running.gateway_ended:
        call.out.say(running.gateway_ended)
    call.out.say("Ctrl-C stops everything")


def _greeting(running: LocalFleet) -> list[str]:
    layout = running.layout
    first = next(iter(running.nodes))
    answers = [f"  dashboard     {running.gateway}    (and REST: docs/gateway.md)"] if running.gateway else []
    training = [f"{', '.join(running.trainers)} train, each with a simulated GPU"] if running.trainers else []
    lanes = ["  fleetcast lanes; fleetcast why LANE"] if running.trainers else []
    return [
        f"{len(running.nodes)} nodes are ready: {', '.join(running.nodes)}",
        *training,
        "",
        *answers,
        f"  export NATS_URL={running.url}      (for the nats command line; fleetcast finds it by itself)",
        f"  publish from  {layout.publish}",
        f"  models        {layout.data('NODE')}/models/MODEL/current",
        f"  logs          {layout.logs}",
        f"  settings      {layout.config}",
        "",
        "in another terminal:",
        f"  cp model.safetensors {layout.publish}/",
        f"  fleetcast promote my_model 1 {layout.publish}/model.safetensors --wait",
        "  fleetcast status --watch",
        *lanes,
        (
            f"  nats pub -J fc.ev.model.promoted.my_model"
            f' \'{{"version":"2","path":"{layout.publish}/model.safetensors","node":"{first}"}}\''
        ),
    ]


async def _watch_over(call: Call, running: LocalFleet) -> None:
    """Look after the processes until cancelled; a node that ends is named once.

    Raises:
        Problem: NATS has ended, and nothing works without it.
    """
    named = {"gateway"} if running.gateway_ended else set()
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        if not running.server.running:
            raise Problem(
                "server_ended",
                "nats-server has ended",
                why=running.server.log_tail(),
                next_step=f"read {running.server.log_path}",
            )
        dead = {name: child for name, child in running.children.items() if not child.running}
        for name in sorted(dead.keys() - named):
            call.out.say(f"{name} ended with exit code {dead[name].exit_code}; see {dead[name].log}")
        named = set(dead)
