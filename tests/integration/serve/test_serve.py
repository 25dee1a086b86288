"""Serving the store over HTTP, read by real clients: curl, http.client, bare sockets."""

import asyncio
import contextlib
import http.client
import os
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.integration.serve.shelves import Shelf, ask, connect, get, say, serve, serving

from fleetcast.config.settings import HttpSettings
from fleetcast.transport.errors import CannotListen
from fleetcast.transport.serve import StoreServer
from fleetcast.transport.testing import until


@pytest.mark.asyncio
async def test_a_file_is_served_whole_by_its_digest(shelf: Shelf) -> None:
    reply = await ask(shelf.url)
    assert (reply.status, reply.body) == (200, shelf.data)
    assert reply.headers["etag"] == f'"{shelf.sha256}"'
    assert reply.headers["accept-ranges"] == "bytes"
    # The last byte is there before it is counted.
    await until(lambda: shelf.server.sent_bytes == len(shelf.data), 30)


@pytest.mark.asyncio
async def test_a_file_of_an_artifact_is_served_under_its_name(shelf: Shelf) -> None:
    artifact = shelf.content.artifact
    reply = await ask(
        f"{shelf.server.endpoint}/a/{artifact}/{artifact[:16]}/with%20space/t%C3%A4g.pt", Range="bytes=5-8"
    )
    assert (reply.status, reply.body) == (206, shelf.data[5:9])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=16384-32767", 16384, 32768),
        ("bytes=2999999-", 2_999_999, 3_000_000),
        ("bytes=-100", 2_999_900, 3_000_000),
        ("bytes=-99999999", 0, 3_000_000),
        ("bytes=2000000-99999999", 2_000_000, 3_000_000),
    ],
)
async def test_a_range_brings_exactly_its_bytes(shelf: Shelf, header: str, start: int, stop: int) -> None:
    reply = await ask(shelf.url, Range=header)
    assert (reply.status, reply.body) == (206, shelf.data[start:stop])
    assert reply.headers["content-range"] == f"bytes {start}-{stop - 1}/3000000"


@pytest.mark.asyncio
@pytest.mark.parametrize("header", ["bytes=3000000-", "bytes=-0"])
async def test_a_range_behind_the_end_is_refused_with_the_size(shelf: Shelf, header: str) -> None:
    reply = await ask(shelf.url, Range=header)
    assert (reply.status, reply.headers["content-range"]) == (416, "bytes */3000000")


@pytest.mark.asyncio
@pytest.mark.parametrize("header", ["bytes=9-2", "lines=0-1", "bytes=a-b", "bytes=0-1,5-6", "bytes=-", "bytes 0-1"])
async def test_a_range_that_is_none_brings_the_whole_file(shelf: Shelf, header: str) -> None:
    reply = await ask(shelf.url, Range=header)
    assert (reply.status, len(reply.body)) == (200, 3_000_000)


@pytest.mark.asyncio
async def test_head_says_the_size_and_sends_nothing(shelf: Shelf) -> None:
    reply = await ask(shelf.url, "HEAD")
    assert (reply.status, reply.headers["content-length"], reply.body) == (200, "3000000", b"")
    assert (await ask(shelf.server.endpoint + "/c/nothing", "HEAD")).status == 404


@pytest.mark.asyncio
async def test_a_client_that_has_the_bytes_is_not_sent_them_again(shelf: Shelf) -> None:
    reply = await ask(shelf.url, If_None_Match=f'"{shelf.sha256}"')
    assert (reply.status, reply.body) == (304, b"")


@pytest.mark.asyncio
async def test_a_resumed_download_of_other_content_starts_over(shelf: Shelf) -> None:
    reply = await ask(shelf.url, Range="bytes=10-19", If_Range='"something else"')
    assert (reply.status, len(reply.body)) == (200, 3_000_000)


@pytest.mark.asyncio
async def test_only_who_knows_the_capability_may_read(shelf: Shelf) -> None:
    parts = urlsplit(shelf.server.endpoint)
    for guess in ("0" * 32, "", parts.path[1:-1], parts.path[1:] + "0", "ä"):
        reply = await ask(f"http://{parts.netloc}/{guess.encode().hex() if guess == 'ä' else guess}/c/{shelf.sha256}")
        assert reply.status == 404
    assert len(parts.path) == 33


