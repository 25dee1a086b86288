"""What all fault tests share."""

import pytest
from tests.system.faults.stage import BOUND_SECONDS

PROMISED_SECONDS = 5.0


@pytest.fixture
def bound(request: pytest.FixtureRequest) -> float:
    """Longest gap of progress allowed: the promise in the long versions, more where two cores run everything."""
    return PROMISED_SECONDS if request.node.get_closest_marker("soak") else BOUND_SECONDS
