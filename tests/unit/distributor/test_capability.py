"""The capability of the file server."""

from pathlib import Path

import pytest

from fleetcast.daemons.distributor.capability import kept_capability

pytestmark = pytest.mark.asyncio


async def test_it_stays_the_same_over_restarts_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    first = await kept_capability(tmp_path / "data")

    assert await kept_capability(tmp_path / "data") == first
    assert (tmp_path / "data/.capability").stat().st_mode & 0o777 == 0o600


async def test_one_that_was_damaged_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".capability").write_text("../..")

    assert len(await kept_capability(tmp_path)) == 32
