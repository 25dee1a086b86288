"""A server, a node and a registry daemon that really run, and the command line in this process."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.integration.cli.stand import Ended, called, live_in
from tests.integration.cli.weights import safetensors
from tests.integration.registry.small_fleet import SmallFleet, small_fleet

from fleetcast.bus import Bus, connect
from fleetcast.config.settings import BusSettings

_T = TypeVar("_T")
GATES = """[default]
decides = "gates"
metadata = []
canary_steps = []
quorum_ratio = 0.0
[default.gates.production]
win_rates = { random = 0.90 }
flags = ["bias_check_passed"]
[profile.free]
models = ["free*"]
decides = "external"
[profile.agreed]
models = ["agreed*"]
[profile.agreed.gates.production]
approvals = { count = 1, expires_seconds = 3600 }
[profile.tested]
models = ["tested*"]
[profile.tested.gates.production]
tested_format = true
[profile.whole]
models = ["whole*"]
decides = "external"
quorum_ratio = 1.0
distribute_seconds = 1
"""


@dataclass
class Cli:
    """Commands in this process: as many processes would take a minute to import the same modules."""

    fleet: SmallFleet
    capsys: pytest.CaptureFixture[str]
    models: Iterator[int]
    kept: dict[str, str]

    def __call__(self, *arguments: str) -> Ended:
        done = called(arguments, self.capsys)
        assert "fault of fleetcast" not in done.err, done.err
        return done

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """The one document of a command that ends with *code*."""
        done = self(*arguments, "--json")
        assert done.code == code, done
        assert done.document["schema_version"] == 1
        return done.document

    def error(self, *arguments: str, code: int) -> dict[str, Any]:
        """What a command says that fails."""
        found = self.json(*arguments, code=code)["error"]
        assert isinstance(found, dict)
        assert {"code", "message", "why", "next"} <= set(found)
        return found

    def model(self, *versions: str, name: str = "strict") -> str:
        """A model that no other test uses, with registered versions."""
        made = f"{name}{next(self.models)}"
        for number, version in enumerate(versions):
            file = self.fleet.folder / "publish" / f"{made}-{version}.safetensors"
            file.write_bytes(safetensors(number))
            done = self("register", made, version, str(file), "--wait", "--timeout", "60s")
            assert done.code == 0, done
        return made

    def spare(self) -> str:
        """A model with one version that nothing becomes of: for commands that are refused."""
        if "spare" not in self.kept:
            self.kept["spare"] = self.model("1", name="free")
        return self.kept["spare"]

    def good(self, model: str, version: str) -> None:
        """Evidence with which the gates let a version into production."""
        assert self("evidence", "games", model, version, "random=98/2").code == 0
        assert self("evidence", "set", model, version, "bias_check_passed=true", "--reason", "review 88").code == 0

    def do(self, act: Callable[[Bus], Awaitable[_T]]) -> _T:
        """Do something on a bus of its own."""

        async def done() -> _T:
            async with connect(BusSettings(url=self.fleet.server.url), node="tests", daemon="tests") as bus:
                return await act(bus)

        return asyncio.run(done())

    def last_sequence(self) -> int:
        """Of FC_REGISTRY: whatever is written there makes it grow."""

        async def last(bus: Bus) -> int:
            newest = await bus.last("FC_REGISTRY", "fc.reg.>")
            return newest.sequence if newest else 0

        return self.do(last)


@contextmanager
def registry_fleet(folder: Path) -> Iterator[SmallFleet]:
    """A node and a registry daemon with gates."""
    with small_fleet(folder, gates=GATES) as fleet:
        fleet.start(fleet.keeper)
        yield fleet


def speak_for(fleet: SmallFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands of this process speak for the node of *fleet*, and know nothing else of this machine."""
    live_in(fleet.folder, None, monkeypatch)
    monkeypatch.setenv("FLEETCAST_CONFIG", str(fleet.node.config))


def records(text: str) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in text.splitlines()]
