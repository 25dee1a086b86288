"""`fleetcast promote MODEL VERSION` without a file, `rollback`, `resume`: what is served changes."""

from dataclasses import dataclass

from fleetcast.bus import Bus
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.problems import Exit
from fleetcast.cli.registry.asking import ask, decide, parsed, show
from fleetcast.cli.registry.settling import settled
from fleetcast.cli.running import run_async
from fleetcast.cli.units import parse_duration
from fleetcast.cli.waiting import served, talker
from fleetcast.registry import Registry
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import Answer, AnyCommand, Promote
from fleetcast.registry.picture.nodes import rollout_document


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a change is asked for.

    Attributes:
        reason: for the record.
        wait: return when nodes have followed, not before; at most *timeout*, a duration such as `10m`.
        dry_run: only say what would be decided.
    """

    reason: str | None
    wait: bool
    timeout: str
    dry_run: bool

    @property
    def seconds(self) -> float:
        return parse_duration(self.timeout, option="--timeout")


def promote(
    call: Call,
    model: str,
    version: str,
    manner: Manner,
    *,
    stage: str | None,
    percent: int | None,
    generation: int | None,
    replace: bool,
    now: bool,
) -> Exit:
    """Ask for a registered version to come to a stage; waiting, return when every node serves it."""
    seconds = manner.seconds
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
    return run_async(_promote(call, target(call), command, manner, seconds))


async def _promote(call: Call, aim: Target, command: Promote, manner: Manner, seconds: float) -> Exit:
    async with connected(aim) as bus:
        answer = await _asked(bus, aim, command, manner)
        return await _followed(call, aim, bus, answer, seconds, wait=manner.wait, back=False)


async def _followed(
    call: Call, aim: Target, bus: Bus, answer: Answer, seconds: float, *, wait: bool, back: bool
) -> Exit:
    """Show an answer, and with *wait* what became of it."""
    if not wait or not answer.accepted or answer.dry_run or not answer.rollout:
        return show(call, answer)
    call.out.say(answer.message)
    done = await settled(
        bus,
        aim.settings.distributor.heartbeat_seconds,
        answer,
        back=back,
        timeout_seconds=seconds,
        changed=talker(call.out),
    )
    call.out.document({"answer": answer.model_dump(mode="json", exclude={"state"}), "rollout": rollout_document(done)})
    call.out.text(served(done))
    return Exit.OK


async def _asked(bus: Bus, aim: Target, command: Promote, manner: Manner) -> Answer:
    """Ask about what this command saw: of several promoters at once one wins, and the others are told."""
    if command.expected_generation is None and not command.replace:
        slot = await Registry(bus).slot(command.model)
        command = command.model_copy(update={"expected_generation": slot.generation if slot else 0})
    return await ask(RegistryClient(bus, actor=aim.source), command, reason=manner.reason, dry_run=manner.dry_run)


def rollback(
    call: Call, model: str, manner: Manner, *, to: str | None, now: bool, keep: bool, generation: int | None
) -> Exit:
    """Go back to a former production version, or end a canary; waiting, return when every node has followed."""
    seconds = manner.seconds
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
    return run_async(_rollback(call, target(call), command, manner, seconds))


async def _rollback(call: Call, aim: Target, command: AnyCommand, manner: Manner, seconds: float) -> Exit:
    async with connected(aim) as bus:
        client = RegistryClient(bus, actor=aim.source)
        answer = await ask(client, command, reason=manner.reason, dry_run=manner.dry_run)
        return await _followed(call, aim, bus, answer, seconds, wait=manner.wait, back=True)


def resume(call: Call, model: str, *, abandon: bool, reason: str | None, dry_run: bool) -> Exit:
    """Let a halted rollout go on, or end it."""
    return decide(call, parsed({"do": "resume", "model": model, "abandon": abandon}), reason=reason, dry_run=dry_run)
