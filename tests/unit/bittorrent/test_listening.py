"""A port to listen on."""

import socket
from pathlib import Path

import pytest

from fleetcast.transport.listening import free_port

LOOPBACK = "127.0.0.1"
ELSEWHERE = "192.0.2.1"
"""RFC 5737: no machine has it."""


def test_a_free_port_is_none_that_the_kernel_gives_to_a_connection_that_goes_out() -> None:
    first, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert all(1024 <= free_port(LOOPBACK, 0) < min(int(first), 32768) for _ in range(20))


def test_a_port_that_somebody_listens_on_is_refused() -> None:
    with socket.create_server((LOOPBACK, 0)) as other, pytest.raises(OSError, match="in use"):
        free_port(LOOPBACK, other.getsockname()[1])


def test_an_address_of_another_machine_has_no_free_port() -> None:
    with pytest.raises(OSError, match="assign"):
        free_port(ELSEWHERE, 0)
