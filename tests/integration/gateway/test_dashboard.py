"""The dashboard in a real browser, against a real node, registry and gateway: what operators see and do."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.gateway.browser import PHONE, Complaints, chromium, needs_chromium, tab, until_true
from tests.integration.gateway.gateways import GatewayProcess, gateway_of, started, until
from tests.integration.registry.small_fleet import SmallFleet, small_fleet

from fleetcast.bus import connect
from fleetcast.config.settings import BusSettings
from fleetcast.daemons.gateway import tokens
from fleetcast.daemons.gateway.access import Role, Token, Tokens, digest, new_token

pytestmark = [needs_chromium, pytest.mark.asyncio(loop_scope="module")]

MODELS = "/api/model-registry/models"
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
SHOWN = "main .part, main .empty:has-text('no monitor')"
"""Nobody monitors this fleet, and the view of what a monitor says tells that."""
VIEWS = (
    "/",
    "/models",
    "/transfers",
    "/performance",
    "/incidents",
    "/training",
    "/events",
    "/dead-letters",
    "/nodes/node-1",
    "/models/chess",
    "/performance/chess",
    "/compare?a=chess@1&b=chess@2",
)


@dataclass
class Desk:
    """What runs, and the browser in front of it."""

    fleet: SmallFleet
    gateway: GatewayProcess
    browser: Any
    complaints: Complaints

    def tab(self, path: str = "/", **how: Any) -> Any:
        return tab(self.browser, f"{self.gateway.url}{path}", self.complaints, **how)

    async def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer = await asyncio.to_thread(self.gateway.curl, method, path, body)
        assert answer.status < 300, answer
        return answer.body

    async def registered(self, model: str, *versions: str) -> None:
        """Versions with their bytes, known to the registry."""
        for version in versions:
            path = await asyncio.to_thread(self.fleet.publish, f"{model}-{version}.pkl", [model, version])
            body = {"model_id": model, "version": version, "artifact_path": str(path), "node": "node-1"}
            await self.ask("POST", MODELS, body)

    async def served(self, model: str, version: str) -> None:
        """Until the node serves a version."""

        def serves() -> bool:
            answer = self.gateway.curl("GET", f"{MODELS}/{model}/deployment")
            return answer.status == 200 and answer.body["version"] == version and answer.body["complete"]

        await asyncio.to_thread(until, f"{model}@{version} is served", serves)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SmallFleet, GatewayProcess]]:
    """A node, a registry and a gateway, started before there is an event loop."""
    folder: Path = tmp_path_factory.mktemp("dashboard")
    with small_fleet(folder) as fleet:
        gateway = gateway_of(folder, fleet.node.settings)
        try:
            fleet.start(fleet.keeper)
            gateway.start()
            gateway.until_ready()
            yield fleet, gateway
        finally:
            gateway.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(running: tuple[SmallFleet, GatewayProcess]) -> AsyncIterator[Desk]:
    async with chromium() as browser:
        made = Desk(*running, browser, Complaints())
        await made.registered("chess", "1", "2", "3")
        await made.ask("PATCH", f"{MODELS}/chess/deployment", _to("production", "1", "the first"))
        await made.served("chess", "1")
        yield made


@pytest.fixture(autouse=True)
def nothing_went_wrong_in_the_browser(desk: Desk) -> Iterator[None]:
    desk.complaints.said.clear()
    yield
    assert not desk.complaints.said


async def happened(desk: Desk, model: str, **more: object) -> None:
    """An event of somebody's."""
    async with connect(BusSettings(url=desk.fleet.server.url), node="tests", daemon="tests", wait=True) as bus:
        body = {"version": "1", "path": "/x", "node": "n", **more}
        await bus.publish_raw(f"fc.ev.model.registered.{model}", json.dumps(body).encode())


def _to(stage: str, version: str, reason: str) -> dict[str, str]:
    return {"status": stage, "version": version, "reason": reason}


async def test_every_view_opens_at_its_own_address_and_fits_a_phone(desk: Desk) -> None:
    async with desk.tab("/", **PHONE) as page:
        await page.wait_for_selector("#head .live.ok")
        for path in VIEWS:
            await page.goto(f"{desk.gateway.url}{path}")
            await page.wait_for_selector(SHOWN)
            assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["viewport"]["width"], path


