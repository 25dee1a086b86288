"""What the service manager is told."""

import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from fleetcast.daemons.runtime.notify import Notifier


def test_ready_is_sent_with_its_status_in_one_message(manager: Any) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.address})

    assert notifier.ready("2 models in sync")

    assert manager.receive() == b"READY=1\nSTATUS=2 models in sync"


def test_each_message_has_the_form_of_sd_notify(manager: Any) -> None:
    notifier = Notifier(address=manager.address)

    notifier.status("1 transfer, 62 %")
    notifier.watchdog()
    notifier.extend_timeout(1.5)
    notifier.stopping("stopping: SIGTERM")

    assert manager.waiting() == [
        b"STATUS=1 transfer, 62 %",
        b"WATCHDOG=1",
        b"EXTEND_TIMEOUT_USEC=1500000",
        b"STOPPING=1\nSTATUS=stopping: SIGTERM",
    ]


def test_abstract_address_is_reached(make_socket: Any) -> None:
    name = f"fleetcast-test-{uuid.uuid4()}"
    listener = make_socket("\0" + name)

    assert Notifier.from_environment({"NOTIFY_SOCKET": "@" + name}).watchdog()

    assert listener.receive() == b"WATCHDOG=1"


def test_status_of_several_lines_cannot_smuggle_in_a_second_assignment(manager: Any) -> None:
    Notifier(address=manager.address).status("slow\nREADY=1")

    assert manager.receive() == b"STATUS=slow READY=1"


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative/path"])
def test_without_a_usable_socket_nothing_is_sent_and_nothing_raised(address: str) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})

    assert not notifier.enabled
    assert not notifier.ready()


def test_manager_that_went_away_does_not_harm_the_daemon(tmp_path: Path) -> None:
    assert not Notifier(address=str(tmp_path / "gone")).watchdog()


def test_manager_that_does_not_read_never_blocks_the_daemon(manager: Any) -> None:
    notifier = Notifier(address=manager.address)

    sent = [notifier.status("x" * 1000) for _ in range(5000)]

    assert sent[0]
    assert not sent[-1]


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_time_counts_only_for_the_process_it_is_meant_for(env: dict[str, str], seconds: float | None) -> None:
    assert Notifier.from_environment(env).watchdog_seconds == seconds
