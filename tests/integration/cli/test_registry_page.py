"""docs/registry.md: every command on the page runs as written, in its order, and ends as the page says."""

from pathlib import Path

import pytest
from tests.integration.cli.pages import ROOT, blocks, lines, running_up, wrong_lines

PAGE = (ROOT / "docs" / "registry.md").read_text()


def test_every_command_of_the_page_ends_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (gates,) = blocks(PAGE, "toml")
    (tmp_path / "gates.toml").write_text(gates)
    (tmp_path / "review.pdf").write_bytes(b"%PDF-1.7 all well")
    models = (f"hex8-{number}.safetensors" for number in (41, 42, 43))
    asked = [line for block in blocks(PAGE, "sh") for line in lines(block)]
    assert len(asked) > 50
    with running_up(tmp_path, "--gates", "gates.toml", models=models):
        wrong = wrong_lines(tmp_path, asked, monkeypatch, capsys)
    assert not wrong, "\n".join(wrong)
    assert {line.code for line in asked} == {0, 1, 2, 3, 4}
