"""A file server over one file, whatever is asked for; arguments: FILE ADDRESS PORT, and `--bare` for the floor."""

import asyncio
import os
import socket
import sys
import threading
from pathlib import Path

from fleetcast.config.settings import HttpSettings
from fleetcast.transport.serve import StoreServer

CAPABILITY = "bench"


async def serve(file: Path, address: str, port: int) -> None:
    """Our own server."""
    server = StoreServer(
        HttpSettings(port=port), bind=address, advertise=address, find=lambda _sha256: file, capability=CAPABILITY
    )
    await server.start()
    _say_ready()
    await asyncio.Event().wait()


def serve_bare(file: Path, address: str, port: int) -> None:
    """Nothing but accept, fixed headers and sendfile(2): the least that any server needs."""
    with socket.create_server((address, port), backlog=64) as listener:
        _say_ready()
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_answer, args=(client, file), daemon=True).start()


def _answer(client: socket.socket, file: Path) -> None:
    with client, file.open("rb") as source:
        size, sent = file.stat().st_size, 0
        client.recv(65536)
        client.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode())
        while sent < size:
            sent += os.sendfile(client.fileno(), source.fileno(), sent, size - sent)


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


if __name__ == "__main__":
    chosen, at, number, *more = sys.argv[1:]
    if more == ["--bare"]:
        serve_bare(Path(chosen), at, int(number))
    else:
        asyncio.run(serve(Path(chosen), at, int(number)))
