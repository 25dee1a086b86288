"""What `fleetcast up` says of the gateway that it does without."""

import socket
from pathlib import Path
from typing import cast

import pytest

from fleetcast.bus.server import LocalServer
from fleetcast.cli.local.answering import port_of_gateway
from fleetcast.cli.local.fleet import LocalFleet, Plan
from fleetcast.cli.local.layout import Layout
from fleetcast.cli.local.processes import Child
from fleetcast.cli.output import Output
from fleetcast.cli.problems import Problem
from fleetcast.config.local import LOOPBACK


def with_gateway(folder: Path, *command: str) -> LocalFleet:
    """A fleet of which only the gateway was started, as this *command*; it has ended."""
    made = LocalFleet(Layout(folder), Plan(("node-1",), gateway_port=1), cast("LocalServer", None))
    made.controls["gateway"] = child = Child("gateway", command, folder / "gateway.log")
    child.start()
    assert child._process is not None
    child._process.wait(30)
    return made


def test_a_gateway_that_ended_is_told_with_its_exit_code_and_its_log(tmp_path: Path) -> None:
    fleet = with_gateway(tmp_path, "sh", "-c", "exit 7")
    assert fleet.gateway is None
    assert fleet.gateway_ended == f"no gateway: it ended with exit code 7; read {tmp_path / 'gateway.log'}"


def test_nothing_is_said_of_a_gateway_that_was_never_started(tmp_path: Path) -> None:
    assert LocalFleet(Layout(tmp_path), Plan(("node-1",)), cast("LocalServer", None)).gateway_ended is None


def test_a_port_on_which_somebody_listens_is_refused_where_it_was_asked_for() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Problem, match=rf"no gateway: port {port} of {LOOPBACK} cannot be listened on: Address"):
            port_of_gateway(Output(json_mode=False), port)
