"""`fleetcast promote MODEL VERSION` without a file, `rollback`, `resume`: what is served changes."""

from fleetcast.bus import Bus
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.fleet import rollout_document
from fleetcast.cli.live import watched
from fleetcast.cli.problems import Exit
from fleetcast.cli.registry.asking import ask, decide, parsed, show
from fleetcast.cli.running import run_async
from fleetcast.cli.units import parse_duration
from fleetcast.cli.waiting import sentence, talker, until_served
from fleetcast.registry import Registry
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import Answer, Promote


def promote(
    call: Call,
    model: str,
    version: str,
    *,
    stage: str | None,
    percent: int | None,
    generation: int | None,
    replace: bool,
    now: bool,
    reason: str | None,
    wait: bool,
    timeout: str,
    dry_run: bool,
) -> Exit:
    """Ask for a registered version to come to a stage; with *wait* return when every node serves it."""
    seconds = parse_duration(timeout, option="--timeout")
    command = parsed(
        {
            "do": "promote",
            "model": model,
            "version": version,
            "stage": stage,
            "percent": percent,
            "expected_generation": generation,
            "replace": replace,
            "skip_rollout": now,
        }
    )
    assert isinstance(command, Promote)
    return run_async(_promote(call, target(call), command, reason, seconds, wait=wait, dry_run=dry_run))


async def _promote(
    call: Call, aim: Target, command: Promote, reason: str | None, seconds: float, *, wait: bool, dry_run: bool
) -> Exit:
    async with connected(aim) as bus:
        answer = await _asked(bus, aim, command, reason, dry_run=dry_run)
        code = show(call, answer)
        if not wait or dry_run or not answer.accepted or command.stage != "production":
            return code
        async with watched(bus, aim.settings.distributor.heartbeat_seconds) as fleet:
            done = await until_served(
                fleet, command.model, command.version, timeout_seconds=seconds, changed=talker(call.out)
            )
    if not call.out.answered:
        call.out.document({"rollout": rollout_document(done)})
    call.out.text(f"{sentence(done)} at generation {done.generation}: {', '.join(done.ready)}")
    return code


async def _asked(bus: Bus, aim: Target, command: Promote, reason: str | None, *, dry_run: bool) -> Answer:
    """Ask about what this command saw: of several promoters at once one wins, and the others are told."""
    if command.expected_generation is None and not command.replace:
        slot = await Registry(bus).slot(command.model)
        command = command.model_copy(update={"expected_generation": slot.generation if slot else 0})
    return await ask(RegistryClient(bus, actor=aim.source), command, reason=reason, dry_run=dry_run)


def rollback(
    call: Call,
    model: str,
    *,
    to: str | None,
    now: bool,
    keep: bool,
    generation: int | None,
    reason: str | None,
    dry_run: bool,
) -> Exit:
    """Go back to a former production version, or end a canary."""
    command = parsed(
        {
            "do": "rollback",
            "model": model,
            "to": to,
            "now": now,
            "keep": keep,
            "expected_generation": generation,
        }
    )
    return decide(call, command, reason=reason, dry_run=dry_run)


def resume(call: Call, model: str, *, abandon: bool, reason: str | None, dry_run: bool) -> Exit:
    """Let a halted rollout go on, or end it."""
    return decide(call, parsed({"do": "resume", "model": model, "abandon": abandon}), reason=reason, dry_run=dry_run)
