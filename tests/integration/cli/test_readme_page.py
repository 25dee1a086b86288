"""README.md: what it shows of a fleet on one machine runs as written, in its order."""

from pathlib import Path

import pytest
from tests.integration.cli.pages import ROOT, Line, blocks, lines, running_up, wrong_lines
from tests.integration.cli.weights import safetensors

README = (ROOT / "README.md").read_text()
STARTS = "./fleetcast up"


def asked() -> list[Line]:
    """The commands from the `up` on; the sections before and after it are about other machines."""
    shown = [list(lines(block)) for block in blocks(README, "sh")]
    begin = next(n for n, block in enumerate(shown) if block[0].text.startswith(STARTS))
    same = [block for block in shown[begin:] if "my_model" in "".join(line.text for line in block)]
    return [line for block in same for line in block if line.words[0] != "nats" and not line.text.startswith(STARTS)]


def test_every_command_about_a_fleet_on_this_machine_works_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in ((1, "model.safetensors"), (2, "model-2.safetensors")):
        (tmp_path / name).write_bytes(safetensors(number))
    told = asked()
    assert len(told) > 12
    with running_up(tmp_path, models=()):
        wrong = wrong_lines(tmp_path, told, monkeypatch, capsys)
    assert not wrong, "\n".join(wrong)
