"""docs/incidents.md and docs/runbooks/: every command that people copy is one that there is, and every page says all
that somebody who was woken needs."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from fleetcast.cli.app import build
from fleetcast.config.incidents import RUNBOOKS

DOCS = Path(__file__).parents[3] / "docs"
PAGES = sorted([*(DOCS / "runbooks").glob("*.md"), DOCS / "incidents.md"])
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
APP = typer.main.get_command(build())


def commands(page: Path) -> list[str]:
    lines = [line.partition("  #")[0] for block in _BLOCK.findall(page.read_text()) for line in block.splitlines()]
    return [line for line in lines if line.startswith("fleetcast ")]


def parses(words: list[str]) -> None:
    """Read *words* as the command line does, without doing anything; fails where there is no such command, option or
    value."""
    found: Any = APP
    context = found.context_class(found, info_name="fleetcast")
    while isinstance(found, TyperGroup) and words and not words[0].startswith("-"):
        name, following, words = found.resolve_command(context, list(words))
        assert following is not None
        found, context = following, following.context_class(following, info_name=name, parent=context)
    if not isinstance(found, TyperGroup):
        found.make_context("command", list(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_is_one_that_there_is(page: Path) -> None:
    asked = commands(page)
    assert asked
    for command in asked:
        parses(shlex.split(command)[1:])


def test_a_command_that_is_not_there_is_noticed() -> None:
    for wrong in ("acknowledge inc-1", "ack inc-1 --because x", "ack", "silence --below dreadful", "monitor shew x"):
        with pytest.raises(Exception, match=r"(?i)no such|missing|invalid|is not one of"):
            parses(wrong.split())


def test_every_trigger_has_a_page_with_the_same_parts() -> None:
    for trigger in RUNBOOKS:
        text = (DOCS / "runbooks" / f"{trigger}.md").read_text()
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
            "What you see",
            "What was already done",
            "Look",
            "Do",
            "Undo",
        ], trigger
        assert f"Trigger `{trigger}`" in text
        assert "```sh" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_page_is_in_the_table_of_pages() -> None:
    index = (DOCS / "runbooks" / "README.md").read_text()
    missing = [page.name for page in PAGES if page.parent.name == "runbooks" and f"({page.name})" not in index]
    assert missing == ["README.md"]
