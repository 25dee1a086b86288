"""`fleetcast runs`: training runs, one of them, or two beside each other."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from fleetcast.bus import Bus
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.output import SCHEMA_VERSION
from fleetcast.cli.problems import Exit
from fleetcast.cli.registry.reading import document
from fleetcast.cli.running import run_async
from fleetcast.cli.training.asking import ask
from fleetcast.cli.training.tables import compared, listed, shown
from fleetcast.cli.units import counted
from fleetcast.registry.querying import QueryAnswer

WATCH_SECONDS = 2.0


def run(call: Call, *, lane: str | None, state: str | None, watch: bool, after: str | None, limit: int) -> Exit:
    """Runs, the one that began last first; with *watch* again and again."""
    asked = {"lane": lane, "state": state, "after": after, "limit": limit}
    answer = run_async(_list(call, target(call), asked, watch=watch))
    call.out.document(document(answer))
    call.out.show(listed(answer.result["runs"]))
    if answer.result["next"] is not None:
        call.out.say(f"more: the same with --after '{answer.result['next']}'")
    return Exit.OK


async def _list(call: Call, aim: Target, asked: Mapping[str, Any], *, watch: bool) -> QueryAnswer:
    async with connected(aim) as bus:
        if watch:
            await _watch(call, bus, asked)
        return await ask(bus, "runs", asked)


async def _watch(call: Call, bus: Bus, asked: Mapping[str, Any]) -> NoReturn:
    """In place on a terminal; as JSON lines with --json, else one below the other, when something is different."""
    if call.out.live:
        from rich.live import Live

        with Live(console=call.out.console(), auto_refresh=False) as live:
            while True:
                live.update(listed((await ask(bus, "runs", asked)).result["runs"]), refresh=True)
                await asyncio.sleep(WATCH_SECONDS)
    last: object = None
    while True:
        answer = await ask(bus, "runs", asked)
        if answer.result["runs"] != last and call.out.json_mode:
            line = {"schema_version": SCHEMA_VERSION, **document(answer)}
            call.out.record(json.dumps(line, default=str), "")
        elif answer.result["runs"] != last:
            call.out.show(listed(answer.result["runs"]))
        last = answer.result["runs"]
        await asyncio.sleep(WATCH_SECONDS)


def show(call: Call, run_id: str, *, epochs: int) -> Exit:
    """Everything about a run."""
    answer = _once(call, "run", {"run_id": run_id, "epochs": epochs})
    call.out.document(document(answer))
    _print(call, shown(answer.result))
    if answer.result["checkpoints"]:
        saved = counted(len(answer.result["checkpoints"]), "checkpoint")
        call.out.say(f"{saved} so far; fleetcast checkpoints {run_id} lists those that are kept")
    return Exit.OK


def compare(call: Call, a: str, b: str) -> Exit:
    """Two runs: where they differ, and every number."""
    answer = _once(call, "compare_runs", {"a": a, "b": b})
    call.out.document(document(answer))
    _print(call, compared(answer.result))
    return Exit.OK


def _once(call: Call, name: str, args: Mapping[str, Any]) -> QueryAnswer:
    aim = target(call)

    async def asked() -> QueryAnswer:
        async with connected(aim) as bus:
            return await ask(bus, name, args)

    return run_async(asked())


def _print(call: Call, tables: list[Any]) -> None:
    for number, each in enumerate(tables):
        if number:
            call.out.text("")
        call.out.show(each)
