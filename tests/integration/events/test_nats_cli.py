"""docs/nats-cli.md on a real server: what is pasted arrives as an event."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from fleetcast.bus.testing import nats_server
from fleetcast.events.envelope import parse
from fleetcast.events.recipes import Recipe, recipes

PAGE = Path(__file__).parents[3] / "docs" / "nats-cli.md"
PUBLISHING = [
    recipe
    for recipe in recipes(PAGE.read_text())
    if recipe.publication is not None and recipe.publication.subject.startswith("fc.ev.")
]

Send = Callable[[Client, str, Recipe], Awaitable[None]]


async def by_plain_client(client: Client, url: str, recipe: Recipe) -> None:
    """What any NATS library does with the recipe's subject, body and headers."""
    publication = recipe.publication
    assert publication is not None
    await client.jetstream().publish(publication.subject, publication.body, headers=publication.headers or None)


async def by_nats_cli(client: Client, url: str, recipe: Recipe) -> None:
    """The recipe as it stands on the page, run by the real NATS CLI."""
    process = await asyncio.create_subprocess_exec(
        recipe.command[0],
        "--server",
        url,
        *recipe.command[1:],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


SENDERS = [
    pytest.param(by_plain_client, id="plain client"),
    pytest.param(
        by_nats_cli,
        id="nats",
        marks=pytest.mark.skipif(shutil.which("nats") is None, reason="the NATS CLI `nats` is not installed"),
    ),
]


@pytest.mark.asyncio
@pytest.mark.parametrize("send", SENDERS)
async def test_every_recipe_arrives_as_an_event(tmp_path: Path, send: Send) -> None:
    async with nats_server(tmp_path) as server:
        client = await nats.connect(server.url)
        try:
            await client.jetstream().add_stream(StreamConfig(name="FC_EVENTS", subjects=["fc.ev.>"]))
            for sequence, recipe in enumerate(PUBLISHING, 1):
                await send(client, server.url, recipe)
                stored = await client.jetstream().get_msg("FC_EVENTS", sequence)
                assert stored.subject is not None
                event = parse(
                    stored.data or b"",
                    subject=stored.subject,
                    headers=stored.headers,
                    stream="FC_EVENTS",
                    sequence=sequence,
                    time=stored.time,
                )
                # Runs are told under their own name, everything else under the model's or the node's.
                assert event.key in ({"hex8-2p-0042"} if event.type.name.startswith("run.") else {"hex8_2p", "gpu-2"})
                assert event.id in {f"FC_EVENTS:{sequence}", "promote-hex8_2p-43", "ci-8812", "ci-8813"}
        finally:
            await client.close()
