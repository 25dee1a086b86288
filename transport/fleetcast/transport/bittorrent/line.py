"""A connection that is read in large pieces: its reader is woken when much has come, and not for every packet.

asyncio's streams wake it for whatever there is, on a slow link a few packets at a time. Standard library only.
"""

import asyncio
import socket
from collections.abc import AsyncIterator

ENOUGH_BYTES = 64 * 1024
"""What has to be there before the reader is woken; within the window of a new connection, which this must not limit."""
LOOK_SECONDS = 0.25
"""What has come is taken after this time in any case, so that it is counted and its slowness is no silence."""


class Line:
    """A TCP connection to be read in order: heads of answers, and bodies whose size is known.

    Args:
        stall_seconds: longest wait for the next byte.
    """

    def __init__(self, connected: socket.socket, stall_seconds: float) -> None:
        self._socket, self._stall_seconds = connected, stall_seconds
        self._early = b""
        self._enough = 1
        self._begun = False

    @classmethod
    async def open(cls, host: str, port: int, stall_seconds: float) -> "Line":
        """Connect.

        Raises:
            OSError: nobody is there.
            TimeoutError: nobody answers.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(stall_seconds):
                await loop.sock_connect(connection, address)
        except BaseException:
            connection.close()
            raise
        return cls(connection, stall_seconds)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    async def send(self, data: bytes) -> None:
        """Send *data*.

        Raises:
            OSError: the connection broke.
            TimeoutError: nobody reads.
        """
        async with asyncio.timeout(self._stall_seconds):
            await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def head(self, most: int) -> bytes:
        """Return what comes next up to and with an empty line, *most* bytes at most.

        Raises:
            EOFError: the other side hung up.
            OSError: the connection broke.
            TimeoutError: nothing came.
            ValueError: it is longer.
        """
        said = self._early
        while (end := said.find(b"\r\n\r\n")) < 0:
            if len(said) >= most:
                raise ValueError("a head without an end")
            said += await self._some(most - len(said), 1)
        self._early = said[end + 4 :]
        return said[: end + 4]

    async def body(self, size: int) -> AsyncIterator[bytes]:
        """Yield the next *size* bytes as they come, ENOUGH_BYTES at most at once; the first ones without delay.

        Raises:
            EOFError: the other side hung up.
            OSError: the connection broke.
            TimeoutError: nothing came.
        """
        left = size
        while left:
            if self._early:
                chunk, self._early = self._early[:left], self._early[left:]
            else:
                most = min(left, ENOUGH_BYTES)
                chunk = await self._some(most, most if self._begun else 1)
            self._begun = True
            left -= len(chunk)
            yield chunk

    async def _some(self, most: int, enough: int) -> bytes:
        """What is there, as soon as it is *enough*, or LOOK_SECONDS have passed and it is anything."""
        self._wait_for(enough)
        loop = asyncio.get_running_loop()
        patience = loop.time() + self._stall_seconds
        while True:
            ready = await self._readable(LOOK_SECONDS)
            try:
                chunk = self._socket.recv(most)
            except (BlockingIOError, InterruptedError):
                if not ready and loop.time() > patience:
                    raise TimeoutError(f"nothing came for {self._stall_seconds:g} s") from None
                continue
            if not chunk:
                raise EOFError("the other side hung up")
            return chunk

    def _wait_for(self, enough: int) -> None:
        """Let the kernel call the socket readable from so many bytes on, or at its end (socket(7), SO_RCVLOWAT)."""
        if enough != self._enough:
            self._enough = enough
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, enough)

    async def _readable(self, seconds: float) -> bool:
        loop, descriptor = asyncio.get_running_loop(), self._socket.fileno()
        there: asyncio.Future[bool] = loop.create_future()
        loop.add_reader(descriptor, _tell, there, True)
        late = loop.call_later(seconds, _tell, there, False)
        try:
            return await there
        finally:
            late.cancel()
            loop.remove_reader(descriptor)


def _tell(waiting: asyncio.Future[bool], answer: bool) -> None:
    if not waiting.done():
        waiting.set_result(answer)