@pytest.mark.asyncio
async def test_no_url_climbs_out_of_the_store(shelf: Shelf, tmp_path: Path) -> None:
    artifact, outside = shelf.content.artifact, tmp_path.parent / "secret"
    outside.write_text("secret")
    for path in (
        "/c/../../secret",
        "/c/%2e%2e%2fsecret",
        f"/c/{shelf.sha256}/../../secret",
        f"/c/{shelf.sha256.upper()}",
        f"/a/{artifact}/{artifact[:16]}/../../secret",
        f"/a/{artifact}/{artifact[:16]}/%2e%2e/secret",
        f"/a/{artifact}/{artifact[:15]}/with%20space/t%C3%A4g.pt",
        f"/a/{artifact}/{artifact[:16]}/",
        f"/a/{'0' * 64}/{'0' * 16}/with%20space/t%C3%A4g.pt",
        "",
        "/",
        "/c",
        "/c/",
    ):
        assert (await ask(shelf.server.endpoint + path)).status == 404, path


@pytest.mark.asyncio
async def test_a_symbolic_link_in_the_store_is_not_followed(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / ("e" * 64)).symlink_to("/etc/hostname")
    assert (await ask(f"{shelf.server.endpoint}/c/{'e' * 64}")).status == 404


@pytest.mark.asyncio
async def test_only_reading_is_possible(shelf: Shelf) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        reply = await ask(shelf.url, method)
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.asyncio
async def test_one_connection_carries_many_requests(shelf: Shelf) -> None:
    parts = urlsplit(shelf.url)

    def talk() -> list[bytes]:
        client = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        bodies = []
        for n in range(20):
            client.request("GET", parts.path, headers={"Range": f"bytes={n}-{n}"})
            bodies.append(client.getresponse().read())
        client.close()
        return bodies

    assert b"".join(await asyncio.to_thread(talk)) == shelf.data[:20]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"hello\r\n\r\n", b"400"),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", b"431"),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", b"413"),
        (b"GET /x HTTP/1.1\r\n\r\n", b"400"),
    ],
)
async def test_a_request_that_is_none_is_refused_and_ends_the_connection(
    shelf: Shelf, raw: bytes, status: bytes
) -> None:
    assert (await say(shelf, raw)).startswith(b"HTTP/1.1 " + status)


@pytest.mark.asyncio
async def test_a_client_that_drips_its_request_is_dropped(shelf: Shelf) -> None:
    parts = urlsplit(shelf.server.endpoint)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)

    async def drip() -> None:
        while True:
            writer.write(b"G")
            await asyncio.sleep(0.1)

    dripping = asyncio.create_task(drip())
    try:
        async with asyncio.timeout(30):
            # A drop that comes later than the next drip is told as a reset.
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read(-1) == b""
    finally:
        dripping.cancel()
        writer.close()


@pytest.mark.asyncio
async def test_a_reader_that_stops_reading_is_dropped_and_makes_room(tmp_path: Path) -> None:
    shelf = serve(tmp_path, bytes(64 * 2**20), HttpSettings(port=0, max_connections=1, idle_seconds=0.5))
    await shelf.server.start()
    parts = urlsplit(shelf.url)
    with socket.create_connection((parts.hostname, parts.port)) as stuck:
        stuck.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        # The only place is taken by the stuck one; this request waits in the backlog until that is dropped.
        assert (await ask(shelf.url, Range="bytes=0-3")).body == bytes(4)
    await shelf.server.close()


@pytest.mark.asyncio
async def test_a_taken_port_is_an_error_that_names_port_and_setting(shelf: Shelf) -> None:
    port = urlsplit(shelf.server.endpoint).port
    assert port is not None
    second = StoreServer(HttpSettings(port=port), bind="127.0.0.1", advertise="127.0.0.1", find=lambda _: None)
    with pytest.raises(CannotListen, match=str(port)) as failure:
        await second.start()
    assert "[http] port" in failure.value.next_step
    await second.close()