async def test_an_operator_promotes_with_a_reason_and_rolls_back(desk: Desk) -> None:
    async with desk.tab("/models/chess") as page:
        await page.click("tr:has(a:text-is('2')) [data-action=production]")
        # Without a reason nothing can be asked for.
        assert await page.locator("#dialog button[type=submit]").is_disabled()
        await page.fill("#dialog textarea", "it's stronger")
        said = await page.inner_text("#dialog .cli code")
        assert said == """fleetcast promote chess 2 --stage production --reason 'it'"'"'s stronger'"""
        await page.click("#dialog [data-action=try]")
        await page.wait_for_selector("#dialog .allowed")
        await page.click("#dialog button[type=submit]")
        await page.wait_for_selector("main:has-text('production 2: 1 of 1 nodes')")
        history = await desk.ask("GET", f"{MODELS}/chess/history")
        assert "it's stronger" in {record["reason"] for record in history["records"]}

        await page.click("[data-action=rollback]")
        await page.fill("#dialog textarea", "it was not")
        assert "fleetcast rollback chess --reason 'it was not'" in await page.inner_text("#dialog .cli code")
        await page.click("#dialog button[type=submit]")
        await page.wait_for_selector("main:has-text('production 1: 1 of 1 nodes')")
        await page.wait_for_selector(".timeline li.bad:has-text('it was not')")
    await desk.served("chess", "1")


async def test_what_happens_is_seen_without_asking(desk: Desk) -> None:
    async with desk.tab("/events") as page:
        await desk.registered("seen_at_once", "1")
        await page.wait_for_selector(".feed li:has-text('seen_at_once@1')")
        await page.fill("input[type=search]", "seen_at_once")
        await until_true(
            page, "[...document.querySelectorAll('.feed li')].every(e => /seen_at_once/.test(e.textContent))"
        )
        assert "text=seen_at_once" in page.url
        await page.fill("input[type=search]", "there is no such event")
        await page.wait_for_selector("text=No event fits.")


async def test_models_are_found_while_one_writes(desk: Desk) -> None:
    await desk.registered("hex8_2p", "1")
    async with desk.tab("/models") as page:
        await page.wait_for_selector("tr:has-text('hex8_2p')")
        await page.fill("input[type=search]", "HEX8")
        await until_true(page, "document.querySelectorAll('tbody tr').length === 1")
        await page.reload()
        await page.wait_for_selector("tbody tr")
        assert await page.locator("tbody tr").count() == 1


async def test_words_of_strangers_are_words(desk: Desk) -> None:
    """A name, a reason and an event that would like to be markup."""
    said = {"model_id": "stranger", "version": "1", "name": HOSTILE, "description": HOSTILE, "owner": HOSTILE}
    await desk.ask("POST", MODELS, said)
    await desk.ask("PATCH", f"{MODELS}/stranger/deployment", _to("rejected", "1", HOSTILE))
    await happened(desk, "stranger", metadata={"reason": HOSTILE})
    async with desk.tab("/models/stranger") as page:
        await page.wait_for_selector(".timeline:has-text('onerror')")
        assert "<img src=x" in await page.inner_text("h1")
        await page.click("text=Model card")
        await page.wait_for_selector("#dialog .card-text")
        await page.goto(f"{desk.gateway.url}/events")
        await page.wait_for_selector(".feed li:has-text('onerror')")
        assert await page.locator("main img, main script").count() == 0
        assert "owned" not in await page.title()


async def test_the_policy_lets_no_script_in_that_is_not_ours(desk: Desk) -> None:
    async with desk.tab("/events") as page:
        refused = """() => new Promise((resolve) => {
          document.addEventListener('securitypolicyviolation', (event) => resolve(event.effectiveDirective));
          const script = document.createElement('script');
          script.textContent = "document.title = 'owned'";
          document.body.append(script);
        })"""
        assert "script" in await page.evaluate(refused)
        assert "owned" not in await page.title()
    desk.complaints.said.clear()


