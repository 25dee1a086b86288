"""What the tests of supervision share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.trainer.supervision.stand import Stand


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    stand = Stand(tmp_path)
    yield stand
    stand.clean()


@pytest.fixture
def small_stand(small_disk: Path) -> Iterator[Stand]:
    stand = Stand(small_disk)
    yield stand
    stand.clean()