@pytest.mark.asyncio
async def test_closing_drops_connections_under_way(tmp_path: Path) -> None:
    shelf = serve(tmp_path, bytes(64 * 2**20), HttpSettings(port=0, idle_seconds=60))
    await shelf.server.start()
    parts = urlsplit(shelf.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"GET {parts.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readexactly(1000)
    async with asyncio.timeout(30):
        await shelf.server.close()
    writer.close()


@pytest.mark.asyncio
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_resumes_a_broken_download(shelf: Shelf, tmp_path: Path) -> None:
    target = tmp_path / "resumed"
    target.write_bytes(shelf.data[:1_234_567])
    curl = await asyncio.create_subprocess_exec("curl", "-sSf", "-C", "-", "-o", str(target), shelf.url)
    assert await curl.wait() == 0
    assert target.read_bytes() == shelf.data


@pytest.mark.asyncio
async def test_a_client_with_enough_connections_is_turned_away_and_another_is_served(tmp_path: Path) -> None:
    shelf = await serving(tmp_path, bytes(100), max_connections_per_client=2)
    greedy = [await connect(shelf) for _ in range(3)]
    async with asyncio.timeout(30):
        assert (await greedy[2][0].read()).startswith(b"HTTP/1.1 503 ")
    other, writer = await connect(shelf, "127.0.0.2")
    writer.write(get(shelf, "Connection: close"))
    async with asyncio.timeout(30):
        assert (await other.read()).startswith(b"HTTP/1.1 200 ")
    greedy[0][1].close()
    await shelf.server.close()
    for _, each in (*greedy, (other, writer)):
        each.close()


@pytest.mark.asyncio
async def test_dripped_requests_take_no_room_from_others(tmp_path: Path) -> None:
    """All places are taken by clients that never finish their request; they have a minute for it."""
    shelf = await serving(tmp_path, bytes(100), max_connections=4, idle_seconds=60)
    drips = [await connect(shelf, f"127.0.0.{n}") for n in range(2, 6)]
    for _, writer in drips:
        writer.write(b"GET /x HTTP/1.1\r\nHost")
    async with asyncio.timeout(30):
        assert (await ask(shelf.url)).body == bytes(100)
    await shelf.server.close()
    for _, writer in drips:
        writer.close()


@pytest.mark.asyncio
async def test_many_requests_of_one_client_wait_and_those_of_another_do_not(tmp_path: Path) -> None:
    shelf = await serving(tmp_path, bytes(100), requests_per_second=5.0)
    reader, writer = await connect(shelf)
    writer.write(20 * get(shelf, "Range: bytes=0-0"))
    loop = asyncio.get_running_loop()
    began = loop.time()
    other, theirs = await connect(shelf, "127.0.0.2")
    theirs.write(get(shelf, "Connection: close"))
    async with asyncio.timeout(30):
        assert (await other.read()).startswith(b"HTTP/1.1 200 ")
        for _ in range(20):
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(1)
    assert loop.time() - began > 2.0
    await shelf.server.close()
    writer.close()
    theirs.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "headers",
    [
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 0\r\n\r\n",
        "Content-Length: +5\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\n\r\n",
        "X: a\r\n b: folded\r\nContent-Length: 40\r\n\r\n",
        "Content-Length: 40\r\n\r\n",
    ],
)
async def test_no_request_is_smuggled_behind_another(shelf: Shelf, headers: str) -> None:
    """What follows a request whose end two readers could see in two places is not answered."""
    path = urlsplit(shelf.url).path
    first = f"GET {path} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-0\r\n{headers}"
    answers = await say(shelf, first.encode() + get(shelf, "Range: bytes=1-1"))
    assert answers.count(b"HTTP/1.1 ") == 1
    assert answers[9:10] in {b"4", b"5"}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "header",
    [
        "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 4000, 2)),
        "bytes=0-,0-,0-,0-,0-",
        f"bytes=0-{10**17}",
        f"bytes={10**40}-",
        "bytes=-0,1-",
        "bytes=--1",
        "bytes=0x10-0x20",
        "bytes=\u0663-\u0665",
    ],
)
async def test_a_range_that_is_an_abuse_costs_no_more_than_the_file(shelf: Shelf, header: str) -> None:
    raw = f"GET {urlsplit(shelf.url).path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: {header}\r\n\r\n"
    answer = await say(shelf, raw.encode())
    assert answer[:12] in {b"HTTP/1.1 200", b"HTTP/1.1 206", b"HTTP/1.1 400", b"HTTP/1.1 416"}
    assert len(answer) < len(shelf.data) + 2000


@pytest.mark.asyncio
async def test_a_file_that_is_replaced_meanwhile_is_sent_as_it_was(tmp_path: Path) -> None:
    data = os.urandom(32 * 2**20)
    shelf = await serving(tmp_path, data)
    reader, writer = await connect(shelf)
    writer.write(get(shelf, "Connection: close"))
    async with asyncio.timeout(30):
        await reader.readuntil(b"\r\n\r\n")
        beginning = await reader.readexactly(1000)
        (tmp_path / "new").write_bytes(bytes(len(data)))
        (tmp_path / "new").replace(tmp_path / shelf.sha256)
        assert beginning + await reader.read() == data
        assert (await ask(shelf.url, Range="bytes=0-9")).body == bytes(10)
        (tmp_path / shelf.sha256).unlink()
        assert (await ask(shelf.url)).status == 404
    await shelf.server.close()
    writer.close()


@pytest.mark.asyncio
async def test_a_file_that_shrinks_meanwhile_ends_the_connection(tmp_path: Path) -> None:
    shelf = await serving(tmp_path, bytes(64 * 2**20))
    reader, writer = await connect(shelf)
    writer.write(get(shelf, "Connection: close"))
    async with asyncio.timeout(30):
        await reader.readuntil(b"\r\n\r\n")
        os.truncate(tmp_path / shelf.sha256, 100)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(64 * 2**20)
    await shelf.server.close()
    writer.close()
