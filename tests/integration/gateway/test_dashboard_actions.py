"""Every button of the dashboard that changes something, pressed in a real browser against the daemons that do it: what
it asks for, what comes of it, and the command beside it, which is copied and tried."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from tests.integration.gateway.browser import Complaints, chromium, needs_chromium, tab
from tests.integration.gateway.commands import Commands, commands
from tests.integration.gateway.gateways import Answer, GatewayProcess, gateway_of, until
from tests.integration.registry.small_fleet import SmallFleet, small_fleet

from fleetcast.bus import Bus, connect
from fleetcast.config.settings import BusSettings
from fleetcast.config.trainer import TrainerSettings
from fleetcast.daemons.gateway import tokens
from fleetcast.daemons.gateway.access import Role, Token, Tokens, digest, new_token
from fleetcast.daemons.testing import NodeProcess

pytestmark = [needs_chromium, pytest.mark.asyncio(loop_scope="module")]

MODELS: Final = "/api/model-registry/models"
CLIPBOARD: Final = ["clipboard-read", "clipboard-write"]
LANE: Final = """[lane.go9]
command = [{python}, "-c", "import time; time.sleep(3600)"]
work_class = "cpu"
grace_seconds = 5
bucket = {{ required = 1000 }}
"""


class Remedy(NodeProcess):
    """Whoever keeps incidents."""

    daemon = "remedy"


class Trainer(NodeProcess):
    """Whoever keeps lanes."""

    daemon = "trainer"


@dataclass
class Desk:
    """What runs, and whoever presses buttons in front of it."""

    fleet: SmallFleet
    gateway: GatewayProcess
    secrets: dict[Role, str]
    commands: Commands
    bus: Bus
    browser: Any
    complaints: Complaints

    def ask(self, method: str, path: str, body: object = None, role: Role = Role.PROMOTER) -> Answer:
        bearer = f"Authorization: Bearer {self.secrets[role]}"
        return self.gateway.curl(method, path, body, "-H", bearer)

    async def asked(self, method: str, path: str, body: object = None, role: Role = Role.PROMOTER) -> dict[str, Any]:
        answer = await asyncio.to_thread(self.ask, method, path, body, role)
        assert answer.status < 300, answer
        return answer.body

    async def until(self, path: str, holds: Any) -> dict[str, Any]:
        """The document at *path*, once it is as it should be."""
        seen: list[Answer] = []

        def look() -> bool:
            seen[:] = [self.ask("GET", path)]
            return seen[0].status == 200 and bool(holds(seen[0].body))

        await asyncio.to_thread(until, path, look, lambda: repr(seen))
        return seen[0].body

    @asynccontextmanager
    async def tab(self, path: str, role: Role) -> AsyncIterator["Buttons"]:
        """A page in front of somebody with a role."""
        async with tab(self.browser, self.gateway.url, self.complaints, permissions=CLIPBOARD) as page:
            await page.evaluate(f"sessionStorage.setItem('fleetcast.token', '{self.secrets[role]}')")
            await page.goto(f"{self.gateway.url}{path}")
            await page.wait_for_selector(f"#head:has-text('{role.value} · {role.value}')")
            yield Buttons(page, self.commands)

    async def incident(self, model: str) -> str:
        """The id of a new incident about a model."""
        body = {
            "source": "monitor",
            "resource_id": model,
            "trigger": "error_rate",
            "severity": "high",
            "title": f"{model}: too many errors",
            "began_at": "2026-11-21T09:27:00Z",
        }
        await self.bus.publish_raw(f"fc.ev.incident.raised.{model}", json.dumps(body).encode())
        found = await self.until(f"/api/incidents?model={model}", lambda said: said["incidents"])
        return str(found["incidents"][0]["incident"])

    async def letter(self, subject: str, body: dict[str, Any]) -> int:
        """The number of the dead letter that a message becomes."""
        await self.bus.publish_raw(subject, json.dumps(body).encode())

        def of(said: dict[str, Any]) -> list[int]:
            return [each["sequence"] for each in said["dead_letters"] if each["subject"] == subject]

        return of(await self.until("/api/dead-letters", of))[0]

    async def settled(self, number: int) -> dict[str, Any]:
        """What the log says became of a dead letter."""
        events = await self.logged("fc.ev.letter.settled.*")
        (told,) = [each["data"] for each in events if each["data"]["number"] == number]
        assert isinstance(told, dict)
        return told

    async def logged(self, subject: str) -> list[dict[str, Any]]:
        """Events, as they are stored."""
        return [json.loads(entry.data) async for entry in self.bus.tail("FC_EVENTS", [subject])]


class Buttons:
    """Presses buttons."""

    def __init__(self, page: Any, known: Commands) -> None:
        self.page = page
        self._commands = known

    async def press(self, action: str, reason: str, *, inside: str = "main", **fields: str) -> None:
        """Open the dialog of an action, see that it wants a reason, try the command beside it, and do it."""
        await self.page.click(f"{inside} [data-action={action}]:visible")
        submit = self.page.locator("#dialog button[type=submit]")
        for nothing in ("", "   "):
            await self.page.fill("#dialog textarea", nothing)
            assert await submit.is_disabled()
        for name, value in fields.items():
            await self.page.fill(f"#dialog [name={name}]", value)
        await self.page.fill("#dialog textarea", reason)
        await asyncio.to_thread(self._commands.run, await self.copied(), "--dry-run")
        await submit.click()
        await self.page.wait_for_selector("dialog[open]", state="detached")

    async def copied(self) -> str:
        """The command of the dialog, by its button *copy*."""
        await self.page.locator("#dialog .cli button").last.click()
        await self.page.wait_for_selector("#toast:has-text('copied')")
        return str(await self.page.evaluate("navigator.clipboard.readText()"))

    async def shows(self, selector: str) -> None:
        await self.page.wait_for_selector(selector)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SmallFleet, GatewayProcess, dict[Role, str]]]:
    """A node that also trains, whoever decides and remedies, and a gateway that wants tokens."""
    folder: Path = tmp_path_factory.mktemp("actions")
    lanes = folder / "lanes.toml"
    lanes.write_text(LANE.format(python=json.dumps(sys.executable)))
    secrets = {role: new_token() for role in Role}
    path, at = folder / "tokens.json", "2026-01-01T00:00:00Z"
    kept = [
        Token(name=r.value, role=r, sha256=digest(plain), created_at=at, created_by="t") for r, plain in secrets.items()
    ]
    tokens.write(path, Tokens(tokens=tuple(kept)))
    with small_fleet(folder) as fleet:
        settings = fleet.node.settings.model_copy(update={"trainer": TrainerSettings(lanes=lanes)})
        beside: list[NodeProcess] = [each("node-1", folder / each.daemon, settings) for each in (Remedy, Trainer)]
        gateway = gateway_of(folder, fleet.node.settings, tokens=path)
        try:
            for daemon in beside:
                daemon.folder.mkdir()
                daemon.start()
            gateway.start()
            fleet.start(fleet.keeper)
            gateway.until_ready()
            for daemon in beside:
                until(f"{daemon.daemon} is ready", partial(daemon.logged, "daemon.ready"), daemon.tail)
            yield fleet, gateway, secrets
        finally:
            gateway.kill()
            for daemon in beside:
                daemon.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(running: tuple[SmallFleet, GatewayProcess, dict[Role, str]]) -> AsyncIterator[Desk]:
    fleet = running[0]
    server = BusSettings(url=fleet.server.url)
    with commands(fleet.node.config) as known:
        async with connect(server, node="tests", daemon="tests") as bus, chromium() as browser:
            yield Desk(*running, known, bus, browser, Complaints())


@pytest.fixture(autouse=True)
def nothing_went_wrong_in_the_browser(desk: Desk) -> Iterator[None]:
    desk.complaints.said.clear()
    yield
    assert not desk.complaints.said


async def test_an_incident_is_looked_after_noted_and_resolved(desk: Desk) -> None:
    incident = await desk.incident("hex8")
    async with desk.tab("/incidents", Role.OPERATOR) as buttons:
        await buttons.press("ack", "it is mine", inside=f"tr:has-text('{incident}'), tr:has-text('hex8')")
        await buttons.shows("tr:has-text('hex8') .chip:text-is('acknowledged')")
        await buttons.page.click("tr:has-text('hex8') a")
        await buttons.press("note", "the disk is full; isn't it")
        await buttons.shows('.timeline:has-text("the disk is full; isn\'t it")')
        await buttons.press("resolve", "it has room again")
        await buttons.shows(".title .chip:text-is('resolved')")
        assert await buttons.page.locator("main [data-action=resolve]").count() == 0
    shown = await desk.asked("GET", f"/api/incidents/{incident}")
    assert [each["what"] for each in shown["timeline"]] == ["opened", "acknowledged", "note", "resolved"]
    assert {each["by"] for each in shown["timeline"][1:]} == {"/fleet/node-1/gateway/operator"}
    assert shown["timeline"][1]["detail"] == "it is mine"


async def test_a_lane_is_held_goes_on_and_starts_a_run_which_is_ended(desk: Desk) -> None:
    path = desk.fleet.publish("games.bin", list(range(100)))
    said = {"lane": "go9", "path": str(path), "node": "node-1", "samples_new": 5, "samples_total": 5}
    await desk.bus.publish_raw("fc.ev.export.completed.go9", json.dumps({**said, "dataset_id": "games-1"}).encode())
    await desk.until("/api/lanes/go9", lambda lane: lane["samples"] == 5)
    async with desk.tab("/training/lanes/go9", Role.OPERATOR) as buttons:
        await buttons.press("pause", "the data is being looked at")
        await buttons.shows(".title .chip:text-is('paused')")
        assert (await desk.asked("GET", "/api/lanes/go9"))["state"]["paused"]["reason"] == "the data is being looked at"
        await buttons.press("resume", "it is fine")
        await buttons.shows("main:not(:has(.title .chip:text-is('paused'))) [data-action=pause]")
        await buttons.press("trigger", "to see what it learns from five games")
        await buttons.page.click("table[aria-label=Runs] a")
        await buttons.press("cancel", "five games are too few")
        await buttons.shows(".title .chip:text-is('cancelled')")
        assert await buttons.page.locator("main [data-action=cancel]").count() == 0
        run = buttons.page.url.rpartition("/")[2]
    (ended,) = [e for e in await desk.logged("fc.ev.run.moved.*") if e["data"].get("phase") == "cancelled"]
    assert ended["data"]["run_id"] == run
    assert "five games are too few" in json.dumps(ended["data"])


async def test_a_dead_letter_is_sent_again_and_another_is_dropped(desk: Desk) -> None:
    wrong = {"lane": "go9", "path": 7, "node": "node-1", "samples_new": 5, "samples_total": 5}
    again = await desk.letter("fc.ev.export.completed.letters", wrong)
    gone = await desk.letter("fc.ev.model.registered.letters", {"version": 1, "path": 7})
    async with desk.tab("/dead-letters", Role.OPERATOR) as buttons:
        await buttons.press("retry", "it reads paths that are numbers now", inside=f"tr:has(a:text-is('{again}'))")
        await buttons.shows(f"main:not(:has(td a:text-is('{again}'))) td a:text-is('{gone}')")
        await buttons.page.click(f"td a:text-is('{gone}')")
        await buttons.shows("#dialog pre:has-text('\"path\": 7')")
        assert buttons.page.url.endswith(f"/dead-letters/{gone}")
        await buttons.press("drop", "nobody wants it", inside="#dialog")
        await buttons.shows(f"main:not(:has(td a:text-is('{gone}')))")
        assert buttons.page.url.endswith("/dead-letters")
    retried, dropped = await desk.settled(again), await desk.settled(gone)
    assert (retried["outcome"], retried["by"]) == ("retried", "/fleet/node-1/gateway/operator")
    assert retried["reason"] == "it reads paths that are numbers now"
    assert (dropped["outcome"], dropped["reason"]) == ("dropped", "nobody wants it")
    assert len(await desk.logged("fc.ev.export.completed.letters")) == 2
    assert len(await desk.logged("fc.ev.model.registered.letters")) == 1


async def test_a_dead_letter_that_asks_for_a_promotion_is_sent_again_by_who_may_promote(desk: Desk) -> None:
    number = await desk.letter("fc.ev.model.promoted.letters", {"version": "1", "path": 7})
    row = f"tr:has(a:text-is('{number}'))"
    async with desk.tab("/dead-letters", Role.OPERATOR) as buttons:
        await buttons.page.click(f"{row} [data-action=retry]")
        await buttons.shows("#dialog .refused:has-text('operator is operator, and this needs promoter')")
        assert await buttons.page.locator(f"{row} [data-action=drop][data-locked]").count() == 0
    said = {"reason": "please"}
    answer = await asyncio.to_thread(desk.ask, "POST", f"/api/dead-letters/{number}/retry", said, Role.OPERATOR)
    assert (answer.status, answer.body["code"]) == (403, "role")
    assert number in {each["sequence"] for each in (await desk.asked("GET", "/api/dead-letters"))["dead_letters"]}
    async with desk.tab(f"/dead-letters/{number}", Role.PROMOTER) as buttons:
        await buttons.press("retry", "it is to be served", inside="#dialog")
    assert (await desk.settled(number))["by"] == "/fleet/node-1/gateway/promoter"


async def test_a_version_is_brought_to_every_stage_that_is_offered(desk: Desk) -> None:
    for version in ("1", "2"):
        path = await asyncio.to_thread(desk.fleet.publish, f"weak-{version}.pkl", ["weak", version])
        body = {"model_id": "weak", "version": version, "artifact_path": str(path), "node": "node-1"}
        await desk.asked("POST", MODELS, body)
    first = {"status": "production", "version": "1", "reason": "the first"}
    await desk.asked("PATCH", f"{MODELS}/weak/deployment", first)
    row = "table[aria-label=Versions] tr:has(td a:text-is('2'))"
    async with desk.tab("/models/weak", Role.PROMOTER) as buttons:
        await buttons.page.click(f"{row} summary")
        for stage in ("staging", "rejected", "development"):
            await buttons.press(stage, f"to see it {stage}", inside=row)
            await buttons.shows(f"{row} .chip:text-is('{stage}')")
        await buttons.press("quarantined", "it crashed a server", inside=row)
        await buttons.shows(f"{row} .chip:text-is('quarantined')")
        await buttons.press("development", "it was the server", inside=row)
        await buttons.shows(f"{row} .chip:text-is('development')")
        await buttons.press("canary", "a little of it", inside=row, percent="100")
        await buttons.shows("main:has-text('canary 2 100 % of nodes: 1 of 1 nodes')")
    records = (await desk.asked("GET", f"{MODELS}/weak/history"))["records"]
    assert {"to see it rejected", "it crashed a server", "a little of it"} <= {each["reason"] for each in records}


@pytest.mark.parametrize(
    ("path", "actions"),
    [
        ("/incidents/{incident}", ("ack", "note", "resolve")),
        ("/training/lanes/go9", ("trigger", "pause")),
        ("/dead-letters", ("retry", "drop")),
    ],
)
async def test_who_only_looks_is_told_so_on_every_button(desk: Desk, path: str, actions: tuple[str, ...]) -> None:
    """The gateway refuses them too: test_description asks for every change as a viewer."""
    if "{incident}" in path:
        path = path.format(incident=await desk.incident("looked_at"))
    if path == "/dead-letters":
        await desk.letter("fc.ev.model.registered.looked_at", {"version": 1, "path": 7})
    async with desk.tab(path, Role.VIEWER) as buttons:
        for action in actions:
            await buttons.page.locator(f"main [data-action={action}][data-locked]").first.click()
            await buttons.shows("#dialog .refused:has-text('viewer is viewer, and this needs operator')")
            await buttons.page.fill("#dialog textarea", "please")
            assert await buttons.page.locator("#dialog button[type=submit]").is_disabled()
            assert (await buttons.copied()).startswith("fleetcast ")
            await buttons.page.keyboard.press("Escape")
            await buttons.page.wait_for_selector("dialog[open]", state="detached")
