"""The commands of whoever is on call, against a desk that is at work, and without one."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.stand import Cli, Stand, commands_that_end, live_in, standing
from tests.unit.cli.builders import node

from fleetcast.bus import Service
from fleetcast.cli.connection import quiet_logs
from fleetcast.config.incidents import IncidentSettings
from fleetcast.daemons.remedy.incidents import IncidentDesk
from fleetcast.daemons.remedy.incidents.commands import INCIDENTS_SUBJECT, READS
from fleetcast.daemons.remedy.ledger import RemedyLedger
from fleetcast.daemons.runtime.requests import with_reading
from fleetcast.events.envelope import new_event
from fleetcast.events.incidents import IncidentRaised

LIMIT_SECONDS = 60.0
SETTINGS = IncidentSettings(look_seconds=0.1, hold_down_seconds=3600.0)


@dataclass
class OnCall:
    """A stand with a desk that can go home, and commands in this process."""

    stand: Stand
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    services: list[Any] = field(default_factory=list)

    async def begin(self) -> None:
        """Put a desk to work, as a remedy daemon does."""
        desk = IncidentDesk(self.stand.bus, RemedyLedger(self.stand.bus), SETTINGS)
        self.tasks.append(asyncio.create_task(desk.run()))
        await desk.known.wait()
        endpoints = with_reading("incidents", INCIDENTS_SUBJECT, desk.answer, READS)
        service = Service(name="fleetcast-remedy", version="0.1.0", description="a test", endpoints=endpoints)
        self.services.append(await self.stand.bus.serve(service))

    async def end(self) -> None:
        """Send it home."""
        while self.services:
            await self.services.pop().stop()
        while self.tasks:
            task = self.tasks.pop()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def raise_(self, model: str, severity: str = "high") -> str:
        """The id of a new incident about *model*."""
        about = IncidentRaised.model_validate(
            {
                "source": "monitor",
                "resource_id": model,
                "version": "43",
                "trigger": "error_rate",
                "severity": severity,
                "title": f"{model}@43: too many errors",
                "began_at": "2026-11-21T09:27:00Z",
                "context": {"reasons": ["8.50 % of 1,200 requests, limit 5 %"], "errors": 102, "error_rate": 0.085},
            }
        )
        self.stand.do(self._publish(about))
        opened = self.stand.do(self.stand.first(f"fc.ev.incident.opened.{model}"))
        return str(opened.payload.incident)  # type: ignore[attr-defined]

    async def _publish(self, about: IncidentRaised) -> None:
        await self.stand.bus.publish(new_event(about, source="/fleet/n1/monitor"))


@pytest.fixture(scope="module")
def on_call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with standing(tmp_path_factory.mktemp("stand")) as stand:
        made = OnCall(stand)
        stand.do(made.begin())
        yield made
        stand.do(made.end())


@pytest.fixture(autouse=True)
def fleet(on_call: OnCall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live_in(tmp_path, on_call.stand.url, monkeypatch)
    # The desk shares this process, whose stdout is the command's.
    quiet_logs()


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return commands_that_end(capsys)


def test_an_incident_is_listed_shown_acknowledged_noted_and_resolved(on_call: OnCall, cli: Cli) -> None:
    incident = on_call.raise_("whole")
    assert incident in cli("incidents", "--model", "who*").out
    (listed,) = cli("incidents", "--model", "whole", "--severity", "high", "--json").document["incidents"]
    assert (listed["incident"], listed["phase"]) == (incident, "open")
    shown = cli("incident", incident).out
    for words in ("8.50 % of 1,200 requests", "errors 102", "docs/runbooks/error_rate.md", "to detect:", "opened"):
        assert words in shown
    assert f"next: fleetcast ack {incident} --reason" in shown
    assert "would ack" in cli("ack", incident, "--reason", "mine", "--dry-run").out
    assert "is acknowledged" in cli("ack", incident[:9], "--reason", "mine").out
    assert "already" in cli("ack", incident, "--reason", "mine too").out
    cli("note", incident, "--reason", "the data base was slow")
    assert "the data base was slow" in cli("incident", incident).out
    assert "is resolved" in cli("resolve", incident, "--reason", "fixed").out
    document = cli("incident", incident, "--json").document["incident"]
    assert document["time_to_resolve_seconds"] > document["time_to_detect_seconds"] > 0
    assert [each["what"] for each in document["timeline"]] == ["opened", "acknowledged", "note", "resolved"]
    assert incident not in cli("incidents").out
    assert incident in cli("incidents", "--all", "--since", "1h").out


def test_a_silence_is_said_listed_and_ended(on_call: OnCall, cli: Cli) -> None:
    incident = on_call.raise_("quiet")
    assert incident in cli("silence", "--model", "quiet", "--for", "2h", "--reason", "known", "--dry-run").out
    said = cli("silence", "--model", "quiet", "--for", "2h", "--reason", "known", "--json").document
    (silence,) = said["silences"]
    assert "1 open incident silenced" in said["message"]
    assert "open, silenced" in cli("incidents", "--model", "quiet").out
    assert silence["silence"] in cli("silences").out
    assert "people are told again" in cli("unsilence", silence["silence"]).out
    assert silence["silence"] not in cli("silences").out
    assert silence["silence"] in cli("silences", "--all").out
    assert not cli("incident", incident, "--json").document["incident"]["silenced"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("incident", "inc-nothing"), 3, "there is no incident"),
        (("ack", "inc-nothing", "--reason", "r"), 3, "there is no incident"),
        (("ack", "inc-nothing"), 2, "a reason must be said"),
        (("incident", "Not A Name"), 2, "is not a name"),
        (("incidents", "--severity", "dreadful"), 2, "dreadful"),
        (("incidents", "--since", "soon"), 2, "is not a duration"),
        (("silence", "--for", "2h", "--reason", "r"), 2, "names a model, a node or a trigger"),
        (("silence", "--model", "x", "--for", "0", "--reason", "r"), 2, "greater than 0"),
        (("unsilence", "sil-nothing"), 3, "there is no silence"),
    ],
)
def test_what_cannot_be_is_refused_with_the_next_command(
    cli: Cli, words: tuple[str, ...], code: int, says: str
) -> None:
    assert says in cli(*words, code=code).err
    error = cli(*words, "--json", code=code).document["error"]
    assert error["next"]


def test_status_and_why_tell_what_is_wrong_with_numbers(on_call: OnCall, cli: Cli) -> None:
    incident = on_call.raise_("sick", "critical")
    on_call.stand.do(on_call.stand.promoted("sick", "43"))
    on_call.stand.do(on_call.stand.heartbeat(node("node-1")))
    status = cli("status", code=1).out
    assert f"{incident} sick@43 error_rate" in status
    assert f"degraded: critical incident {incident}" in status
    assert incident in {each["incident"] for each in cli("status", "--json", code=1).document["incidents"]}
    why = cli("why", "sick").out
    assert f"critical incident {incident} (error_rate), open: began " in why
    assert "8.50 % of 1,200 requests, limit 5 %" in why
    about = cli("why", incident, "--json").document
    assert about["about"] == "incident"
    assert [each["type"] for each in about["chain"]["links"]] == ["incident.raised", "incident.opened"]
    on_call.stand.do(on_call.stand.forget_nodes())


def test_without_a_remedy_daemon_reads_work_and_orders_say_what_to_start(
    on_call: OnCall, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    incident = on_call.raise_("alone")
    monkeypatch.setattr("fleetcast.cli.remedy.asking.DEADLINE_SECONDS", 0.5)
    on_call.stand.do(on_call.end())
    try:
        assert incident in cli("incidents").out
        assert incident in cli("incident", incident).out
        assert "no silence holds" in cli("silences").out
        error = cli("ack", incident, "--reason", "r", "--json", code=1).document["error"]
        assert error["code"] == "no_remedy"
        assert "fleetcast run remedy" in error["next"]
    finally:
        on_call.stand.do(on_call.begin())
    assert json.loads(cli("ack", incident, "--reason", "r", "--json").out)["outcome"] == "done"
