"""Debian's Chromium, headless, and what it complained about: nothing, unless a test says so."""

import asyncio
import importlib.util
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

CHROMIUM = shutil.which("chromium")
MISSING = (
    "chromium is not installed: apt-get install chromium"
    if CHROMIUM is None
    else "playwright is not installed"
    if importlib.util.find_spec("playwright") is None
    else ""
)
needs_chromium = pytest.mark.skipif(bool(MISSING), reason=MISSING)
MILLISECONDS = 60_000
"""How long a page may take on a busy machine; where the time is the promise, tests measure it."""
DESKTOP: Final[dict[str, Any]] = {"viewport": {"width": 1280, "height": 800}}
PHONE: Final[dict[str, Any]] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}


@dataclass
class Complaints:
    """What scripts of pages said went wrong, and what a policy refused."""

    said: list[str] = field(default_factory=list)

    def watch(self, page: Any) -> None:
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("console", lambda line: self.said.append(line.text) if _is_complaint(line) else None)


def _is_complaint(line: Any) -> bool:
    # A gateway that is away on purpose is told of by Chromium as well.
    return line.type == "error" and "Failed to load resource" not in line.text and "net::ERR_" not in line.text


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """One browser."""
    from playwright.async_api import async_playwright

    async with async_playwright() as play:
        # As root, Chromium runs without its sandbox only; the pages are our own.
        browser = await play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


async def until_true(page: Any, holds: str) -> None:
    """Wait until an expression is true. Playwright's own way has the page evaluate a text; its policy forbids that."""
    async with asyncio.timeout(MILLISECONDS / 1000):
        while not await page.evaluate(holds):  # noqa: ASYNC110  # what is waited for happens in another process
            await asyncio.sleep(0.02)


@asynccontextmanager
async def tab(browser: Any, url: str, complaints: Complaints, **how: Any) -> AsyncIterator[Any]:
    """A page of its own session, at a path."""
    context = await browser.new_context(**{**DESKTOP, **how})
    context.set_default_timeout(MILLISECONDS)
    page = await context.new_page()
    complaints.watch(page)
    try:
        await page.goto(url)
        await page.wait_for_selector("main[data-ready], main .empty")
        yield page
    finally:
        await context.close()
