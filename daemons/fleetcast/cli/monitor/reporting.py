"""`fleetcast snapshot`: one report of how a version performs, from the shell."""

import json
import math
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.problems import Exit, not_found, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.units import parse_duration
from fleetcast.client.ulid import new_ulid
from fleetcast.events.performance import LatencyHistogram, SnapshotInvalid, parse_snapshot


def run(
    call: Call,
    wanted: str,
    said: Mapping[str, Any],
    *,
    latencies: Path | None,
    interval: str | None,
    dry_run: bool,
) -> Exit:
    """Publish what is *said* of `MODEL@VERSION`, in the fields of a snapshot."""
    aim = target(call)
    model, at, version = wanted.partition("@")
    if not (model and at and version):
        raise usage(f"{wanted!r} is no version", why="write MODEL@VERSION", next_step="fleetcast snapshot --help")
    body = {"version": version, **{name: value for name, value in said.items() if value is not None}}
    body.setdefault("node", aim.node)
    body["timestamp"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if interval is not None:
        body["interval_seconds"] = parse_duration(interval, option="--interval")
    if latencies is not None:
        body["latency"] = LatencyHistogram.of(_milliseconds(latencies)).document()
    subject = f"fc.perf.{model}"
    data = _checked(subject, body)
    sequence = None if dry_run else run_async(_publish(aim, subject, data))
    call.out.document({"subject": subject, "sequence": sequence, "published": not dry_run, "data": body})
    call.out.text(f"would publish on {subject}: {data.decode()}" if dry_run else f"published on {subject}: {sequence}")
    return Exit.OK


def _checked(subject: str, body: Mapping[str, Any]) -> bytes:
    """The message, read as the monitor will read it.

    Raises:
        Problem: it would refuse it.
    """
    try:
        data = json.dumps(body, allow_nan=False).encode()
        parse_snapshot(data, stored_at=datetime.now(UTC), subject=subject)
    except SnapshotInvalid as fault:
        raise usage(fault.reason, next_step="fleetcast snapshot --help") from fault
    except ValueError as error:
        raise usage("a number is none that JSON has", why=str(error), next_step="fleetcast snapshot --help") from error
    return data


def _milliseconds(file: Path) -> list[float]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise not_found(f"{file} does not exist", next_step="fleetcast snapshot --help") from error
    found = []
    for number, line in enumerate(filter(str.strip, text.splitlines()), 1):
        try:
            value = float(line)
        except ValueError as error:
            raise usage(f"{file}, line {number}: {line[:40]!r} is no number of milliseconds") from error
        if not (math.isfinite(value) and value >= 0):
            raise usage(f"{file}, line {number}: {line[:40]!r} is no latency")
        found.append(value)
    return found


async def _publish(aim: Target, subject: str, data: bytes) -> int:
    async with connected(aim) as bus:
        # The same id on every retry: a snapshot that is stored twice would count twice.
        headers = {"Nats-Msg-Id": new_ulid(), "Content-Type": "application/json"}
        return (await bus.publish_raw(subject, data, headers)).sequence
