"""The commands about playbooks, as a person gives them."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.remedy.playbook_rig import Rig, life, rig

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("rig")
    async with rig(folder) as running, life(running):
        await running.serve("hex8", "1", "2")
        yield running


async def command(made: Rig, *words: str, code: int = 0) -> tuple[str, str]:
    """What a command printed."""
    arguments = [sys.executable, "-m", "fleetcast", *words, "--server", made.url]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*arguments, stdout=pipe, stderr=pipe, cwd=made.folder)
    out, err = await process.communicate()
    assert process.returncode == code, err.decode()
    return out.decode(), err.decode()


async def document(made: Rig, *words: str) -> dict[str, Any]:
    out, _ = await command(made, *words, "--json")
    found: dict[str, Any] = json.loads(out)
    return found


async def test_playbooks_are_listed_planned_run_and_shown(made: Rig) -> None:
    listed = await document(made, "playbooks")
    assert {"model_rollback", "node_drain"} <= {each["name"] for each in listed["playbooks"]}
    planned, _ = await command(made, "playbook", "run", "model_rollback", "hex8", "--dry-run")
    assert planned.splitlines()[1].startswith("2. update_deployment: registry: rollback of hex8")

    drilled = await document(made, "drill", "rollback", "hex8")
    assert drilled["ok"]
    assert [step["step"] for step in drilled["steps"]][:2] == ["judge", "find_previous_stable"]
    assert (await made.slot("hex8")).generation == 2

    done = await document(made, "playbook", "run", "model_rollback", "hex8", "--reason", "bad", "--wait")
    assert (done["run"]["phase"], done["run"]["to"]) == ("succeeded", "1")
    shown, _ = await command(made, "playbook", "show", done["run"]["run"][:9])
    assert re.search(r"update_deployment +succeeded", shown)


async def test_what_cannot_be_is_refused_with_the_next_command(made: Rig) -> None:
    _, missing = await command(made, "playbook", "run", "model_rolback", "hex8", "--reason", "x", code=3)
    assert "did you mean model_rollback?" in missing
    _, nameless = await command(made, "playbook", "run", "model_rollback", "hex8", code=2)
    assert "--reason" in nameless
    _, unknown = await command(made, "playbook", "approve", "pb-nothing", "--reason", "x", code=3)
    assert "fleetcast playbooks --all" in unknown
