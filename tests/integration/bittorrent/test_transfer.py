"""Transfers as they should go."""

import asyncio
import os
from pathlib import Path

import pytest

from fleetcast.transport.errors import CannotListen, MetainfoRefused, TransferFailed
from fleetcast.transport.protocol import FetchRequest, Source, Transport

pytestmark = pytest.mark.asyncio
MIB = 2**20


async def test_a_file_comes_to_its_place_and_every_piece_is_proven(swarm, model):
    origin, node = await swarm.node(), await swarm.node()
    await origin.seed(model)
    seen = await node.fetch(model, origin.source)
    assert model.lies_in(node.folder)
    assert seen.verifier.complete
    assert seen.last.bytes_done == seen.last.bytes_total == model.size
