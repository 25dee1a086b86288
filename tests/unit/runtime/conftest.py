"""Sockets where the journal and the service manager would listen, and a logging configuration put back after use."""

import array
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog


class DatagramSocket:
    """The receiving end of an AF_UNIX datagram socket; a file descriptor that a peer passed is read like a message."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(5)

    def receive(self) -> bytes:
        """The next message, whole."""
        data, ancillary, _, _ = self._socket.recvmsg(2**20, socket.CMSG_SPACE(8))
        for _, _, rights in ancillary:
            (handle,) = array.array("i", rights[:4])
            os.lseek(handle, 0, os.SEEK_SET)
            with os.fdopen(handle, "rb") as file:
                return file.read()
        return data

    def waiting(self) -> list[bytes]:
        """All messages that are there now."""
        self._socket.setblocking(False)
        messages = []
        try:
            while True:
                messages.append(self.receive())
        except BlockingIOError:
            return messages
        finally:
            self._socket.settimeout(5)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture
def make_socket() -> Iterator[Callable[[str], DatagramSocket]]:
    """Makes sockets that listen at a given address, until the test ends."""
    made: list[DatagramSocket] = []

    def make(address: str) -> DatagramSocket:
        made.append(DatagramSocket(address))
        return made[-1]

    yield make
    for listener in made:
        listener.close()


@pytest.fixture
def journal(tmp_path: Path, make_socket: Callable[[str], DatagramSocket]) -> DatagramSocket:
    """A socket that listens where a journal would."""
    return make_socket(str(tmp_path / "journal"))


@pytest.fixture
def manager(tmp_path: Path, make_socket: Callable[[str], DatagramSocket]) -> DatagramSocket:
    """A socket that listens where a service manager would."""
    return make_socket(str(tmp_path / "notify"))


@pytest.fixture
def logging_put_back() -> Iterator[None]:
    """Undo what configuring the logs of this process changed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
