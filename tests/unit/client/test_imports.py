"""The client runs inside other people's training images: nothing but the standard library, and little of that."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fleetcast.client

CLIENT = Path(fleetcast.client.__path__[0])

ALONE = """
import sys
sys.path.insert(0, {root!r})
import importlib, pkgutil
import fleetcast.client
for each in pkgutil.walk_packages(fleetcast.client.__path__, "fleetcast.client."):
    importlib.import_module(each.name)
from fleetcast.client import emit, lost, run, snapshot
from fleetcast.client.adapters import hugging_face, lightning
with run("hex8_2p") as r:
    for batch in r.steps([1, 2]):
        r.log_metrics(loss=batch)
    r.log_epoch(0, loss=1)
    assert r.promote("m.pt", 43)
    lightning(r), hugging_face(r)
assert snapshot("hex8_2p", 43, num_requests=1)
assert emit("model.promoted", model="hex8_2p", version=43, path="m.pt")
assert not lost()
from fleetcast.client.spool import SpoolReader
with SpoolReader({spool!r}) as reader:
    assert len(list(reader.pending())) == 6
foreign = [name for name, module in sys.modules.items()
           if getattr(module, "__file__", None) and "site-packages" in module.__file__]
print(foreign)
"""


def run_alone(tmp_path: Path, code: str) -> str:
    """Run *code* with the client's files as the only thing installed: no site, no environment, no other package."""
    shutil.copytree(CLIENT, tmp_path / "root" / "fleetcast" / "client", dirs_exist_ok=True)
    script = code.format(root=str(tmp_path / "root"), spool=str(tmp_path / "spool"))
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-W",
            "error",
            "-c",
            f"import os; os.environ['FLEETCAST_SPOOL'] = {str(tmp_path / 'spool')!r}\n" + script,
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_client_works_where_nothing_else_is_installed(tmp_path: Path) -> None:
    assert run_alone(tmp_path, ALONE).strip() == "[]"


def test_emitting_loads_nothing_that_is_slow_to_import(tmp_path: Path) -> None:
    code = """
import sys
sys.path.insert(0, {root!r})
from fleetcast.client import emit, run, snapshot
with run("hex8_2p") as r:
    r.log_epoch(0, loss=1)
    r.promote("m.pt", 43)
snapshot("hex8_2p", 43, num_requests=1)
print(" ".join(sys.modules))
"""
    loaded = set(run_alone(tmp_path, code).split())
    slow = {"asyncio", "dataclasses", "difflib", "enum", "inspect", "json", "logging", "pathlib", "re", "socket", "ssl"}
    slow |= {"subprocess", "typing", "uuid"}
    assert loaded & slow == set()
    assert "fleetcast.client.spool.reader" not in loaded


@pytest.mark.parametrize("name", ["nothing", "reader2"])
def test_unknown_name_of_the_spool_is_an_attribute_error(name: str) -> None:
    import fleetcast.client.spool

    with pytest.raises(AttributeError, match=name):
        getattr(fleetcast.client.spool, name)
