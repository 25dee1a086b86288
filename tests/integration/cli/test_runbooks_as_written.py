"""docs/runbooks/ and docs/incidents.md, tried as written: an incident of the page's trigger is open, and every command
of the page is run in its order beside a real `up`."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.cli.pages import ROOT, Line, blocks, lines, running_up, wrong_lines

from fleetcast.cli.entry import run

DOCS = ROOT / "docs"
PAGES = [DOCS / "incidents.md", *sorted((DOCS / "runbooks").glob("*.md"))]
NAMED = "inc-7f3k9m2x4h"
"""The incident of all pages."""
MODELS = ("hex8-42.safetensors", "hex8-43.safetensors", "hex8-44.safetensors")
TRIES = 600

Command = Callable[..., tuple[int, str]]


def asked(page: Path, incident: str) -> list[Line]:
    """The commands of a page about *incident*; those of other programs are theirs, and `fleet` has a folder of keys,
    which this fleet has not."""
    found = [line for block in blocks(page.read_text(), "sh") for line in lines(block)]
    mine = [
        line for line in found if line.text.startswith("fleetcast ") and not line.text.startswith("fleetcast fleet ")
    ]
    return [Line(line.text.replace(NAMED, incident), line.code) for line in mine]


def opened(command: Command, trigger: str) -> str:
    """The id of an incident of *trigger* about what the pages are about."""
    about = ("source=test", "resource_id=hex8_2p", "version=43", f"trigger={trigger}")
    command("emit", "incident.raised", *about, "severity=medium", "title=tried")
    for _ in range(TRIES):
        _, said = command("incidents", "--model", "hex8_2p")
        found = [line.split()[0] for line in said.splitlines() if f" {trigger} " in line]
        if found:
            return found[0]
    raise AssertionError(f"no incident of {trigger} was opened")


def as_before(command: Command) -> None:
    """43 is served again, 42 before it, and every node is in service."""
    for words in (
        "unfreeze --all --reason tried",
        "undrain node-1 --reason tried",
        "undrain node-2 --reason tried",
        "release hex8_2p@42 --reason tried",
        "release hex8_2p@43 --reason tried",
        "release hex8_2p@44 --reason tried",
        "promote hex8_2p 42 --now --replace --reason tried --wait",
        "promote hex8_2p 43 --now --replace --reason tried --wait",
    ):
        command(*words.split())


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_every_command_of_every_runbook_can_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = run(words)
        return code, capsys.readouterr().out

    with running_up(tmp_path, models=MODELS):
        assert wrong_lines(tmp_path, [], monkeypatch, capsys) == []
        publish = tmp_path / ".fleetcast-up" / "publish"
        for name in MODELS:
            version = name.removeprefix("hex8-").partition(".")[0]
            assert command("register", "hex8_2p", version, str(publish / name), "--wait")[0] == 0
        command(*["emit", "run.started", "run_id=hex8-2p-0042", "node=node-1", "lane=hex8_2p"])
        wrong = []
        for page in PAGES:
            as_before(command)
            trigger = page.stem.lower()
            page_asks = asked(page, opened(command, trigger))
            wrong += [f"{page.name}: {each}" for each in wrong_lines(tmp_path, page_asks, monkeypatch, capsys)]
    assert not wrong, "\n".join(wrong)
