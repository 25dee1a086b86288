"""The dashboard in headless Chromium: when it is first painted, and when it shows what has happened."""

import asyncio
import importlib.util
import json
import shutil
import time
from dataclasses import dataclass, field
from typing import Any, Final

from fleetcast.bus import Bus

CHROMIUM: Final = "chromium"
WAIT_MILLISECONDS: Final = 60_000
APART_SECONDS: Final = 1.5
"""Between two things that happen: each is seen by itself."""
PAINTED: Final = """() => performance.getEntriesByName("first-contentful-paint").map((each) => each.startTime)[0]"""
SEEN: Final = """({ selector, text }) => new Promise((resolve) => {
  const there = () => [...document.querySelectorAll(selector)].some((each) => each.textContent.includes(text));
  const told = () => requestAnimationFrame(() => resolve(performance.timeOrigin + performance.now()));
  const watcher = new MutationObserver(() => { if (there()) { watcher.disconnect(); told(); } });
  watcher.observe(document.body, { subtree: true, childList: true, characterData: true });
  window.watches = (window.watches ?? 0) + 1;
})"""
"""When something is shown: milliseconds since 1970 at the frame after it stands in the page."""


@dataclass
class Browsed:
    """What a browser saw, in milliseconds.

    Attributes:
        first_paint: from the navigation to the first paint of content.
        filled: to the board with all models.
        told: from the publication of an event to the page of events that shows it.
    """

    first_paint: list[float] = field(default_factory=list)
    filled: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)


def missing() -> str:
    """What keeps a browser from being used; empty: nothing."""
    if shutil.which(CHROMIUM) is None:
        return "chromium is not installed (apt-get install chromium)"
    return "" if importlib.util.find_spec("playwright") else "playwright is not installed"


async def browse(bus: Bus, url: str, models: int, loads: int) -> Browsed:
    """Open the dashboard so often, and watch it as things happen."""
    from playwright.async_api import async_playwright

    found = Browsed()
    async with async_playwright() as play:
        # As root, Chromium runs without its sandbox only; the pages are our own.
        browser = await play.chromium.launch(executable_path=shutil.which(CHROMIUM), args=["--no-sandbox"])
        try:
            for _ in range(loads):
                await _load(browser, url, models, found)
            await _events(browser, url, bus, loads, found)
        finally:
            await browser.close()
    return found


async def _page(browser: Any, url: str) -> Any:
    # The policy of the pages lets nobody evaluate text as script, not even whoever measures.
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True)
    context.set_default_timeout(WAIT_MILLISECONDS)
    page = await context.new_page()
    await page.goto(url)
    return page


async def _load(browser: Any, url: str, models: int, found: Browsed) -> None:
    """A browser that has seen nothing yet opens the fleet."""
    page = await _page(browser, f"{url}/fleet")
    rows = f"document.querySelectorAll('main [data-row] .count, main .count').length >= {models}"
    await page.wait_for_function(rows)
    found.filled.append(await page.evaluate("performance.now()"))
    found.first_paint.append(await page.evaluate(PAINTED))
    await page.context.close()


async def _events(browser: Any, url: str, bus: Bus, times: int, found: Browsed) -> None:
    page = await _page(browser, f"{url}/events")
    await page.wait_for_selector("main[data-ready]")
    for number in range(times + 1):
        version = f"seen-{number}"
        watching = await _watching(page, number, "main", version)
        await asyncio.sleep(APART_SECONDS)
        body = json.dumps({"version": version, "path": "/x", "node": "n"}).encode()
        at = time.time()
        await bus.publish_raw("fc.ev.model.registered.bench_live", body)
        # The first one also warms what nothing was drawn with before.
        found.told += [await watching - 1000 * at][: number or 0]
    await page.context.close()


async def _watching(page: Any, number: int, selector: str, text: str) -> "asyncio.Task[float]":
    """A task that gives when something new is shown; it watches already."""
    task = asyncio.create_task(page.evaluate(SEEN, {"selector": selector, "text": text}))
    await page.wait_for_function(f"window.watches === {number + 1}")
    return task
