"""The dashboard's files: whole, from here alone, and with no way from a text to markup."""

import re
from pathlib import PurePosixPath

import pytest

from fleetcast.daemons.gateway.pages import INDEX, VIEWS, is_view, load

PAGES = {path: page.data.decode() for path, page in load().items() if path and not path.endswith(".png")}
SCRIPTS = {path: text for path, text in PAGES.items() if path.endswith(".js")}
MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|\beval\("
)
IMPORT = re.compile(r"""(?:from\s+|import\()["']([^"']+)["']""")


def test_there_is_no_way_from_a_text_to_markup() -> None:
    assert [path for path, text in SCRIPTS.items() if MARKUP.search(text)] == []
    # The search finds what it is for.
    assert MARKUP.search("element.innerHTML = event.reason")


def test_nothing_comes_from_elsewhere() -> None:
    """An address in a file would be asked for where there is no internet; namespaces are names."""
    found = {(path, url) for path, text in PAGES.items() for url in re.findall(r"https?://[^\"'\s)>]+", text)}
    assert {url for _, url in found} <= {"http://www.w3.org/2000/svg"}, found


def test_nothing_is_inline() -> None:
    """The policy refuses it, so that it would not work either."""
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", PAGES[INDEX])


@pytest.mark.parametrize("path", SCRIPTS)
def test_every_import_is_there(path: str) -> None:
    folder = PurePosixPath(path).parent
    for wanted in IMPORT.findall(SCRIPTS[path]):
        parts: list[str] = []
        for part in (folder / wanted).parts:
            parts = parts[:-1] if part == ".." else [*parts, part]
        assert "/".join(parts) in SCRIPTS, wanted


def test_what_the_page_asks_for_first_is_there() -> None:
    for wanted in re.findall(r'(?:href|src)="/([^"]+\.\w+)"', PAGES[INDEX]):
        assert wanted in PAGES or wanted.startswith("api/"), wanted


def test_every_view_of_the_scripts_is_one_of_the_gateway() -> None:
    patterns = re.findall(r"\[/\^\\/([a-z-]+)", SCRIPTS["views.js"])
    assert set(patterns) == VIEWS
    assert is_view("models/hex8_2p")
    assert not is_view("modelsx")
    assert not is_view("views/fleet.js")


def test_files_are_small_enough_to_be_read() -> None:
    assert sum(len(text) for text in PAGES.values()) < 250_000
    assert max(text.count("\n") for text in PAGES.values()) < 500