async def test_everything_is_reached_by_keys(desk: Desk) -> None:
    async with desk.tab("/") as page:
        await page.keyboard.press("g")
        await page.keyboard.press("m")
        await page.wait_for_selector("main:has(h1:text-is('Models')) tbody tr")
        await page.keyboard.press("/")
        await page.keyboard.type("chess")
        await until_true(page, "document.querySelectorAll('tbody tr').length === 1")
        await page.keyboard.press("Escape")
        await page.keyboard.press("j")
        assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/models/chess")
        await page.wait_for_selector("[data-action=rollback]")
        await page.focus("[data-action=rollback]")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("dialog[open]")
        assert await page.evaluate("document.activeElement.name") == "reason"
        await page.keyboard.press("Escape")
        await page.wait_for_selector("dialog[open]", state="detached")
        await page.keyboard.press("?")
        await page.wait_for_selector("dialog[open] kbd")


async def test_it_says_that_it_is_cut_off_and_goes_on_by_itself(desk: Desk) -> None:
    async with desk.tab("/events") as page:
        await page.wait_for_selector(".feed li")
        await asyncio.to_thread(desk.gateway.kill)
        await page.wait_for_selector("#banner.shown:has-text('Connection lost')")
        await happened(desk, "while_away")
        await asyncio.to_thread(desk.gateway.start)
        await asyncio.to_thread(desk.gateway.until_ready)
        await page.wait_for_selector(".feed li:has-text('while_away@1')")
        await page.wait_for_selector("#banner:not(.shown)", state="attached")
        places = await page.eval_on_selector_all(
            ".feed .note", "all => all.map(e => /place (\\d+)/.exec(e.textContent)[1])"
        )
        assert len(places) == len(set(places))


async def test_what_is_old_is_marked_so(desk: Desk) -> None:
    async with desk.tab("/") as page:
        await page.wait_for_selector(".verdict.ok, .verdict.bad")
        await page.route("**/api/fleet", lambda route: route.abort())
        await page.keyboard.press("r")
        await page.wait_for_selector("main.stale .old:has-text('No data for')")
        assert "No data" in await page.inner_text(".verdict h1")
        await page.unroute("**/api/fleet")
        await page.wait_for_selector("main:not(.stale) .verdict.ok, main:not(.stale) .verdict.bad")


async def test_after_the_server_was_away_it_goes_on(desk: Desk) -> None:
    async with desk.tab("/") as page:
        await page.wait_for_selector(".verdict")
        await asyncio.to_thread(desk.fleet.server.stop)
        await asyncio.to_thread(desk.fleet.server.start)
        await happened(desk, "after_restart")
        await page.keyboard.press("g")
        await page.keyboard.press("e")
        await page.wait_for_selector(".feed li:has-text('after_restart@1')")


@pytest.fixture
def guarded(running: tuple[SmallFleet, GatewayProcess]) -> Iterator[tuple[GatewayProcess, str]]:
    """A gateway that wants tokens, and one of a viewer."""
    fleet, _ = running
    path, plain = fleet.folder / "tokens.json", new_token()
    kept = Token(name="ann", role=Role.VIEWER, sha256=digest(plain), created_at="2026-01-01T00:00:00Z", created_by="t")
    tokens.write(path, Tokens(tokens=(kept,)))
    with started(gateway_of(fleet.folder, fleet.node.settings, "guarded", tokens=path)) as gateway:
        yield gateway, plain


async def test_a_token_that_may_not_is_told_so_before_it_asks(desk: Desk, guarded: tuple[GatewayProcess, str]) -> None:
    gateway, plain = guarded
    async with tab(desk.browser, f"{gateway.url}/models/chess", desk.complaints) as page:
        await page.wait_for_selector("text=A token is needed")
        await page.click("text=Enter a token")
        await page.fill("#dialog input[type=password]", plain)
        await page.click("#dialog button[type=submit]")
        await page.wait_for_selector("#head:has-text('ann · viewer')")
        await page.wait_for_selector("#head .live.ok")
        await page.click("[data-action=rollback]")
        await page.wait_for_selector("#dialog .refused:has-text('ann is viewer, and this needs operator')")
        await page.fill("#dialog textarea", "please")
        assert await page.locator("#dialog button[type=submit]").is_disabled()
        longer, shorter = await page.evaluate(
            "[Object.values(localStorage).join(), Object.values(sessionStorage).join()]"
        )
        assert plain not in longer
        assert plain in shorter
        assert plain not in page.url
